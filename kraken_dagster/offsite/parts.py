"""One member of a backup as parts: read once, digested as a whole and by part, sent with MD5s."""

import base64
import hashlib
import io
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from kraken_dagster.fs.content_digests import ContentDigests
from kraken_dagster.fs.copying.uncached import open_uncached, read_into
from kraken_dagster.fs.digests import target_errors
from kraken_dagster.fs.dir_handles import one_name
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.backup_reader import Backup
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.offsite import MIB
from kraken_dagster.model.raw_file import FileFact


@dataclass(frozen=True)
class Part:
    """`number` counts from 1, as S3's do; `sha256` is there where it was asked for."""

    number: int
    content: bytearray
    md5: bytes
    sha256: bytes | None = None

    @property
    def checksums(self) -> dict[str, str]:
        """What the server compares the content with, as boto3 takes it."""
        named = {"ContentMD5": self.md5, "ChecksumSHA256": self.sha256}
        return {
            name: base64.b64encode(digest).decode()
            for name, digest in named.items()
            if digest is not None
        }


@dataclass
class MemberDigest:
    """Of what was read so far: the digests of the whole, and of each part.

    `kind`: which digest of the whole is taken beside its MD5.
    """

    kind: DigestKind | None = None
    size: int = 0
    parts: list[bytes] = field(default_factory=list)
    sha256s: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._whole = ContentDigests(self.kind)

    @property
    def md5(self) -> str:
        return self._whole.md5.hexdigest()

    @property
    def fact(self) -> FileFact:
        return self._whole.fact(self.size)

    def take(self, part: Part) -> None:
        self._whole.update(part.content)
        self.size += len(part.content)
        self.parts.append(part.md5)
        if part.sha256 is not None:
            self.sha256s.append(part.sha256)


def parts_of(
    backup: Backup, path: str, *, part_bytes: int, with_sha256: bool = False
) -> Iterator[Part]:
    """The parts of one member of a backup, from its disk; none of an empty one.

    Raises:
        BackupUnwritable: it can't be read.
    """
    parent, _, name = path.rpartition("/")
    number = 0
    with _opened(backup, parent, name, path) as handle:
        while True:
            with target_errors(backup.path / path):
                content = _read(handle, part_bytes)
            if not content:
                return
            number += 1
            md5 = hashlib.md5(content, usedforsecurity=False).digest()
            sha256 = hashlib.sha256(content).digest() if with_sha256 else None
            yield Part(number, content, md5, sha256)


@contextmanager
def _opened(backup: Backup, parent: str, name: str, path: str) -> Iterator[int]:
    with target_errors(backup.path / path), backup.folder.below(parent) as folder:
        handle = open_uncached(one_name(name), dir_fd=folder.handle)
    try:
        yield handle
    finally:
        os.close(handle)


def _read(handle: int, count: int) -> bytearray:
    """The next `count` bytes, fewer at the end."""
    content = bytearray()
    with mmap.mmap(-1, MIB) as buffer, memoryview(buffer) as view:
        while len(content) < count:
            with view[: min(MIB, count - len(content))] as room:
                found = read_into(handle, room)
                if not found:
                    break
                content += room[:found]
    return content


class Throttled(io.BytesIO):
    """A part's content, read as fast as a bound allows."""

    def __init__(self, content: bytearray, limit: RateLimit, lock: threading.Lock) -> None:
        super().__init__(content)
        self._limit, self._lock = limit, lock

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        with self._lock:
            self._limit.took(len(found))
        return found


@dataclass
class Sender:
    """Sends parts by a few threads, so that one is read while others are on their way."""

    threads: int
    _on_the_way: "deque[Future[None]]" = field(default_factory=deque)
    _executor: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._executor = ThreadPoolExecutor(self.threads)

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        """What is on its way ends first: the server would go on with it all the same."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def send(self, function: Callable[[], None]) -> None:
        """Begins it, once fewer than `threads` are on their way; raises what went wrong with
        another."""
        while len(self._on_the_way) >= self.threads:
            self._on_the_way.popleft().result()
        self._on_the_way.append(self._executor.submit(function))

    def finish(self) -> None:
        """Waits for all; raises what went wrong with one."""
        while self._on_the_way:
            self._on_the_way.popleft().result()
