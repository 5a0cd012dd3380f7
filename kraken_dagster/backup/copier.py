"""Copies all members of a raw file into the backup: several at once, watched for stalls.

A folder appears under its final name as a whole: its members are copied and proven in a staging
folder beside it, which is renamed at the end. A copy that died leaves that staging folder; the
next one proves what is in it against the source and goes on from there.
"""

import hashlib
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from kraken_dagster.fs.attributes import flush_folder
from kraken_dagster.fs.digests import (
    digest,
    entries_below,
    exists,
    identity,
    is_empty,
    source_errors,
    target_errors,
)
from kraken_dagster.fs.safe_copy import (
    PART_PREFIX,
    Progress,
    Stopped,
    conflict,
    copy_file,
    go_on_or_stop,
    refuse_changed,
    remove_leftovers,
    set_aside,
)
from kraken_dagster.fs.stores.read_only import folders_of, lift, protect
from kraken_dagster.fs.timeouts import bounded, leave_behind
from kraken_dagster.model.errors import (
    BackupUnwritable,
    CopyStalled,
    KrakenError,
    LeaseLost,
    SourceChanged,
    UnsafePath,
)
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.marks import FolderScan
from kraken_dagster.model.files.names import strangers, twins
from kraken_dagster.model.raw_file import FileFact

_PROGRESS_EVERY_S = 10.0
_WIND_UP_S = 10.0
T = TypeVar("T")


@dataclass(frozen=True)
class CopyPlan:
    """What is copied: `members` maps paths below `source_folder` to paths below `target_folder`.

    `target_top` is the raw file's own name in the backup; for a folder all targets are below it.
    `overwrite` moves aside what else stands there. `read_only`: nobody has the right to write to
    what is proven, nor to its folder where the raw file is one. `group`: who may then read it, and
    nobody else.
    """

    source_folder: Path
    target_folder: Path
    members: Mapping[str, str]
    target_top: str
    is_folder: bool
    overwrite: bool = False
    threads: int = 4
    stall_s: float = 600.0
    read_only: bool = False
    group: int | None = None


@dataclass(frozen=True)
class CopyResult:
    """`facts` by path below the target folder; how many members were copied, how many proven.

    `looks` are those of the source's members. `refused` is what the target's file system refused
    and the proof doesn't need, in words.
    """

    facts: Mapping[str, FileFact]
    copied: int
    proven: int
    copied_bytes: int
    seconds: float
    set_aside: tuple[Path, ...] = ()
    refused: tuple[str, ...] = ()
    scans: Mapping[str, FolderScan] = field(default_factory=dict)


def copy_members(
    plan: CopyPlan,
    *,
    list_members: Callable[[], list[str]],
    still_ours: Callable[[], bool],
    on_progress: Callable[[Progress], None] = lambda _: None,
    before_aside: Callable[[], None] = lambda: None,
) -> CopyResult:
    """Makes the backup of a raw file true: every member copied, or proven to be there already.

    Args:
        list_members: looks at the source's members again when all is copied.
        still_ours: whether this process still holds the file's lease.
        before_aside: called before anything is moved aside; raises where it is somebody else's.

    Raises:
        CopyStalled, LeaseLost, and whatever `files.copy_file` raises.
    """
    aside: list[Path] = []
    while True:
        try:
            result = _Copier(plan, still_ours, on_progress).run(list_members)
            return replace(result, set_aside=tuple(aside))
        except _Different as different:
            if not plan.overwrite or len(aside) > len(plan.members):
                raise different.error from None
            before_aside()
            top = plan.target_top if plan.is_folder else different.target
            aside.append(set_aside(plan.target_folder / top))


class _Different(Exception):
    """Something else stands at `target` (below the target folder)."""

    def __init__(self, target: str, error: KrakenError) -> None:
        super().__init__(str(error))
        self.target = target
        self.error = error


class _Copier:
    def __init__(
        self,
        plan: CopyPlan,
        still_ours: Callable[[], bool],
        on_progress: Callable[[Progress], None],
    ) -> None:
        _refuse_our_own_names(plan)
        self.plan = plan
        self.still_ours = still_ours
        self.on_progress = on_progress
        self.stop = threading.Event()
        self.work: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[str, bool, FileFact] | Exception] = (
            queue.SimpleQueue()
        )
        self.before = self._bounded(
            lambda: {
                member: identity(plan.source_folder / member) for member in sorted(plan.members)
            }
        )
        self.progress = Progress(sum(item.size for item in self.before.values()))
        self.final_top = plan.target_folder / plan.target_top
        staged = plan.is_folder and not self._bounded(lambda: self._stands(self.final_top))
        self.staging = _staging_folder(self.final_top) if staged else None
        self.leftovers = False
        self.twins = twins(plan.members.values())

    def run(self, list_members: Callable[[], list[str]]) -> CopyResult:
        self._bounded(self._refuse_other_kind)
        # What stands there is compared before anything is copied: nothing of ours is mixed into
        # what turns out to be somebody else's.
        there = self._bounded(self._standing)
        missing = [pair for pair in self.plan.members.items() if pair not in there]
        with self._writable(missing):
            done = [*self._all(there), *self._all(missing)]
            self._bounded(lambda: self._refuse_changed_members(list_members))
            if self.staging is not None:
                self._bounded(self._publish)
        if self.plan.read_only and self.staging is None:
            self._bounded(lambda: self._protect_in(self.final_top))
        facts = {target: fact for target, _, fact in done}
        copied = [fact for _, was_copied, fact in done if was_copied]
        return CopyResult(
            facts=facts,
            copied=len(copied),
            proven=len(done) - len(copied),
            copied_bytes=sum(fact.size or 0 for fact in copied),
            seconds=time.monotonic() - self.progress.started_at,
            refused=self.progress.refusals.in_words(),
            scans={
                self.plan.members[member]: (seen.size, seen.mtime_ns, seen.ctime_ns)
                for member, seen in self.before.items()
            },
        )

    @contextmanager
    def _writable(self, missing: Sequence[tuple[str, str]]) -> Iterator[None]:
        """Members can be added to a folder that stands, and what dead copies left be removed."""
        lifted: list[Path] = []
        if self.plan.is_folder and (missing or self.staging is not None or self.leftovers):
            lifted = self._bounded(lambda: lift(self.staging or self.final_top))
        try:
            yield
        finally:
            if lifted and self.staging is None:
                with suppress(CopyStalled):  # the next copy puts it back
                    self._bounded(lambda: protect(lifted, self.plan.group))

    def _protect_in(self, top: Path) -> None:
        """`top` is the raw file's folder, or where there is none its main file."""
        members = [self._place(target) for target in self.plan.members.values()]
        protect(members, self.plan.group)
        if self.plan.is_folder:
            protect(folders_of(top, members), self.plan.group)

    def _standing(self) -> list[tuple[str, str]]:
        """The members whose place is taken.

        A folder in the backup that holds more than the members is not this raw file's.
        """
        published = self.staging is None and self.plan.is_folder
        others = self._strangers(self.final_top) if published else []
        if unknown := [name for name in others if not is_debris(name.rpartition("/")[2])]:
            error = conflict(self.final_top, "the source's files only", f"also {unknown[0]}")
            raise _Different(self.plan.target_top, error)
        pairs = self.plan.members.items()
        return [pair for pair in pairs if self._stands(self._place(pair[1]))]

    def _stands(self, path: Path) -> bool:
        with target_errors(path):
            return exists(path)

    def _strangers(self, top: Path) -> list[str]:
        """What is in a folder besides the members, whatever spelling the store has for those."""
        listed = []
        with target_errors(top):
            for path, facts in entries_below(top):
                left = _is_left(path.relative_to(top))
                self.leftovers |= left
                if not left and not stat.S_ISDIR(facts.st_mode):
                    listed.append(path.relative_to(top).as_posix())
        prefix = f"{self.plan.target_top}/"
        expected = (target.removeprefix(prefix) for target in self.plan.members.values())
        return strangers(expected, listed)

    def _all(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, bool, FileFact]]:
        """Each pair copied or proven, several at once."""
        self.stop = threading.Event()
        for pair in pairs:
            self.work.put(pair)
        count = min(self.plan.threads, len(pairs))
        workers = [threading.Thread(target=self._worker, daemon=True) for _ in range(count)]
        for worker in workers:
            worker.start()
        try:
            return self._gather(len(pairs))
        finally:
            self._wind_up(workers)

    def _bounded(self, function: Callable[[], T]) -> T:
        return bounded(function, timeout_s=self.plan.stall_s, what=self.plan.target_top)

    def _refuse_other_kind(self) -> None:
        """Where a folder is wanted and something is there, that must be a folder."""
        if not self.plan.is_folder or self.staging is not None:
            return
        with target_errors(self.final_top):
            if stat.S_ISDIR(os.lstat(self.final_top).st_mode):
                return
        error = conflict(self.final_top, "a folder", "something else")
        raise _Different(self.plan.target_top, error)

    def _wind_up(self, workers: Sequence[threading.Thread]) -> None:
        """When one member fails, the others' parts are gone before anybody is told.

        Bounded: a worker that hangs is left behind, and clears up when it comes back.
        """
        self.stop.set()
        deadline = time.monotonic() + min(_WIND_UP_S, self.plan.stall_s)
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            leave_behind(worker)

    def _goes_on(self) -> bool:
        return not self.stop.is_set()

    def _worker(self) -> None:
        while not self.stop.is_set():
            try:
                member, target = self.work.get_nowait()
            except queue.Empty:
                return
            try:
                self.results.put(self._one(member, target))
            except Exception as error:  # noqa: BLE001 - handed to the waiting thread, raised there
                self.results.put(error)
                return

    def _one(self, member: str, target: str) -> tuple[str, bool, FileFact]:
        source = self.plan.source_folder / member
        place = self._place(target)
        with target_errors(place):
            remove_leftovers(place)
        with target_errors(place):
            free = not exists(place)
        if free:
            fact = copy_file(
                source,
                place,
                progress=self.progress,
                may_go_on=self._goes_on,
                read_only=self.plan.read_only,
                group=self.plan.group,
            )
            return target, True, fact
        proven, difference = self._compare(source, place, self.before[member].size)
        if proven is not None:
            return target, False, proven
        self._refuse_twin(target, place)
        if self.staging is not None:  # our own, from a copy that died before the source changed
            with target_errors(place):
                place.unlink()
            return self._one(member, target)
        raise _Different(target, conflict(place, *difference))

    def _refuse_twin(self, target: str, place: Path) -> None:
        """What stands there may be another member, whose name is the same to this store."""
        others = self.twins.get(target)
        if others and place.name not in os.listdir(place.parent):
            raise UnsafePath(
                "The backup store does not distinguish the names of two files of this raw file",
                file=place,
                found=f"also {others[0]!a}, with other content",
                next_step="rename one of them on the instrument, or use a store that tells them "
                "apart; then `kraken retry`.",
            )

    def _compare(
        self, source: Path, place: Path, size: int
    ) -> tuple[FileFact | None, tuple[str, str]]:
        """The digest if both are the same; else what was expected and found.

        Sizes first: a conflict that stays is met again at every try, and mostly costs no reading.
        """
        with target_errors(place):
            facts = os.lstat(place)
            if not stat.S_ISREG(facts.st_mode):
                return None, ("a plain file", "something else")
            if facts.st_size != size:
                return None, (f"{size} bytes", f"{facts.st_size} bytes")
            there = digest(place, on_bytes=go_on_or_stop(self.progress.touch, self._goes_on))
        with source_errors(source):
            wanted = digest(source, on_bytes=go_on_or_stop(self.progress.add, self._goes_on))
        if there == wanted:
            return wanted, ("", "")
        return None, (f"MD5 {wanted.md5}", f"MD5 {there.md5}")

    def _place(self, target: str) -> Path:
        if self.staging is None:
            return self.plan.target_folder / target
        return self.staging / Path(target).relative_to(self.plan.target_top)

    def _gather(self, count: int) -> list[tuple[str, bool, FileFact]]:
        done: list[tuple[str, bool, FileFact]] = []
        reported = time.monotonic()
        while len(done) < count:
            try:
                result = self.results.get(timeout=0.2)
            except queue.Empty:
                result = None
            if isinstance(result, Stopped):
                continue
            if isinstance(result, Exception):
                raise result
            if result is not None:
                done.append(result)
            if not self.still_ours():
                raise LeaseLost(
                    "Another run has taken this file over while it was copied",
                    file=self.final_top,
                    next_step="nothing: that other run makes the backup.",
                )
            self._refuse_stall()
            if time.monotonic() - reported >= _PROGRESS_EVERY_S:
                reported = time.monotonic()
                self.on_progress(self.progress)
        return done

    def _refuse_stall(self) -> None:
        still = time.monotonic() - self.progress.moved_at
        if still > self.plan.stall_s:
            raise CopyStalled(
                "The copy makes no progress: the share or the backup store hangs",
                file=self.final_top,
                expected=f"a byte within {self.plan.stall_s:.0f} s",
                found=f"{self.progress.done_bytes} of {self.progress.total_bytes} bytes, then "
                f"nothing for {still:.0f} s",
                next_step="check the mounts of the instrument and the backup; tried again by "
                "itself. Nothing partial has a final name.",
            )

    def _refuse_changed_members(self, list_members: Callable[[], list[str]]) -> None:
        """The members copied first may have changed while the last ones were copied."""
        now = list_members()
        if sorted(now) != sorted(self.before):
            raise SourceChanged(
                "Files were added to or removed from the source while it was copied",
                file=self.final_top.name,
                expected=f"{len(self.before)} files",
                found=f"{len(now)}: {sorted(set(now) ^ set(self.before))[:5]} differ",
                next_step="nothing: the copy is made anew once the file stands still.",
            )
        for member, before in self.before.items():
            path = self.plan.source_folder / member
            refuse_changed(path, before, identity(path))

    def _publish(self) -> None:
        """Gives the staging folder its final name, with nothing in it but the members."""
        assert self.staging is not None
        with target_errors(self.staging):
            self._clear_staging(self.staging)
            self._refuse_incomplete()
        if not self.still_ours():
            raise LeaseLost("Another run has taken this file over", file=self.final_top)
        with target_errors(self.final_top):
            if exists(self.final_top):
                raise conflict(self.final_top, "nothing", "something that came to stand there")
            if self.plan.read_only:  # before it has its name; it stays in its parent
                self._protect_in(self.staging)
            self.staging.rename(self.final_top)
            flush_folder(self.final_top.parent)

    def _refuse_incomplete(self) -> None:
        missing = [
            target for target in self.plan.members.values() if not exists(self._place(target))
        ]
        if missing:
            raise BackupUnwritable(
                "What was copied a moment ago is not there",
                file=self.final_top,
                found=f"no {missing[:5]}",
                next_step="find out who removes files from the backup; copied again by itself.",
            )

    def _clear_staging(self, staging: Path) -> None:
        others = {staging / name for name in self._strangers(staging)}
        for path, facts in reversed([*entries_below(staging)]):
            if stat.S_ISDIR(facts.st_mode):
                if is_empty(path):
                    path.rmdir()
            elif path in others or _is_left(path.relative_to(staging)):
                path.unlink()  # left by a copy that died, of a member that is gone


def _refuse_our_own_names(plan: CopyPlan) -> None:
    """A member that is named like a temporary file of ours would be removed as a dead copy's."""
    for member in plan.members:
        if any(part.startswith(PART_PREFIX) for part in Path(member).parts):
            raise UnsafePath(
                "A file in the raw file is named like Kraken's own unfinished copies",
                file=plan.source_folder / member,
                next_step="if a `kraken restore` died there, let it run again; else rename the "
                "file on the instrument.",
            )


def _is_left(path: Path) -> bool:
    """Whether it is a dead copy's."""
    return any(part.startswith(PART_PREFIX) for part in path.parts)


def _staging_folder(final_top: Path) -> Path:
    mark = hashlib.sha256(final_top.name.encode()).hexdigest()[:16]
    return final_top.with_name(f"{PART_PREFIX}{mark}-folder")


def remove_dead_copy(final_top: Path) -> None:
    """Removes all that dead copies left beside a place in the backup; only for who holds the file's
    lease, and where there is nothing (more) to copy.

    Raises:
        OSError
    """
    remove_leftovers(final_top)
    staging = _staging_folder(final_top)
    if staging.is_symlink() or not staging.is_dir():
        return
    lift(staging)
    for path, facts in reversed([*entries_below(staging)]):
        if stat.S_ISDIR(facts.st_mode):
            path.rmdir()
        else:
            path.unlink()
    staging.rmdir()
