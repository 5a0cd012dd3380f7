"""A digest of a member's bytes beside its MD5, where the configuration asks for one."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple


class DigestKind(StrEnum):
    """SHA-256, or XXH3-128 (https://xxhash.com), which is no cryptographic digest."""

    SHA256 = "sha256"
    XXH3 = "xxh3"

    @property
    def in_words(self) -> str:
        return {"sha256": "SHA-256", "xxh3": "XXH3-128"}[self]


_LENGTHS = {DigestKind.SHA256: 64, DigestKind.XXH3: 32}


class SecondDigest(NamedTuple):
    """`hex` in lower case, big-endian as `sha256sum` and `xxhsum` print it."""

    kind: DigestKind
    hex: str

    def in_words(self) -> str:
        return f"{self.kind.in_words} {self.hex}"

    @classmethod
    def from_record(cls, record: Sequence[Any] | None, md5: str | None) -> "SecondDigest | None":
        """Of `[MD5, kind, hex]`; None where another program has recorded another MD5 since.

        Raises:
            ValueError, TypeError: it is no such record.
        """
        if not record:
            return None
        beside, known, digest = record
        kind = DigestKind(known)
        if not re.fullmatch(f"[0-9a-f]{{{_LENGTHS[kind]}}}", digest):
            raise ValueError(f"no {kind.in_words}: {digest!r}")
        return cls(kind, digest) if md5 is not None and beside == md5 else None

    def to_record(self, md5: str | None) -> list[Any]:
        return [md5, self.kind.value, self.hex]
