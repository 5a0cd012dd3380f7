"""An instrument goes out of use: `kraken instrument retire`. What is left of it is closed and
explained; nothing is deleted, and backups stay provable and restorable under its id."""

from dataclasses import dataclass

from kraken_dagster.acquisition.identity import identity_of
from kraken_dagster.model.errors import RenameRefused, StatusConflict
from kraken_dagster.model.files.identity import Identity
from kraken_dagster.model.raw_file import FINAL, RawFile, Status
from kraken_dagster.operations.instruments.rename import require_rest
from kraken_dagster.runtime.services import Services

_OPEN = frozenset(Status) - FINAL


@dataclass(frozen=True)
class RetirePlan:
    """How many files are closed, by the status that they get, and jobs that nobody waits for."""

    instrument_id: str
    files: int
    backups: int
    not_backed_up: tuple[str, ...]
    not_processed: tuple[str, ...]
    open_jobs: int

    def in_words(self) -> list[str]:
        lines = [
            f"{self.instrument_id} is retired: of {self.files} files "
            f"{len(self.not_backed_up) + len(self.not_processed)} are closed; nothing is deleted, "
            f"and {self.backups} backups stay.",
        ]
        if self.not_backed_up:
            lines.append(
                f"{len(self.not_backed_up)} have NO BACKUP, {self.not_backed_up[0]!a} the first: "
                "they get the status `error`, and stay on the instrument's disk."
            )
        if self.not_processed:
            lines.append(
                f"{len(self.not_processed)} were not processed to the end, and are not any more; "
                f"{self.open_jobs} open jobs are given up here, and are not cancelled on a cluster."
            )
        return lines


def plan_retirement(services: Services, instrument_id: str) -> RetirePlan:
    """
    Raises:
        RenameRefused: it can't be done now; nothing has changed.
        StoreUnavailable
    """
    known = services.store.instruments.get(instrument_id) or Identity(id=instrument_id)
    summary = services.store.instruments.summary(instrument_id)
    if not summary["files"] and known.path is None:
        raise RenameRefused(
            "MongoDB has nothing of that instrument",
            file=instrument_id,
            next_step="`kraken status` names those that are not in instruments.yaml.",
        )
    _require_not_configured(services, instrument_id)
    require_rest(services, instrument_id)
    left = services.store.raw_files.in_status(instrument_id, _OPEN)
    return RetirePlan(
        instrument_id,
        files=summary["files"],
        backups=summary["backups"],
        not_backed_up=tuple(item.id for item in left if not item.is_backed_up),
        not_processed=tuple(item.id for item in left if item.is_backed_up),
        open_jobs=summary["open_jobs"],
    )


def retire(services: Services, instrument_id: str, *, by: str) -> RetirePlan:
    """Closes what is left of an instrument; what was begun is ended by the same command.

    Raises:
        RenameRefused: nothing has changed.
        StoreUnavailable
    """
    plan, now = plan_retirement(services, instrument_id), services.now()
    known = services.store.instruments.get(instrument_id)
    if known is None or known.retired_at is None:
        services.store.instruments.set(instrument_id, retired_at=now, retired_by=by)
    for raw_file in services.store.raw_files.in_status(instrument_id, _OPEN):
        _close(services, raw_file, by)
    return plan


def _close(services: Services, raw_file: RawFile, by: str) -> None:
    why = f"the instrument {raw_file.instrument_id} was retired by {by}"
    for job in services.store.jobs.of(raw_file.id):
        if job.is_open:
            reason = f"{why}; the job was not cancelled, and its result is not collected"
            services.store.jobs.give_up(job, reason=reason, now=services.now())
    if raw_file.is_backed_up:
        status = _end_of(raw_file)
        again = " again" if raw_file.asked_again else ""
        reason = f"{why} before it was processed{again}; it is backed up"
    else:
        status = Status.ERROR
        reason = (
            f"{why} before this file had a backup; it stays on that instrument's disk. Next: to "
            "back it up, put the instrument back into instruments.yaml and `kraken retry`"
        )
    fields = {"retry_at": None, "asked_again": None, "output_exists_mode": None}
    try:
        services.store.raw_files.transition(
            raw_file, status, now=services.now(), reason=reason, fields=fields
        )
    except StatusConflict:
        return  # somebody else changed it; `kraken status` goes on counting it


def _end_of(raw_file: RawFile) -> Status:
    if raw_file.asked_again is not None and raw_file.status is Status.QUEUED_FOR_QUANTING:
        return raw_file.asked_again.status  # nothing was begun of what was asked for again
    return Status.QUANTING_FAILED if raw_file.status is Status.QUANTING else Status.DONE_NOT_QUANTED


def accept(services: Services, instrument_id: str, *, by: str) -> list[str]:
    """Takes an instrument as the configuration has it: its type, its folder, in use again.

    Raises:
        RenameRefused: it is not configured, or there is nothing to accept.
        StoreUnavailable
    """
    if instrument_id not in services.config.instruments:
        raise RenameRefused(
            "The instrument is not in instruments.yaml",
            file=instrument_id,
            next_step="name one that is.",
        )
    known = services.store.instruments.get(instrument_id) or Identity(id=instrument_id)
    ours = identity_of(services, instrument_id)
    changes = [
        f"{key}: {getattr(known, key)} -> {value}, accepted by {by}"
        for key, value in ours.items()
        if getattr(known, key) not in (None, value)
    ]
    if known.retired_at is not None:
        changes.append(f"in use again, accepted by {by}")
    services.store.instruments.set(instrument_id, accepted=ours, retired_at=None, retired_by=None)
    return changes or [f"its folder is {ours['path']}, whatever stands in it, accepted by {by}"]


def _require_not_configured(services: Services, instrument_id: str) -> None:
    living = services.store.instances.living(serving=[instrument_id], now=services.now())
    if instrument_id in services.config.all_instruments or living:
        where = f"process {living[0].pid} on {living[0].host}" if living else "instruments.yaml"
        raise RenameRefused(
            "The instrument is in use",
            file=instrument_id,
            found=f"it is served by {where}",
            next_step="take it out of instruments.yaml first; "
            "`kraken status` says when every process has taken the change up.",
        )
