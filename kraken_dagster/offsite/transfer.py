"""What the upload of a member works with: the server, the member, and what was begun before."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.backup_reader import Backup, damaged
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.offsite.client import S3
from kraken_dagster.offsite.parts import MemberDigest, Part, Throttled, parts_of
from kraken_dagster.offsite.places import Place


@dataclass(frozen=True)
class BegunUploads:
    """The ids of uploads in parts that are Kraken's own: another program's is left alone.

    `on_begun` is told of key and id of a new one, `on_ended` of the id of one that is no more.
    """

    ids: frozenset[str] = frozenset()
    on_begun: Callable[[str, str], None] = lambda _key, _id: None
    on_ended: Callable[[str], None] = lambda _id: None


@dataclass(frozen=True)
class Transfer:
    """What an upload works with; `begun` are the uploads in parts that Kraken has begun.

    `require` raises where it must not go on; it is asked before each part. `on_bytes` is told of
    what the server has, parts of an earlier upload among it.
    """

    s3: S3
    config: Offsite
    place: Place
    limit: RateLimit
    now: Callable[[], datetime]
    require: Callable[[], None] = lambda: None
    on_bytes: Callable[[int], None] = lambda _: None
    begun: BegunUploads = field(default_factory=BegunUploads)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def body(self, part: Part) -> Any:
        if self.config.mb_per_s is None:
            return part.content
        return Throttled(part.content, self.limit, self._lock)


@dataclass(frozen=True)
class Member:
    """One member on its way; `options` go with the object, like its storage class."""

    transfer: Transfer
    backup: Backup
    path: str
    recorded: FileFact
    part_bytes: int
    options: Mapping[str, Any]

    @property
    def key(self) -> str:
        return self.transfer.place.key(self.path)

    @property
    def target(self) -> dict[str, str]:
        return {"Bucket": self.transfer.place.bucket, "Key": self.key}

    @property
    def has_sha256(self) -> bool:
        return self.transfer.config.checksum == "sha256"

    def parts(self) -> Iterator[Part]:
        """What is to be sent, from the backup's disk.

        Raises:
            BackupUnwritable: it can't be read.
        """
        return parts_of(
            self.backup, self.path, part_bytes=self.part_bytes, with_sha256=self.has_sha256
        )

    @property
    def shown(self) -> str:
        return f"s3://{self.transfer.place.bucket}/{self.key}"

    def require_recorded(self, read: MemberDigest) -> None:
        """
        Raises:
            BackupDamaged: what was read is not what was recorded.
        """
        if not self.recorded.holds(read.fact):
            path = self.backup.path / self.path
            raise damaged(path, self.recorded.in_words(), read.fact.in_words())
