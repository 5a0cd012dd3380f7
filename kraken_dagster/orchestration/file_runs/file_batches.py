"""One asset's step on the files of a run, be it one or thousands: the only way to run a step.

Each file's partition gets an event of its own. A file that fails marks its own partition, and the
steps after this one go on with the others; the run fails at its end, with every failed file.
"""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import dagster as dg

from kraken_dagster.model.errors import OnAnotherStore, StoreAway, StoreUnavailable
from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.orchestration.dagster_internals import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION,
    assets_are_externally_managed,
)
from kraken_dagster.orchestration.event_log import Event, Origin, Planned, report
from kraken_dagster.orchestration.failures import NothingToDo, dagster_errors, failure_of_many
from kraken_dagster.orchestration.file_runs.interruption import reporting_what_is_left
from kraken_dagster.orchestration.file_runs.its_files import files_of
from kraken_dagster.orchestration.file_runs.outcomes import Check, Done, Work, had_ended
from kraken_dagster.orchestration.file_runs.planned import (
    FAILED_BEFORE,
    from_here_on,
    is_followed,
    others_report,
    reported_before,
)
from kraken_dagster.orchestration.metadata import page_metadata, text
from kraken_dagster.runtime.ending import Ending
from kraken_dagster.runtime.heartbeats import giving_life_signs
from kraken_dagster.runtime.services import Services

Events = Iterator[dg.MaterializeResult]

_AT_ONCE = 500  # events that are written together
_LONGEST_WAIT_S = 3.0
_TELL_EVERY = 500
_SHOWN = 20
_NOT_BEGUN = (
    "not begun: MongoDB could not be reached, or a store is away, as another file of this run "
    "tells. Next: see that it is there; the file is taken up again."
)
# The one way to let the next step begin without an event for every partition of the run: Dagster
# writes none for an output that carries this mark.
_NO_EVENT = SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION


@dataclass
class _Batch:
    """One step of a run on many files, or on one; `planned`: Dagster planned every partition."""

    context: dg.AssetExecutionContext
    key: dg.AssetKey
    total: int
    origin: Origin
    planned: bool
    page_url: object | None = None
    waiting: list[Event] = field(default_factory=list)
    written_at: float = field(default_factory=time.monotonic)
    ended: int = 0
    became: dict[str, str] = field(default_factory=dict)  # of each file, a word of `counted`
    materialised: int = 0
    idle: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, dg.Failure]] = field(default_factory=list)
    not_begun: list[tuple[str, dg.Failure]] = field(default_factory=list)

    @classmethod
    def of(
        cls, context: dg.AssetExecutionContext, key: dg.AssetKey, total: int, services: Services
    ) -> "_Batch":
        run, step = context.run, context.get_step_execution_context().step
        origin = Origin(run.run_id, run.job_name, step.key)
        page_url = services.config.alerts.page_url
        return cls(context, key, total, origin, not assets_are_externally_managed(run), page_url)

    def take(self, raw_file_id: str, done: Done) -> None:
        self.ended += 1
        self.became[raw_file_id] = done.word
        partition = partition_key(raw_file_id)
        key = done.checks_of or self.key
        self.waiting += [_evaluation(key, partition, check) for check in done.checks]
        if done.metadata is not None:
            self.materialised += 1
            metadata = {**done.metadata, **page_metadata(self.page_url, raw_file_id)}
            self.waiting.append(
                dg.AssetMaterialization(self.key, partition=partition, metadata=metadata)
            )
        if done.failure is not None:
            (self.failed if done.begun else self.not_begun).append((raw_file_id, done.failure))
            if done.stays and (known := self._known(partition, done.reason)) is not None:
                self.waiting.append(known)
            elif not self.planned:
                missing = [*from_here_on(self.context, self.key)]
                if done.metadata is not None:  # some of its results are there, and count
                    missing.remove(self.key)
                self.waiting += [Planned(key, partition) for key in missing]
        self._log(raw_file_id, done)

    def _known(self, partition: str, reason: str) -> dg.AssetMaterialization | None:
        """The last materialisation once more: Dagit goes on showing what is there, and not that a
        request was refused."""
        wanted = dg.AssetRecordsFilter(self.key, asset_partitions=[partition])
        records = self.context.instance.fetch_materializations(wanted, limit=1).records
        last = records[0].asset_materialization if records else None
        if last is None:
            return None
        metadata = {**last.metadata, "not begun": text(reason)}
        return dg.AssetMaterialization(
            self.key, description="as before", partition=partition, metadata=metadata
        )

    def write_if_due(self) -> None:
        late = time.monotonic() - self.written_at > _LONGEST_WAIT_S
        if late or len(self.waiting) >= _AT_ONCE:
            self.write()

    def write(self) -> None:
        """Writes what is waiting to Dagster's storage, in few transactions."""
        events, self.waiting, self.written_at = self.waiting, [], time.monotonic()
        report(self.context.instance, events, self.origin)

    def _log(self, raw_file_id: str, done: Done) -> None:
        log = self.context.log
        if self.total == 1:
            (log.warning if done.unusual else log.info)(done.reason)
            return
        if done.failure is not None:
            log.error(f"{raw_file_id!r}: {done.word.replace('_', ' ')}: {done.failure.description}")
        elif done.metadata is None:
            self.idle.append((raw_file_id, done.reason))
        if self.ended % _TELL_EVERY == 0 or self.ended == self.total:
            log.info(
                f"{self.ended} of {self.total} files: {self.materialised} materialised, "
                f"{len(self.failed)} failed, {len(self.not_begun)} not begun, "
                f"{len(self.idle)} with nothing to do"
            )

    def tell_idle(self) -> None:
        for raw_file_id, reason in self.idle[:_SHOWN]:
            self.context.log.info(f"{raw_file_id!r}: {reason}")
        if len(self.idle) > _SHOWN:
            self.context.log.info(f"{len(self.idle) - _SHOWN} more files had nothing to do")


def _evaluation(key: dg.AssetKey, partition: str, check: Check) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check.name,
        passed=check.passed,
        partition=partition,
        metadata=dict(check.metadata),
    )


def for_many_at_once(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """A backfill has all its partitions, as far as they follow on each other, done by one run."""
    return asset.with_attributes(backfill_policy=dg.BackfillPolicy.single_run())


def for_each_file(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    services: Services,
    work: Work,
    *,
    threads: int = 1,
) -> Events:
    """Does a step on every file of the run, `threads` files at a time.

    Raises:
        dg.Failure: files failed, here or in a step before, and no later step of the run can tell
            it, or there is nothing left for it to do; or it isn't for the files any more that it
            was requested for.
    """
    names = files_of(context)
    batch = _Batch.of(context, key, len(names), services)
    with ExitStack() as stack:
        ending = stack.enter_context(reporting_what_is_left(context, names, batch.became))
        if len(names) > 1:
            lease_s = services.instrument(key.path[0]).lease_s
            with dagster_errors():
                signs = giving_life_signs(services, run_id=context.run.run_id, lease_s=lease_s)
                stack.enter_context(signs)
        stack.callback(batch.write)
        every = stack.enter_context(closing(_all_done(names, work, threads, ending, batch)))
        for ended in every:
            if ended is not None:
                batch.take(*ended)
            batch.write_if_due()
    batch.tell_idle()
    yield from _go_on_or_fail(context, key, batch)


def _go_on_or_fail(
    context: dg.AssetExecutionContext, key: dg.AssetKey, batch: _Batch
) -> Iterator[dg.MaterializeResult]:
    many = batch.total > 1
    wrong = len(batch.failed) + len(batch.not_begun)
    some_left = batch.ended > wrong if many else batch.materialised > 0
    failed = [(name, str(failure.description)) for name, failure in batch.failed]
    not_begun = [(name, str(failure.description)) for name, failure in batch.not_begun]
    told_before = [] if others_report(context, key) else reported_before(context)
    if (failed or not_begun or told_before) and not (some_left and is_followed(context, key)):
        if not many and (ours := [*batch.failed, *batch.not_begun]):
            raise ours[0][1]
        raise _failure(batch, [*told_before, *failed], not_begun)
    if batch.materialised or (many and some_left):
        reported = {FAILED_BEFORE: json.dumps([*failed, *not_begun])} if failed or not_begun else {}
        yield dg.MaterializeResult(asset_key=key, metadata={_NO_EVENT: True, **reported})


def _failure(
    batch: _Batch, failed: Sequence[tuple[str, str]], not_begun: Sequence[tuple[str, str]]
) -> dg.Failure:
    """Each file is told of, and counted, once: a later step has nothing to do on what failed."""
    of_failed = dict(failed)
    left = [(name, why) for name, why in not_begun if name not in of_failed]
    reported = {*of_failed, *(name for name, _ in left)}
    idle = sum(name not in reported for name, _ in batch.idle)
    return failure_of_many(list(of_failed.items()), of=batch.total, not_begun=left, idle=idle)


def _all_done(
    names: Sequence[str], work: Work, threads: int, ending: Ending, batch: _Batch
) -> Iterator[tuple[str, Done] | None]:
    """Every file with what became of it, as it ends; None now and then while none does.

    Once MongoDB or a store is away no other is begun; nor once the run is told to end. What ends
    while the run does is taken all the same.
    """
    if len(names) == 1:
        yield names[0], _done(work, names[0])
        return
    ended: SimpleQueue[str] = SimpleQueue()
    executor = ThreadPoolExecutor(max_workers=threads)
    try:
        futures = {name: executor.submit(_done, work, name) for name in names}
        for name, future in futures.items():
            future.add_done_callback(lambda _, name=name: ended.put(name))
        while futures:
            try:
                name = ended.get(timeout=_LONGEST_WAIT_S)
            except Empty:
                yield None
                continue
            done = _outcome(futures[name])
            yield name, done
            del futures[name]
            if done.failure is not None and _ends_it(done.failure.__cause__):
                for other in futures.values():
                    other.cancel()
    except Exception:
        raise
    except BaseException:  # also when nobody wants the next one
        ending.begun.set()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name, future in futures.items():
            seen = name in batch.became or name in ending.stopped
            if not seen and not future.cancelled() and future.exception() is None:
                batch.take(name, future.result())


def _outcome(future: "Future[Done]") -> Done:
    if future.cancelled():
        return Done("", failure=dg.Failure(_NOT_BEGUN), begun=False)
    return future.result()


def _ends_it(cause: BaseException | None) -> bool:
    """Whether it is the trouble of all files: MongoDB or a store is away."""
    if isinstance(cause, OnAnotherStore):
        return False
    return isinstance(cause, StoreUnavailable | StoreAway)


def _done(work: Work, raw_file_id: str) -> Done:
    try:
        with dagster_errors():
            return work(raw_file_id)
    except NothingToDo as reason:
        return Done(str(reason), unusual=True)
    except dg.Failure as failure:
        return Done(str(failure.description), failure=failure, begun=not had_ended(failure))
