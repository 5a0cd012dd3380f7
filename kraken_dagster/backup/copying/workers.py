"""Members side by side: a few threads take them one after the other, and one waits and watches."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from kraken_dagster.fs.copying.progress import Progress, Stopped
from kraken_dagster.fs.timeouts import leave_behind
from kraken_dagster.model.errors import CopyStalled, LeaseLost
from kraken_dagster.model.raw_file import FileFact

_PROGRESS_EVERY_S = 10.0
_WIND_UP_S = 10.0


class Done(NamedTuple):
    """`copied` in place of proven to be there already."""

    target: str
    copied: bool
    fact: FileFact


class Watch(NamedTuple):
    """What the waiting thread looks at. `file` is for messages."""

    file: Path
    stall_s: float
    progress: Progress
    still_ours: Callable[[], bool]
    on_progress: Callable[[Progress], None]


class Workers:
    """Threads that call `one` for each pair of a member and its target."""

    def __init__(self, one: Callable[[str, str], Done], threads: int, watch: Watch) -> None:
        self._one = one
        self._threads = threads
        self._watch = watch
        self._stop = threading.Event()
        self._work: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Done | BaseException] = queue.SimpleQueue()

    def goes_on(self) -> bool:
        return not self._stop.is_set()

    def run(self, pairs: Sequence[tuple[str, str]]) -> list[Done]:
        """What `one` gave for each pair.

        Raises:
            CopyStalled, LeaseLost, and whatever `one` raises.
        """
        for pair in pairs:
            self._work.put(pair)
        count = min(self._threads, len(pairs))
        workers = [threading.Thread(target=self._worker, daemon=True) for _ in range(count)]
        for worker in workers:
            worker.start()
        try:
            return self._gather(len(pairs))
        finally:
            self._wind_up(workers)

    def _wind_up(self, workers: Sequence[threading.Thread]) -> None:
        """When one member fails, the others' parts are gone before anybody is told.

        Bounded: a worker that hangs is left behind, and clears up when it comes back.
        """
        self._stop.set()
        deadline = time.monotonic() + min(_WIND_UP_S, self._watch.stall_s)
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            leave_behind(worker)

    def _worker(self) -> None:
        while self.goes_on():
            try:
                member, target = self._work.get_nowait()
            except queue.Empty:
                return
            try:
                self._results.put(self._one(member, target))
            except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, raised there
                self._results.put(error)
                return

    def _gather(self, count: int) -> list[Done]:
        done: list[Done] = []
        watch = self._watch
        reported = time.monotonic()
        while len(done) < count:
            try:
                result = self._results.get(timeout=0.2)
            except queue.Empty:
                result = None
            if isinstance(result, Stopped):
                continue
            if isinstance(result, BaseException):
                raise result
            if result is not None:
                done.append(result)
            if not watch.still_ours():
                raise LeaseLost(
                    "Another run has taken this file over while it was copied",
                    file=watch.file,
                    next_step="nothing: that other run makes the backup.",
                )
            self._refuse_stall()
            if time.monotonic() - reported >= _PROGRESS_EVERY_S:
                reported = time.monotonic()
                watch.on_progress(watch.progress)
        return done

    def _refuse_stall(self) -> None:
        progress, stall_s = self._watch.progress, self._watch.stall_s
        still = time.monotonic() - progress.moved_at
        if still > stall_s:
            raise CopyStalled(
                "The copy makes no progress: the share or the backup store hangs",
                file=self._watch.file,
                expected=f"a byte within {stall_s:.0f} s",
                found=f"{progress.done_bytes} of {progress.total_bytes} bytes, then "
                f"nothing for {still:.0f} s",
                next_step="check the mounts of the instrument and the backup; tried again by "
                "itself. Nothing partial has a final name.",
            )
