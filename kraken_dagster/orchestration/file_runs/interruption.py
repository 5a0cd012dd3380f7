"""What a run on raw files says when it is told to end: by whom, and what it leaves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import dagster as dg
from dagster import DagsterRunStatus

from kraken_dagster.orchestration.failures import counted
from kraken_dagster.runtime.ending import Ending, explained

_SHOWN = 20
_AFTER_ENDING = (
    "what was stopped or not begun is as its history says, and is requested again by the sensors "
    "that are on; or launch a backfill of those partitions."
)


@contextmanager
def reporting_what_is_left(
    context: dg.AssetExecutionContext, names: Sequence[str], became: Mapping[str, str]
) -> Iterator[Ending]:
    """A run that is told to end says which files it had in hand, and which it hasn't begun.

    Args:
        names: all files of the run.
        became: what became of each that has been seen to so far, as `counted` counts it.
    """
    with explained(context.run.run_id, partial(who_ended, context)) as ending:
        try:
            yield ending
        except Exception:
            raise
        except BaseException:
            ending.begun.set()
            _tell(context, names, became, ending)
            raise


def _tell(
    context: dg.AssetExecutionContext,
    names: Sequence[str],
    became: Mapping[str, str],
    ending: Ending,
) -> None:
    stopped = [name for name in ending.stopped if became.get(name) != "done"]
    left = [name for name in names if name not in became and name not in stopped]
    ended = Counter(word for name, word in became.items() if name not in stopped)
    counts = counted(
        of=len(names),
        failed=ended["failed"],
        stopped=len(stopped),
        not_begun=len(left) + ended["not_begun"],
        idle=ended["idle"],
    )
    lines = [f"The run ended: {ending.in_words()}. {counts}. Next: {_AFTER_ENDING}"]
    lines += [f"{name!r}: stopped in its midst; its history says what follows" for name in stopped]
    lines += [f"{name!r}: not begun" for name in left[:_SHOWN]]
    if len(left) > _SHOWN:
        lines.append(f"{len(left) - _SHOWN} more were not begun")
    for line in lines:
        context.log.error(line)


def who_ended(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> str:
    """What has told the run to end: Dagster marks a run that it is asked to terminate."""
    run = context.instance.get_run_by_id(context.run.run_id)
    backfill = context.run.tags.get("dagster/backfill")
    if run is None or run.status not in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED):
        return "a signal to its process, not from Dagster: Kraken or the machine was stopped"
    asked = "its termination was asked for in Dagster (Dagit or its API; it doesn't know by whom)"
    return asked if backfill is None else f"{asked}, or that of its backfill {backfill}"
