"""The digests of a whole file, taken of its bytes as they pass by."""

import hashlib
from typing import TYPE_CHECKING, Protocol

import xxhash

from kraken_dagster.model.files.second_digest import DigestKind, SecondDigest
from kraken_dagster.model.raw_file import FileFact

if TYPE_CHECKING:
    from hashlib import _Hash


class Hasher(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def hasher(kind: DigestKind) -> "_Hash | xxhash.xxh3_128":
    if kind is DigestKind.SHA256:
        return hashlib.sha256(usedforsecurity=False)
    return xxhash.xxh3_128()


class ContentDigests:
    """MD5, and beside it a second digest of the same bytes where one is asked for.

    Two threads may each feed one of the two.
    """

    def __init__(self, kind: DigestKind | None = None) -> None:
        self.kind = kind
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.second = None if kind is None else hasher(kind)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self.md5.update(data)
        if self.second is not None:
            self.second.update(data)

    def copy(self) -> "ContentDigests":
        """One that goes on from here by itself."""
        other = ContentDigests(self.kind)
        other.md5 = self.md5.copy()
        other.second = None if self.second is None else self.second.copy()
        return other

    def fact(self, size: int) -> FileFact:
        """What is recorded of a file of this size in bytes, whose bytes were all fed."""
        second = None
        if self.kind is not None and self.second is not None:
            second = SecondDigest(self.kind, self.second.hexdigest())
        return FileFact(size=size, md5=self.md5.hexdigest(), second=second)
