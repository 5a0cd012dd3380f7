"""Copies all members of a raw file into the backup: several at once, watched for stalls.

A folder appears under its final name as a whole: its members are copied and proven in a staging
folder beside it, which is renamed at the end. A copy that died leaves that staging folder; the
next one proves what is in it against the source and goes on from there.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from kraken_dagster.backup.copying.plan import CopyPlan, CopyResult, refuse_our_own_names
from kraken_dagster.backup.copying.staging import Places, stands
from kraken_dagster.backup.copying.workers import Done, Watch, Workers
from kraken_dagster.fs.copying.copy_file import copy_file
from kraken_dagster.fs.copying.part_files import conflict, remove_leftovers, set_aside
from kraken_dagster.fs.copying.progress import Progress, go_on_or_stop
from kraken_dagster.fs.copying.source import refuse_changed
from kraken_dagster.fs.digests import digest, exists, identity, source_errors, target_errors
from kraken_dagster.fs.io_priority import io_priority
from kraken_dagster.fs.stores.read_only import protect
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    CopyStalled,
    KrakenError,
    LeaseLost,
    SourceChanged,
    UnsafePath,
)
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.names import twins
from kraken_dagster.model.raw_file import FileFact

T = TypeVar("T")


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
        before_aside: called before anything is set aside; raises where it is somebody else's.

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
        refuse_our_own_names(plan)
        self.plan = plan
        self.still_ours = still_ours
        self.before = self._bounded(
            lambda: {
                member: identity(plan.source_folder / member) for member in sorted(plan.members)
            }
        )
        self.progress = Progress(
            sum(item.size for item in self.before.values()), rate_limit=plan.rate_limit
        )
        self.places = self._bounded(lambda: Places(plan))
        self.twins = twins(plan.members.values())
        self.watch = Watch(
            self.places.final_top, plan.stall_s, self.progress, still_ours, on_progress
        )

    def run(self, list_members: Callable[[], list[str]]) -> CopyResult:
        self._bounded(self._refuse_other_kind)
        # What stands there is compared before anything is copied: nothing of ours is mixed into
        # what turns out to be somebody else's.
        there = self._bounded(self._standing)
        missing = [pair for pair in self.plan.members.items() if pair not in there]
        with self._writable(missing):
            done = [*self._all(there), *self._all(missing)]
            self._bounded(lambda: self._refuse_changed_members(list_members))
            if self.places.staging is not None:
                self._bounded(self._publish)
        if self.plan.read_only and self.places.staging is None:
            self._bounded(lambda: self.places.protect(self.places.final_top))
        return self._result(done)

    def _result(self, done: Sequence[Done]) -> CopyResult:
        copied = [item.fact for item in done if item.copied]
        return CopyResult(
            facts={item.target: item.fact for item in done},
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
        lifted = self._bounded(lambda: self.places.lifted(missing))
        try:
            yield
        finally:
            if lifted:
                with suppress(CopyStalled):  # the next copy puts it back
                    self._bounded(lambda: protect(lifted, self.plan.group))

    def _publish(self) -> None:
        self.places.clear()
        if not self.still_ours():
            raise LeaseLost("Another run has taken this file over", file=self.places.final_top)
        self.places.publish()

    def _all(self, pairs: Sequence[tuple[str, str]]) -> list[Done]:
        """Each pair copied or proven, several at once; large ones first, as they take longest."""
        workers = Workers(
            lambda member, target: self._gently(member, target, workers.goes_on),
            self.plan.threads,
            self.watch,
        )
        return workers.run(sorted(pairs, key=lambda pair: -self.before[pair[0]].size))

    def _gently(self, member: str, target: str, goes_on: Callable[[], bool]) -> Done:
        """In the worker's thread, whose priority the threads of a large file's copy take over."""
        with io_priority(self.plan.ionice):
            return self._one(member, target, goes_on)

    def _standing(self) -> list[tuple[str, str]]:
        """The members whose place is taken.

        A folder in the backup that holds more than the members is not this raw file's.
        """
        published = self.places.staging is None and self.plan.is_folder
        others = self.places.strangers(self.places.final_top) if published else []
        if unknown := [name for name in others if not is_debris(name.rpartition("/")[2])]:
            error = conflict(self.places.final_top, "the source's files only", f"also {unknown[0]}")
            raise _Different(self.plan.target_top, error)
        pairs = self.plan.members.items()
        return [pair for pair in pairs if stands(self.places.of(pair[1]))]

    def _bounded(self, function: Callable[[], T]) -> T:
        return bounded(function, timeout_s=self.plan.stall_s, what=self.plan.target_top)

    def _refuse_other_kind(self) -> None:
        """Where a folder is wanted and something is there, that must be a folder."""
        if not self.plan.is_folder or self.places.staging is not None:
            return
        with target_errors(self.places.final_top):
            if stat.S_ISDIR(os.lstat(self.places.final_top).st_mode):
                return
        error = conflict(self.places.final_top, "a folder", "something else")
        raise _Different(self.plan.target_top, error)

    def _one(self, member: str, target: str, goes_on: Callable[[], bool]) -> Done:
        source = self.plan.source_folder / member
        place = self.places.of(target)
        with target_errors(place):
            free = not exists(place)
            if not free:
                remove_leftovers(place)
        if free:
            fact = copy_file(
                source,
                place,
                progress=self.progress,
                may_go_on=goes_on,
                read_only=self.plan.read_only,
                group=self.plan.group,
                attempt=self.plan.attempt,
                second=self.plan.digests.get(target),
                flush_name=self.places.staging is None,  # else all at once, before it is published
            )
            return Done(target, True, fact)
        proven, difference = self._compare(member, target, goes_on)
        if proven is not None:
            return Done(target, False, proven)
        self._refuse_twin(target, place)
        if self.places.staging is not None:  # our own, of a source that changed since
            with target_errors(place):
                place.unlink()
            return self._one(member, target, goes_on)
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
        self, member: str, target: str, goes_on: Callable[[], bool]
    ) -> tuple[FileFact | None, tuple[str, str]]:
        """The digests if both are the same; else what was expected and found.

        Sizes first: a conflict that stays is met again at every try, and mostly costs no reading.
        """
        source, place = self.plan.source_folder / member, self.places.of(target)
        size, second = self.before[member].size, self.plan.digests.get(target)
        with target_errors(place):
            facts = os.lstat(place)
            if not stat.S_ISREG(facts.st_mode):
                return None, ("a plain file", "something else")
            if facts.st_size != size:
                return None, (f"{size} bytes", f"{facts.st_size} bytes")
            touch = go_on_or_stop(self.progress.touch, goes_on)
            there = digest(place, second=second, on_bytes=touch)
        with source_errors(source):
            wanted = digest(source, second=second, on_bytes=self._read(goes_on))
        if there == wanted:
            return wanted, ("", "")
        return None, (wanted.in_words(), there.in_words())

    def _read(self, goes_on: Callable[[], bool]) -> Callable[[int], None]:
        def count(size: int) -> None:
            self.progress.add(size)
            self.progress.wait_after(size, goes_on)

        return go_on_or_stop(count, goes_on)

    def _refuse_changed_members(self, list_members: Callable[[], list[str]]) -> None:
        """The members copied first may have changed while the last ones were copied."""
        now = list_members()
        if sorted(now) != sorted(self.before):
            raise SourceChanged(
                "Files were added to or removed from the source while it was copied",
                file=self.places.final_top.name,
                expected=f"{len(self.before)} files",
                found=f"{len(now)}: {sorted(set(now) ^ set(self.before))[:5]} differ",
                next_step="nothing: the copy is made anew once the file stands still.",
            )
        for member, before in self.before.items():
            path = self.plan.source_folder / member
            refuse_changed(path, before, identity(path))
