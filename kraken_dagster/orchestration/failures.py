"""The one place where the project's errors become Dagster's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from kraken_dagster.model.errors import KrakenError, LeaseHeld
from kraken_dagster.model.printable import printable, printable_lines

_SHOWN = 20


class NothingToDo(Exception):
    """A step that has nothing to do; the reason is shown, and the run doesn't fail."""


def skip(reason: object) -> dg.SkipReason:
    """What a sensor's tick tells where it requests nothing; names may stand in it."""
    return dg.SkipReason(printable(reason))


@contextmanager
def dagster_errors() -> Iterator[None]:
    """Translates: what is wrong fails the run with all its parts; a held lease ends it quietly.

    Dagster never retries: what is tried again follows from MongoDB.
    """
    try:
        yield
    except LeaseHeld as error:
        raise NothingToDo(str(error)) from error
    except KrakenError as error:
        parts = {
            "file": error.file,
            "expected": error.expected,
            "found": error.found,
            "next step": error.next_step,
            "tried again by itself": error.transient,
            "error": type(error).__name__,
            "status": error.stays,
        }
        kept = f"Nothing was begun, and the file stays {error.stays}. " if error.stays else ""
        raise dg.Failure(
            description=kept + str(error),
            metadata={name: value for name, value in parts.items() if value is not None},
            allow_retries=False,
        ) from error


def failure_of_many(
    failed: Sequence[tuple[str, str]],
    *,
    of: int,
    not_begun: Sequence[tuple[str, str]] = (),
    idle: int = 0,
) -> dg.Failure:
    """The failure of a run on many files: pairs of raw file id and reason, the first ones told.

    Args:
        of: how many files the run is for.
        not_begun: those of which nothing was begun, so that they are as they were.
        idle: how many there was nothing to do on.
    """
    reported = [*failed, *not_begun]
    lines = [printable_lines(f"{name!r}: {reason}") for name, reason in reported[:_SHOWN]]
    if len(reported) > _SHOWN:
        lines.append(f"... and {len(reported) - _SHOWN} more, in the run's log")
    counts = counted(of=of, failed=len(failed), not_begun=len(not_begun), idle=idle)
    head = f"{counts}. Next: mend what is wrong, and launch a backfill of those partitions."
    return dg.Failure(
        description="\n".join([head, *lines]),
        metadata={"failed files": len(failed), "files not begun": len(not_begun)},
        allow_retries=False,
    )


def counted(
    *, of: int, failed: int = 0, stopped: int = 0, not_begun: int = 0, idle: int = 0
) -> str:
    """What became of a run's files: `2 of 10 files failed, 1 was not begun, 7 are done`."""
    done = of - failed - stopped - not_begun - idle
    parts = [
        (failed, "failed", "failed"),
        (stopped, "was stopped in its midst", "were stopped in their midst"),
        (not_begun, "was not begun", "were not begun"),
        (idle, "had nothing to do", "had nothing to do"),
        (done, "is done", "are done"),
    ]
    words = [(count, one if count == 1 else many) for count, one, many in parts if count > 0]
    if not words:
        return "The run is for no file"
    files = "file" if of == 1 else "files"
    first, *rest = words
    return ", ".join([f"{first[0]} of {of} {files} {first[1]}", *(f"{n} {w}" for n, w in rest)])
