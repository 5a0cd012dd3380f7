"""An instrument gets another id: `kraken instrument rename`. No file is touched, on any disk.

Level-triggered: what was begun is recorded under the new id, and each file, job and record is
changed by itself. Whoever dies in between is followed by the same command, which ends it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kraken_dagster.model.errors import RenameRefused
from kraken_dagster.model.files.identity import Identity
from kraken_dagster.runtime.exclusive_runs import archive_of, catchup_of, purge_of
from kraken_dagster.runtime.services import Services

_ID = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class RenamePlan:
    """What a rename changes; `begun`: it was begun before. `both` names have both instruments."""

    old: str
    new: str
    files: int
    unfinished: int
    backups: int
    open_jobs: int
    files_of_new: int
    both: int
    begun: bool

    def in_words(self) -> list[str]:
        lines = [
            f"{self.old} becomes {self.new}: {self.files} files, {self.unfinished} of them in "
            f"work, and {self.open_jobs} open jobs.",
            f"Their {self.backups} backups stay where they are in the backup store; those of new "
            f"files come below {self.new}/.",
        ]
        if self.files_of_new and not self.begun:
            lines.append(
                f"{self.new} has {self.files_of_new} files of its own; {self.both} names are of "
                "both. Renaming back would take them along."
            )
        if self.begun:
            lines.append("It was begun before, and is ended now.")
        return lines


def plan_rename(services: Services, old: str, new: str, *, merge: bool = False) -> RenamePlan:
    """
    Raises:
        RenameRefused: it can't be done now, or is not meant; nothing has changed.
        StoreUnavailable
    """
    _require_another_id(old, new)
    store = services.store.instruments
    summary, theirs = store.summary(old), store.summary(new)["files"]
    identity = store.get(new) or Identity(id=new)
    before = store.get(old) or Identity(id=old)
    begun = identity.renaming_from == old
    goes_on = begun or before.renamed_to == new
    if not summary["files"] and not goes_on:
        raise _no_files(old, store.ids())
    _require_no_other_rename(identity, before, old, new)
    _require_not_served(services, before)
    require_rest(services, old)
    require_rest(services, new)
    if theirs and not (goes_on or merge):
        raise _has_files(old, new, theirs)
    return RenamePlan(
        old=old,
        new=new,
        files=summary["files"],
        unfinished=summary["unfinished"],
        backups=summary["backups"],
        open_jobs=summary["open_jobs"],
        files_of_new=theirs,
        both=store.common_names(old, new) if theirs else 0,
        begun=begun,
    )


def _require_another_id(old: str, new: str) -> None:
    if old == new or not _ID.fullmatch(new):
        raise RenameRefused(
            "An instrument's id has lower-case letters, digits and `_`, and changes by a rename",
            expected="[a-z0-9_]+",
            found=new,
            next_step="name another id.",
        )


def _no_files(old: str, known: Sequence[str]) -> RenameRefused:
    return RenameRefused(
        "MongoDB has no file of that instrument",
        file=old,
        found=f"files of {', '.join(known) or 'none'}",
        next_step="`kraken status` names those that are not in instruments.yaml.",
    )


def _has_files(old: str, new: str, files: int) -> RenameRefused:
    return RenameRefused(
        f"{new} has {files} files already, and two instruments' files would become one's",
        file=new,
        next_step=f"`kraken instrument rename {old} {new} --merge` if they are the same "
        "instrument; else choose another id.",
    )


def rename(services: Services, old: str, new: str, *, by: str, merge: bool = False) -> RenamePlan:
    """Gives the files, jobs and identity of one id to another.

    Raises:
        RenameRefused: nothing has changed; or some files are held meanwhile, and stay.
        StoreUnavailable
    """
    plan = plan_rename(services, old, new, merge=merge)
    store, now = services.store.instruments, services.now()
    before = store.get(old) or Identity(id=old)
    # First, so that the new id's watcher registers nothing before all of its files are known.
    store.set(new, renaming_from=old)
    note = f"the instrument {old} was renamed to {new} by {by}"
    store.refile(old, new, now=now, note=note)
    store.refile_jobs(old, new)
    services.store.quality.refile(old, new)
    if store.has_files(old):
        raise RenameRefused(
            "Some files of the instrument are being worked on, and keep their id for now",
            file=old,
            found=f"{store.summary(old)['files']} files",
            next_step=f"`kraken instrument rename {old} {new}` once more, in a minute or two.",
        )
    if before.renamed_to != new:  # what is recorded of it goes along
        store.set(
            new, type=before.type, path=before.path, retired_at=None, retired_by=None, accepted=None
        )
    store.set(old, renamed_to=new, accepted=None, retired_at=None, retired_by=None)
    store.set(new, renaming_from=None, renamed_to=None)
    return plan


def _require_no_other_rename(identity: Identity, before: Identity, old: str, new: str) -> None:
    for item, expected in ((identity, old), (before, None)):
        if item.renaming_from not in (None, expected):
            raise RenameRefused(
                "Another rename was begun and has not ended",
                file=item.id,
                found=f"{item.renaming_from} is becoming {item.id}",
                next_step=f"`kraken instrument rename {item.renaming_from} {item.id}` ends it, and "
                f"then `kraken instrument rename {old} {new}`.",
            )


def _require_not_served(services: Services, before: Identity) -> None:
    """Who serves an instrument registers its files under its id while they get another.

    One that is configured with another folder than its own has been waiting for this.
    """
    old = before.id
    configured = old in services.config.instruments
    waits = configured and before.path not in (None, str(services.instrument_folder(old)))
    if configured and not waits:
        raise RenameRefused(
            "The instrument is in instruments.yaml under its old id",
            file=old,
            next_step="change its id there first; "
            "`kraken status` says when every process has taken it up.",
        )
    if waits:
        return
    for other in services.store.instances.living(serving=[old], now=services.now()):
        raise RenameRefused(
            "A Kraken that runs still serves the instrument under its old id",
            file=old,
            found=f"process {other.pid} on {other.host}",
            next_step="`kraken reload`, or restart it; "
            "`kraken status` says when every process has taken the change up.",
        )


def require_rest(services: Services, instrument_id: str) -> None:
    """
    Raises:
        RenameRefused: a run works on one of its files, or for all of it.
    """
    now = services.now()
    held = services.store.instruments.leased(instrument_id, now)
    found = [f"{item.id!a} by run {item.lease.run_id}" for item in held if item.lease is not None]
    for name in (archive_of, purge_of, catchup_of):
        lease = services.store.exclusive_runs.get(name(instrument_id)).held(now)
        if lease is not None:
            found.append(f"{name(instrument_id)} by run {lease.run_id}")
    if found:
        raise RenameRefused(
            "Files of the instrument are being worked on",
            file=instrument_id,
            expected="no run at work on it",
            found=f"{len(found)}: {', '.join(found[:3])}",
            next_step="wait until they have ended, or end them in Dagit; a dead run's lease "
            "lapses by itself.",
        )
