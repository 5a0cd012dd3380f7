"""What the ops on many files share: one run at a time, and a failure that names them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import dagster as dg

from kraken_dagster.orchestration.failures import NothingToDo, dagster_errors
from kraken_dagster.orchestration.file_runs.interruption import who_ended
from kraken_dagster.runtime.ending import explained
from kraken_dagster.runtime.exclusive_runs import at_work
from kraken_dagster.runtime.services import Services

_SHOWN = 20  # problems in a run's failure; all are in its log


@contextmanager
def alone(
    context: dg.OpExecutionContext, services: Services, exclusive_run: str, lease_s: float
) -> Iterator[bool]:
    """Whether this run is the only one at this work; if it isn't, it ends quietly."""
    with ExitStack() as stack, explained(context.run.run_id, partial(who_ended, context)):
        try:
            with dagster_errors():
                run_id = context.run.run_id
                stack.enter_context(
                    at_work(services, exclusive_run, run_id=run_id, lease_s=lease_s)
                )
        except NothingToDo as reason:
            context.log.warning(str(reason))
            yield False
            return
        yield True


def fail(wrong: Sequence[str]) -> None:
    if not wrong:
        return
    more = f"\n... and {len(wrong) - _SHOWN} more, in the log" if len(wrong) > _SHOWN else ""
    raise dg.Failure(description="\n".join(wrong[:_SHOWN]) + more, allow_retries=False)
