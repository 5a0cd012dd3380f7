"""Looks after a backup that jobs have read: nothing of it may have changed.

A look costs no reading. Where the members look other than when they were proven, they are read, and
only bytes that differ, or a member that is missing, are damage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.fs.stores.backup_reader import read_all, require_sizes
from kraken_dagster.fs.stores.backup_scan import appearance
from kraken_dagster.fs.stores.read_only import protect_backup
from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import BackupDamaged
from kraken_dagster.model.files.appearance import Appearance
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.refusals import watched
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup, require_unchanged


@dataclass(frozen=True)
class LookedAfter:
    """`damage`: the backup is not what was recorded any more. `note`: what else is to be told."""

    damage: BackupDamaged | None = None
    note: str | None = None


def look_after(services: Services, held: Held, jobs: Sequence[QuantJob]) -> LookedAfter:
    """Whether a backup is as it was, after jobs that may have ended badly.

    Args:
        jobs: those that have ended since the last look.

    Raises:
        StoreAway: nothing is known; it is looked at once the store is back.
        BackupUnwritable, CopyStalled: it can't be read.
    """
    raw_file = held.raw_file
    ran = [job for job in jobs if job.state is not JobState.SKIPPED]
    if not ran or not raw_file.is_backed_up or not raw_file.file_info:
        return LookedAfter()
    whose = ", ".join(job.id for job in ran)
    with opened_backup(services, raw_file) as root:
        before, now = raw_file.backup_seen, seen(services, raw_file, root.path)
        kept = before
        if before is None or not now.is_as(before):
            try:
                _prove(services, held, root)
            except BackupDamaged as error:
                require_unchanged(root)
                return LookedAfter(_after(error, whose))
            # Once more, for the right to write may have been taken from it meanwhile.
            kept = now = seen(services, raw_file, root.path).proven_after(before)
            held.require()
            services.store.retention.proven(raw_file, now=services.now(), seen=now)
    assert kept is not None
    if now.extra_names != (before.extra_names if before is not None else (0, [])):
        scan = kept.model_copy(update={"extra": now.extra, "extra_files": now.extra_files})
        _tell_extra(services, held, scan, whose=whose)
    return LookedAfter(note=_reported(now))


def remember(services: Services, held: Held) -> None:
    """Records how a backup looks before jobs get at it, where that was not done when it was made.

    Where its sizes tell that it is not what was recorded nothing is: it is read after the job.

    Raises:
        StoreAway
    """
    raw_file = held.raw_file
    if raw_file.backup_seen is not None or not raw_file.file_info:
        return
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    with opened_backup(services, raw_file) as root:
        folder = services.backup_folder(raw_file, root.path)
        try:
            bounded(
                lambda: require_sizes(folder, raw_file.file_info),
                timeout_s=stall_s,
                what=folder / raw_file.id,
            )
        except BackupDamaged:
            return
        scan = seen(services, raw_file, root.path)
    held.require()
    services.store.retention.seen(raw_file, scan)
    held.raw_file = raw_file.model_copy(update={"backup_seen": scan})


def seen(services: Services, raw_file: RawFile, root: Path) -> Appearance:
    """How the backup below `root` looks now.

    Raises:
        BackupUnwritable, CopyStalled
    """
    folder, rules = services.backup_folder(raw_file, root), services.rules(raw_file.instrument_id)
    return bounded(
        lambda: appearance(folder, raw_file.id, raw_file.file_info, rules),
        timeout_s=services.instrument(raw_file.instrument_id).copy_stall_s,
        what=folder / raw_file.id,
    )


def _tell_extra(services: Services, held: Held, scan: Appearance, *, whose: str) -> None:
    """Into the file's history, with the jobs that ran; the files themselves are left alone."""
    reported = (
        _reported(scan) or "nothing lies in the backup any more that is no part of the raw file"
    )
    held.raw_file = services.store.raw_files.update(
        held.raw_file,
        {"backup_seen": scan.model_dump()},
        now=services.now(),
        note=f"after {whose}: {reported}",
        run_id=held.run_id,
    )


def _prove(services: Services, held: Held, root: OpenRoot) -> None:
    raw_file = held.raw_file
    folder = services.backup_folder(raw_file, root.path)
    top = raw_file.id if services.rules(raw_file.instrument_id).is_folder else None

    def read(beat: Callable[[int], None], may_go_on: Callable[[], bool]) -> None:
        read_all(folder, raw_file.file_info, on_bytes=beat)
        if may_go_on():
            protect_backup(folder, raw_file.file_info, top, services.backup_group)

    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    watched(held, read, stall_s=stall_s, what=folder / raw_file.id)


def _after(error: BackupDamaged, whose: str) -> BackupDamaged:
    return BackupDamaged(
        f"{error.what}, after {whose} ran on it",
        file=error.file,
        expected=error.expected,
        found=error.found,
        next_step="see what that software does to the files that it reads, and give its user no "
        f"right to write to the backup. Then: {error.next_step}",
    )


def _reported(now: Appearance) -> str | None:
    if not now.extra_files:
        return None
    return (
        f"{now.extra_files} files in the backup are no part of the raw file, and were left alone: "
        f"{', '.join(map(repr, now.extra[:3]))}. Next: find out what wrote them (software that "
        "opens the raw file, mostly), and move them away"
    )
