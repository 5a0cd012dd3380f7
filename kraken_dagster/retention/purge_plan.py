"""What a purge would delete, and why not the rest; nothing here deletes anything."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kraken_dagster.acquisition.identity import require_settled
from kraken_dagster.config.instruments import InstrumentEntry, PurgeProof
from kraken_dagster.fs.instrument_folder import free_bytes, open_instrument
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    BackupUnwritable,
    CopyStalled,
    FolderError,
    InstrumentInDoubt,
    KrakenError,
    StoreError,
)
from kraken_dagster.model.offsite import why_no_copy
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.retention.rules import GB, Goal, Weighed, select, why_not_purge
from kraken_dagster.offsite.places import content_of
from kraken_dagster.retention.survey import Target, survey
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import require_some_backups


@dataclass(frozen=True)
class PurgeOptions:
    """The options that concern a purge; see `config/schema.py`."""

    remove_files: bool = True
    min_free_space_gb: float = -1
    min_file_age_to_remove_in_days: float = 14
    purge_needs_complete_index: bool = False
    purge_proof: PurgeProof = PurgeProof.LOCAL

    @classmethod
    def of(cls, instrument: InstrumentEntry) -> "PurgeOptions":
        return cls(
            instrument.remove_files,
            instrument.min_free_space_gb,
            instrument.min_file_age_to_remove_in_days,
            instrument.purge_needs_complete_index,
            instrument.purge_proof,
        )

    @property
    def off(self) -> str | None:
        """Why nothing is purged at all."""
        if not self.remove_files:
            return "remove_files is off"
        return "min_free_space_gb is 0 or less" if self.min_free_space_gb <= 0 else None

    def why_not(self, raw_file: RawFile, *, now: datetime) -> str | None:
        """Why a file is not to be purged, by what MongoDB knows of it; None if it may be."""
        reason = why_not_purge(
            raw_file,
            now=now,
            min_age_days=self.min_file_age_to_remove_in_days,
            needs_complete_index=self.purge_needs_complete_index,
        )
        if reason is None and self.needs_offsite:
            lacking = why_no_copy(raw_file.offsite, content_of(raw_file))
            return None if lacking is None else f"it has no copy off-site: {lacking}"
        return reason

    @property
    def needs_offsite(self) -> bool:
        return self.purge_proof is PurgeProof.LOCAL_AND_OFFSITE

    @property
    def wanted_bytes(self) -> int:
        return round(self.min_free_space_gb * GB)


@dataclass(frozen=True)
class ToDelete:
    raw_file_id: str
    created_at: datetime
    size_bytes: int


@dataclass(frozen=True)
class NotDeleted:
    """`damaged`: its backup was just found not to be what was recorded."""

    raw_file_id: str
    reason: str
    damaged: bool = False


@dataclass(frozen=True)
class PurgePlan:
    """What a purge would delete right now, oldest first, if all of it proves to be in the backup;
    and why not each of the rest. Sizes in bytes.

    `obstacle`: why it would end before it deletes anything.
    """

    instrument_id: str
    free_bytes: int
    wanted_bytes: int
    to_delete: tuple[ToDelete, ...]
    kept: tuple[NotDeleted, ...]
    reason: str | None = None
    obstacle: KrakenError | None = None

    @property
    def freed_bytes(self) -> int:
        return sum(item.size_bytes for item in self.to_delete)

    @property
    def enough(self) -> bool:
        return self.free_bytes + self.freed_bytes >= self.wanted_bytes


def target_of(services: Services, raw_file: RawFile, root: Path | None = None) -> Target:
    """`root` is that of the open backup store, where the backup is to be read."""
    return Target(
        raw_file_id=raw_file.id,
        vendor=services.instrument(raw_file.instrument_id).type,
        recorded=raw_file.file_info,
        instrument_folder=services.instrument_folder(raw_file.instrument_id),
        backup_folder=services.backup_folder(raw_file, root),
    )


def measured_free_bytes(services: Services, instrument_id: str) -> int:
    """Free bytes of the instrument's disk.

    Raises:
        FolderError, CopyStalled, InstrumentBusy
    """
    path = services.instrument_folder(instrument_id)

    def measure() -> int:
        with open_instrument(path) as root:
            return free_bytes(root)

    stall_s = services.instrument(instrument_id).copy_stall_s
    return bounded(measure, timeout_s=stall_s, what=path)


def plan(
    services: Services, instrument_id: str, *, now: datetime, options: PurgeOptions | None = None
) -> PurgePlan:
    """A purge without deleting: looks at the disk and reads no file.

    Raises:
        FolderError, CopyStalled: the instrument is away.
    """
    options = options or PurgeOptions.of(services.instrument(instrument_id))
    if options.off:
        return PurgePlan(instrument_id, 0, 0, (), (), options.off)
    free = measured_free_bytes(services, instrument_id)
    goal = Goal(free=free, wanted=options.wanted_bytes)
    kept: list[NotDeleted] = []
    created: dict[str, datetime] = {}
    moved = services.store.retention.moved(instrument_id)

    def weighed() -> Iterator[Weighed]:
        for raw_file in moved:
            candidate = _weigh(services, raw_file, now, options)
            created[raw_file.id] = raw_file.dated_at
            if candidate.problem is not None:
                kept.append(NotDeleted(raw_file.id, candidate.problem))
            yield candidate

    chosen = [
        ToDelete(item.raw_file_id, created[item.raw_file_id], round(item.size))
        for item in select(goal, weighed())
    ]
    for raw_file in moved:  # those that `select` didn't ask for
        reason = _why_not(raw_file, now, options)
        kept.append(NotDeleted(raw_file.id, reason or "it is not needed: enough is free by then"))
    return PurgePlan(
        instrument_id,
        free,
        options.wanted_bytes,
        tuple(chosen),
        tuple(kept),
        obstacle=_obstacle(services, instrument_id),
    )


def _obstacle(services: Services, instrument_id: str) -> KrakenError | None:
    """What a purge asks before its first file, beside the instrument's disk."""
    try:
        require_settled(services, instrument_id)
        require_some_backups(services, instrument_id)
    except (InstrumentInDoubt, BackupUnwritable, CopyStalled) as error:
        return error
    return None


def _weigh(services: Services, raw_file: RawFile, now: datetime, options: PurgeOptions) -> Weighed:
    if reason := _why_not(raw_file, now, options):
        return Weighed(raw_file.id, problem=reason)
    target = target_of(services, raw_file)
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    try:
        found = bounded(lambda: survey(target), timeout_s=stall_s, what=raw_file.id)
    except (FolderError, CopyStalled, StoreError):
        raise
    except KrakenError as error:
        return Weighed(raw_file.id, problem=str(error))
    if found.is_empty:
        return Weighed(raw_file.id, problem="nothing of it is on the instrument any more")
    return Weighed(raw_file.id, size=found.size_bytes)


def _why_not(raw_file: RawFile, now: datetime, options: PurgeOptions) -> str | None:
    """What was refused counts as that until it is looked at again, which a plan doesn't."""
    reason = options.why_not(raw_file, now=now)
    if reason is None and raw_file.purge is not None and raw_file.purge.refused:
        return raw_file.purge.in_words()
    return reason
