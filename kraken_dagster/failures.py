"""The one place where the project's errors become Dagster's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from kraken_dagster.domain.errors import KrakenError, LeaseHeld
from kraken_dagster.domain.printable import printable, printable_lines

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
        }
        raise dg.Failure(
            description=str(error),
            metadata={name: value for name, value in parts.items() if value is not None},
            allow_retries=False,
        ) from error


def failure_of_many(failed: Sequence[tuple[str, str]], *, of: int) -> dg.Failure:
    """The failure of a run on many files: pairs of raw file id and reason, the first ones told."""
    lines = [printable_lines(f"{name!r}: {reason}") for name, reason in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        lines.append(f"... and {len(failed) - _SHOWN} more, in the run's log")
    head = f"{len(failed)} of {of} files failed; the others are done. Next: mend what is wrong, "
    return dg.Failure(
        description="\n".join([head + "and launch a backfill of the failed partitions.", *lines]),
        metadata={"failed files": len(failed)},
        allow_retries=False,
    )
