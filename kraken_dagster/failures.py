"""The one place where the project's errors become Dagster's."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from kraken_dagster.domain.errors import KrakenError, LeaseHeld
from kraken_dagster.domain.raw_file import raw_file_id_of


class NothingToDo(Exception):
    """A step that has nothing to do; the reason is shown, and the run doesn't fail."""


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


def raw_file_of(context: dg.AssetExecutionContext) -> str:
    """The raw file id that the run's partition stands for."""
    return raw_file_id_of(context.partition_key)
