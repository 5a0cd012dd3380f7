"""Rules on raw files: what fails, what piles up, and what has no backup."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from kraken_dagster.alerts.rules.rule import ALPHAKRAKEN, Rule, lasted
from kraken_dagster.alerts.snapshot import FailedFile, InstrumentFacts, Snapshot
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.alerts.alert import Audience, Condition, Severity
from kraken_dagster.model.printable import printable
from kraken_dagster.model.raw_file import FINAL, Status

_DETAILS_OF = 3  # files whose reasons are told


def status_pile_up(snapshot: Snapshot, limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        piled = {
            status: count
            for status, count in sorted(item.counts.items())
            if status not in FINAL and count > _allowed(status, limits)
        }
        if piled:
            reported = ", ".join(f"{count} {status}" for status, count in piled.items())
            yield _condition(item, f"files pile up: {reported}")


def _allowed(status: str, limits: Thresholds) -> int:
    return limits.pile_up_quanting if status == Status.QUANTING else limits.pile_up_files


def not_moved(snapshot: Snapshot, limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        if item.not_moved > limits.not_moved_files:
            older = f"older than {limits.not_moved_hours:g} h"
            yield _condition(item, f"{item.not_moved} files {older} were not archived")


def raw_file_error(snapshot: Snapshot, limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        failed = [
            file
            for file in item.failed
            if not file.backup_damaged
            and (file.waits_for_person or file.failures >= limits.error_failures)
        ]
        if failed:
            yield _of_failed(item, f"{_files(len(failed))} failed", failed)


def jobs_failed(snapshot: Snapshot, limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        if len(item.jobs_failed) >= limits.jobs_failed_files:
            what = f"jobs of {_files(len(item.jobs_failed))} failed"
            yield _of_failed(item, what, item.jobs_failed)


def backup_damaged(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        damaged = [file for file in item.failed if file.backup_damaged]
        if damaged:
            what = f"the backup of {_files(len(damaged))} is not what was recorded"
            yield _of_failed(item, what, damaged)


def upload_failed(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        if item.upload_failed:
            yield _condition(
                item,
                f"the upload of {_files(len(item.upload_failed))} failed",
                members=item.upload_failed,
            )


def no_backup(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    allowed = timedelta(hours=limits.no_backup_hours)
    for item in snapshot.instruments:
        late = [file for file in item.without_backup if now - file.at > allowed]
        if late:
            oldest = min(file.at for file in late)
            yield _condition(
                item,
                f"{_files(len(late))} without a backup, the oldest for {lasted(oldest, now)}",
                members=tuple(file.id for file in late),
                since=oldest,
            )


def _of_failed(item: InstrumentFacts, text: str, failed: Sequence[FailedFile]) -> Condition:
    return _condition(
        item,
        text,
        details="\n".join(
            f"{printable(file.id)}: {printable(file.details)}" for file in failed[:_DETAILS_OF]
        ),
        members=tuple(file.id for file in failed),
        since=min(file.at for file in failed),
    )


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _condition(
    item: InstrumentFacts,
    text: str,
    *,
    details: str = "",
    members: tuple[str, ...] = (),
    since: datetime | None = None,
) -> Condition:
    return Condition(
        subject=item.id,
        summary=f"{item.id}: {text}",
        details=details,
        members=members,
        instrument=item.id,
        since=since,
    )


RULES = (
    Rule(
        kind="status_pile_up",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="more files of an instrument are in one status that is not final",
        next_step="`kraken files` says what they wait for.",
        check=status_pile_up,
        thresholds=("pile_up_files", "pile_up_quanting"),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="not_moved",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="more files of an instrument were not archived",
        next_step="`kraken status` says what is in the way; see whether its archiver is on.",
        check=not_moved,
        thresholds=("not_moved_files", "not_moved_hours"),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="raw_file_error",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="a file ended in the status `error`, and waits for a person or failed repeatedly",
        next_step="`kraken show ID` says why; correct it, then `kraken retry ID`.",
        check=raw_file_error,
        thresholds=("error_failures",),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="jobs_failed",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="jobs of files failed, and were not tried again",
        next_step="`kraken show ID` says why; correct it, then `kraken retry ID`.",
        check=jobs_failed,
        thresholds=("jobs_failed_files", "jobs_failed_hours"),
    ),
    Rule(
        kind="backup_damaged",
        severity=Severity.CRITICAL,
        audience=Audience.OPERATIONS,
        condition="a backup is not what was recorded of it",
        next_step="`kraken show ID`; while the instrument still has the file: `kraken retry ID`.",
        check=backup_damaged,
    ),
    Rule(
        kind="upload_failed",
        severity=Severity.WARNING,
        audience=Audience.OPERATIONS,
        condition="the upload of a backup failed",
        next_step="`kraken show ID` says why.",
        check=upload_failed,
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="no_backup",
        severity=Severity.CRITICAL,
        audience=Audience.OPERATIONS,
        condition="a file is known for long and has no backup",
        next_step="`kraken files` says what it waits for.",
        check=no_backup,
        thresholds=("no_backup_hours",),
    ),
)
