"""The second copy of a raw file's backup on an S3 server: names, parts, ETags, and its state.

Source of the names, the ETags and the words of the status: AlphaKraken's documents and buckets.
Part limits: Amazon S3's "multipart upload limits", which other servers keep to.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from kraken_dagster.model.errors import ConfigError, FileSystemLimit
from kraken_dagster.model.files.dates import local

MIB = 1024 * 1024
MOST_PARTS = 10_000
MOST_BYTES = 5 * 1024**4  # of one object
_LONGEST_BUCKET = 63
_ETAG_SEPARATOR = "__"


class OffsiteStatus(StrEnum):
    IN_PROGRESS = "upload_in_progress"
    DONE = "upload_done"
    FAILED = "upload_failed"


class OffsiteState(BaseModel):
    """What is known of the copy off-site, as the raw file's document has it under `offsite`.

    It says nothing of the local backup. `content` is the MD5 of the manifest of what was
    uploaded: where the record says something else by now, the copy is one of another content.

    Args:
        files, bytes: of the whole copy; 0 until it is done.
        seen_at: when the server last said that every object is there, with its size and ETag.
        verified_at: when every byte was last read back and compared.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    status: OffsiteStatus
    at: AwareDatetime
    bucket: str | None = None
    prefix: str = ""
    content: str | None = None
    files: int = 0
    bytes: int = 0
    problem: str | None = None
    failures: int = 0
    retry_at: AwareDatetime | None = None
    seen_at: AwareDatetime | None = None
    verified_at: AwareDatetime | None = None

    @property
    def path(self) -> str | None:
        return None if self.bucket is None else f"s3://{self.bucket}/{self.prefix}"

    def has(self, content: str) -> bool:
        """Whether the copy is done, and one of this content."""
        return self.status is OffsiteStatus.DONE and self.content == content

    @property
    def in_words(self) -> str:
        if self.problem is not None:
            when = "" if self.retry_at is None else f", tried again at {local(self.retry_at)}"
            return f"{self.status}{when}: {self.problem}"
        if self.status is OffsiteStatus.DONE:
            return f"{self.files} files, {self.bytes} bytes at {self.path}"
        return str(self.status)


def why_no_copy(state: OffsiteState | None, content: str | None = None) -> str | None:
    """Why there is no copy off-site, of this content if that is given; None if there is one."""
    if state is None:
        return "it was not uploaded yet"
    if state.status is not OffsiteStatus.DONE:
        return state.in_words
    if content is not None and state.content != content:
        return "what was uploaded is not what is recorded now"
    return None


class BegunUpload(BaseModel):
    """An upload in parts that Kraken began on the server, and has not ended yet."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    id: str = Field(alias="_id")
    raw_file: str
    bucket: str
    key: str
    begun_at: AwareDatetime


class ColdRequest(BaseModel):
    """That members were asked for which lie in a cold storage class; `ready` of them can be read.

    Args:
        expected_at: when the last of them can be read, by what the provider says of its class.
        until: when the first copy ends that can be read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    asked_at: AwareDatetime
    expected_at: AwareDatetime
    members: int
    ready: int
    storage_class: str
    tier: str
    until: AwareDatetime | None = None

    @property
    def in_words(self) -> str:
        until = "" if self.until is None else f"; those until {local(self.until)}"
        return (
            f"{self.members} files lie in {self.storage_class}, {self.ready} of them can be read "
            f"now{until}. Asked for ({self.tier}) at {local(self.asked_at)}; expected by "
            f"{local(self.expected_at)}"
        )


class StoredObject(BaseModel):
    """One member of a raw file as it was uploaded; sizes in bytes.

    Args:
        etag: as the server told it. It is made of MD5s unless the server encrypts with keys of
            its customers' or of a key service (`is_opaque`).
        part_md5s: of each part, as hex; one part was sent without multipart.
        sha256: as the server keeps it, where it was asked to: base64, of the content or, with
            `-<parts>`, of the digests of its parts.
        lock_until: before which the server deletes this version for nobody.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    path: str
    bucket: str
    key: str
    version_id: str
    etag: str
    size: int
    md5: str
    part_bytes: int
    part_md5s: tuple[str, ...] = ()
    is_opaque: bool = False
    storage_class: str | None = None
    sha256: str | None = None
    lock_until: AwareDatetime | None = None
    uploaded_at: AwareDatetime

    @property
    def version(self) -> dict[str, str]:
        """What names it in a request."""
        return {"Bucket": self.bucket, "Key": self.key, "VersionId": self.version_id}

    @property
    def shown(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def etag_for_record(self) -> str:
        """What AlphaKraken keeps as the third element of `file_info`."""
        return recorded_etag(self.etag, part_mb=self.part_bytes // MIB)


def bucket_name(prefix: str, project_id: str) -> str:
    """The bucket of a project's files.

    Raises:
        ConfigError: S3 allows no such name.
    """
    name = f"{prefix}-{project_id}".lower()
    for char in "_. ":
        name = name.replace(char, "-")
    if len(name) > _LONGEST_BUCKET:
        raise ConfigError(
            f"Bucket name {name!r} exceeds {_LONGEST_BUCKET} characters",
            next_step="give the project a bucket of its own under `offsite.projects`, or take a "
            "shorter `offsite.bucket_prefix`.",
        )
    return name


def key_prefix(
    raw_file_id: str, *, instrument_id: str, year_month: str, has_project: bool, is_grouped: bool
) -> str:
    """What stands before a member's path in its key.

    Args:
        has_project: the bucket is its project's own; in another one the instrument and the month
            keep the keys apart.
        is_grouped: the raw file has several members side by side, and no folder of its own.
    """
    place = "" if has_project else f"{instrument_id}/{year_month}/"
    return f"{place}{raw_file_id}/" if is_grouped else place


def split_path(path: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`."""
    bucket, _, prefix = path.removeprefix("s3://").partition("/")
    return bucket, prefix


def etag_of(parts: Sequence[bytes]) -> str:
    """The ETag of an object that was sent in these parts, by the MD5 digest (16 bytes) of each.

    One part is sent without multipart, and none is an empty object.
    """
    if not parts:
        return hashlib.md5(b"", usedforsecurity=False).hexdigest()
    if len(parts) == 1:
        return parts[0].hex()
    whole = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return f"{whole}-{len(parts)}"


def sha256_of(parts: Sequence[bytes]) -> str:
    """What a server keeps as the SHA-256 of an object that was sent in these parts.

    By the SHA-256 digest (32 bytes) of each; in base64. Source: Amazon S3's "composite checksums".
    """
    if not parts:
        return base64.b64encode(hashlib.sha256(b"").digest()).decode()
    if len(parts) == 1:
        return base64.b64encode(parts[0]).decode()
    whole = hashlib.sha256(b"".join(parts)).digest()
    return f"{base64.b64encode(whole).decode()}-{len(parts)}"


def recorded_etag(etag: str, *, part_mb: int) -> str:
    """An ETag with the size of its parts in MiB, without which nobody can compute it again."""
    return f"{etag}{_ETAG_SEPARATOR}{part_mb}"


def part_size(size_bytes: int, *, least_mb: int) -> int:
    """Bytes of a part: whole MiB, and so many that an object has no more than 10,000 parts.

    Raises:
        FileSystemLimit: no object can be so large.
    """
    if size_bytes > MOST_BYTES:
        raise FileSystemLimit(
            "The file is larger than an object on S3 can be",
            expected=f"{MOST_BYTES} bytes at most",
            found=f"{size_bytes} bytes",
            next_step="keep a second copy of it by other means.",
        )
    needed = -(-size_bytes // MOST_PARTS)
    return max(least_mb, -(-needed // MIB)) * MIB


def is_within(hours: tuple[time, time] | None, now: datetime) -> bool:
    """Whether uploads are allowed at this local time; hours may go past midnight."""
    if hours is None:
        return True
    begin, end = hours
    at = now.time().replace(tzinfo=None)
    return begin <= at < end if begin < end else at >= begin or at < end


def next_begin(hours: tuple[time, time], now: datetime) -> datetime:
    """When the hours begin the next time, by the same clock as `now`."""
    begin = datetime.combine(now.date(), hours[0], tzinfo=now.tzinfo)
    return begin if begin > now else begin + timedelta(days=1)
