"""A raw file: its record in MongoDB and its statuses.

Source of the fields: the documents of AlphaKraken's collection `raw_file`; `acquisition`,
`attempts`, `lease`, `retry_at`, `history` and what retention needs are our additions.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SkipValidation

from kraken_dagster.model.files.appearance import Appearance
from kraken_dagster.model.files.dates import dated
from kraken_dagster.model.files.marks import SourceLook
from kraken_dagster.model.files.second_digest import DigestKind, SecondDigest
from kraken_dagster.model.offsite import ColdRequest, OffsiteState
from kraken_dagster.model.printable import printable
from kraken_dagster.model.raw_metrics import RawMetricsState
from kraken_dagster.model.retention.refusal import PurgeIntent, Refusal

FALLBACK_PROJECT = "_FALLBACK"
MAX_STATUS_DETAILS = 512


class Status(StrEnum):
    QUEUED_FOR_MONITORING = "queued_for_monitoring"
    MONITORING_ACQUISITION = "monitoring_acquisition"
    MONITORING_DONE = "monitoring_done"
    CHECKSUMMING = "checksumming"
    CHECKSUMMING_DONE = "checksumming_done"
    COPYING = "copying"
    COPYING_DONE = "copying_done"
    COMPUTING_MSQC = "computing_msqc"  # left by older versions of AlphaKraken
    QUEUED_FOR_QUANTING = "queued_for_quanting"
    QUANTING = "quanting"
    DONE = "done"
    DONE_NOT_QUANTED = "done_not_quanted"
    QUANTING_FAILED = "quanting_failed"
    ACQUISITION_FAILED = "acquisition_failed"
    ERROR = "error"
    IGNORED = "ignored"


FINAL = frozenset(
    {
        Status.DONE,
        Status.DONE_NOT_QUANTED,
        Status.QUANTING_FAILED,
        Status.ACQUISITION_FAILED,
        Status.ERROR,
        Status.IGNORED,
    }
)
ENDED = FINAL - {Status.ERROR}  # what an error that is no damage doesn't take from a file
OPEN_ACQUISITION = frozenset({Status.QUEUED_FOR_MONITORING, Status.MONITORING_ACQUISITION})
BACKUP_UNDER_WAY = frozenset({Status.CHECKSUMMING, Status.CHECKSUMMING_DONE, Status.COPYING})

AFTER_BACKUP = frozenset(
    {
        Status.COPYING_DONE,
        Status.COMPUTING_MSQC,
        Status.QUEUED_FOR_QUANTING,
        Status.QUANTING,
        Status.DONE,
        Status.DONE_NOT_QUANTED,
        Status.QUANTING_FAILED,
    }
)


class BackupStatus(StrEnum):
    COPYING_IN_PROGRESS = "copying_in_progress"
    COPYING_DONE = "copying_done"
    COPYING_FAILED = "copying_failed"
    UPLOAD_IN_PROGRESS = "upload_in_progress"
    UPLOAD_DONE = "upload_done"
    UPLOAD_FAILED = "upload_failed"
    SKIPPED = "skipped"


BACKED_UP = frozenset(
    {
        BackupStatus.COPYING_DONE,
        BackupStatus.UPLOAD_IN_PROGRESS,
        BackupStatus.UPLOAD_DONE,
        BackupStatus.UPLOAD_FAILED,
    }
)


class InstrumentFileStatus(StrEnum):
    INITIAL = "initial"
    MOVED = "moved"
    PURGED = "purged"
    RENAMED = "renamed"
    NOT_APPLICABLE = "n/a"


class Step(StrEnum):
    """The steps that a run is requested for."""

    BACKUP = "backup"
    RAW_METRICS = "raw_metrics"
    QUANT = "quant"
    COLLECT = "collect"
    ARCHIVE = "archive"
    PURGE = "purge"
    VERIFY = "verify"
    OFFSITE = "offsite"


class FileFact(BaseModel):
    """What is recorded of one member: size in bytes, MD5 as hex, S3 ETag where there is one, and
    a second digest where that was asked for."""

    model_config = ConfigDict(frozen=True)
    size: int | None
    md5: str | None
    etag: str | None = None
    second: SecondDigest | None = None

    @classmethod
    def from_record(cls, record: Sequence[Any], second: Sequence[Any] | None = None) -> "FileFact":
        """Of a member in `file_info`, and of the same in `file_digests`."""
        size, md5, etag = [*record, None, None, None][:3]  # older records have fewer
        size = None if size is None else int(size)
        return cls(size=size, md5=md5, etag=etag, second=SecondDigest.from_record(second, md5))

    def to_record(self) -> list[Any]:
        record: list[Any] = [None if self.size is None else float(self.size), self.md5]
        return record if self.etag is None else [*record, self.etag]

    @property
    def kind(self) -> DigestKind | None:
        return None if self.second is None else self.second.kind

    def holds(self, found: "FileFact") -> bool:
        """Whether these are the recorded bytes: those that a reading with this `kind` has found."""
        return (self.size, self.md5, self.second) == (
            found.size,
            found.md5,
            None if self.second is None else found.second,
        )

    def differs(self, found: "FileFact") -> bool:
        """Whether a digest speaks against both being the same bytes; one may have no second digest,
        or another kind of it."""
        both = self.second is not None and self.kind is found.kind
        return self.md5 != found.md5 or (both and self.second != found.second)

    def in_words(self) -> str:
        digests = [f"{self.size} bytes", f"MD5 {self.md5}"]
        if self.second is not None:
            digests.append(self.second.in_words())
        return ", ".join(digests)


class Lease(BaseModel):
    """Who works on a file until when. Without a renewal it lapses by itself."""

    model_config = ConfigDict(frozen=True)
    token: str
    run_id: str
    host: str
    step: str
    until: AwareDatetime

    def is_live(self, now: datetime) -> bool:
        return self.until > now


class DecidedSettings(BaseModel):
    """One of the settings that a file is processed with, as it was decided.

    `attempt` is that of its job: what is done again gets another, what succeeded keeps its own.
    `chosen`: a person chose it for this file, whatever its project uses.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str
    version: int
    attempt: int | None = None
    engine: str | None = None
    chosen: bool = False


class AskedAgain(BaseModel):
    """How a file was that had ended, when its jobs were asked for again."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    status: Status
    details: str | None = None
    settings: list[DecidedSettings] = Field(default_factory=list)
    attempt: int | None = None  # the number of its last set of jobs


class RawFile(BaseModel):
    """A document of the collection `raw_file`. Sizes in bytes, dates in UTC.

    A date without a time zone is none that Kraken or AlphaKraken writes, and can't be compared.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: str = Field(alias="_id")
    original_name: str
    instrument_id: str
    status: Status
    collision_flag: str | None = None
    project_id: str | None = None
    status_details: str | None = None
    size: int | None = None
    # A long list stands beside the document, and is read when it is first asked for.
    file_info: SkipValidation[Mapping[str, FileFact]] = Field(default_factory=dict)
    backup_base_path: str | None = None
    # The instrument's id when the file was recorded, if it was renamed since: the backup's folder.
    filed_as: str | None = None
    backup_status: BackupStatus | None = None
    instrument_file_status: InstrumentFileStatus | None = None
    created_at: AwareDatetime
    created_at_: AwareDatetime  # when it was first seen, by this machine's clock
    updated_at_: AwareDatetime
    # What the instrument's disk says (UTC epoch seconds) where the file can't be that old or young.
    created_at_on_disk: float | None = None
    acquisition: dict[str, Any] = Field(default_factory=dict)
    attempts: dict[str, int] = Field(default_factory=dict)
    failures: int = 0
    unsorted_failures: int = 0  # the last ones, of a kind of which nobody knows if time cures it
    retry_at: AwareDatetime | None = None
    lease: Lease | None = None
    quant_settings: list[DecidedSettings] = Field(default_factory=list)
    asked_again: AskedAgain | None = None  # until something of it is begun
    output_exists_mode: str | None = None  # of the request for its jobs, until they are submitted
    history: list[dict[str, Any]] = Field(default_factory=list)
    backed_up_at: AwareDatetime | None = None
    backup_store: str | None = None  # the id of the store that holds its backup
    backup_seen: Appearance | None = None  # how its backup looked when it was last proven
    verified_at: AwareDatetime | None = None  # when every byte of the backup was last proven
    ended_as: Status | None = None  # before its backup was found damaged
    source_look: SourceLook | None = None  # of the source when it was last known to be the backup's
    source_differs_at: AwareDatetime | None = None  # when a look found it written to since
    ended_details: str | None = None  # its status_details then
    gone_at: AwareDatetime | None = None  # when it was found that the instrument has nothing of it
    archive: Refusal | None = None
    purge: Refusal | None = None
    purge_intent: PurgeIntent | None = None
    raw_metrics: RawMetricsState | None = None  # what came of reading the raw file itself
    offsite: OffsiteState | None = None  # the second copy, on an S3 server
    offsite_waits_for: str | None = None  # why no upload of it is begun, where its bucket is unfit
    offsite_cold: ColdRequest | None = None  # what was asked for from cold storage
    s3_upload_path: str | None = None
    unreadable: str | None = None  # the field of a document that can't be read

    @property
    def is_backed_up(self) -> bool:
        if self.backup_status is None:  # AlphaKraken's older documents have but these two
            return bool(self.file_info) and self.status in AFTER_BACKUP
        return self.backup_status in BACKED_UP

    @property
    def dated_at(self) -> datetime:
        """When it was made, as far as that can be: what decides by a file's age goes by this."""
        return dated(self.created_at, first_seen=self.created_at_)

    @property
    def filed_under(self) -> datetime:
        """The date of its month's folder: as recorded, if another program filed it by that."""
        by_another = bool(self.file_info) and self.backed_up_at is None
        return self.created_at if by_another else self.dated_at

    @property
    def filing_id(self) -> str:
        """The folder below the backup store's root that its backup is in, or comes to."""
        return self.filed_as or self.instrument_id

    @property
    def year_month(self) -> str:
        return year_month(self.filed_under)

    def leased(self, now: datetime) -> Lease | None:
        return self.lease if self.lease is not None and self.lease.is_live(now) else None


def year_month(created_at: datetime) -> str:
    """`YYYY_MM` in UTC, the folder of a backup or a fallback result."""
    return created_at.astimezone(UTC).strftime("%Y_%m")


def short_details(text: str) -> str:
    """`text` as it fits into `status_details`: printable, in one line."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_STATUS_DETAILS else line[: MAX_STATUS_DETAILS - 1] + "…"
