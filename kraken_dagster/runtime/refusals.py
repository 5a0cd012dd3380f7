"""Notes what stands in the way of moving or purging a file; its main status is not touched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

from kraken_dagster.fs.timeouts import beating
from kraken_dagster.model.errors import BackupIncomplete, KrakenError
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.retention.refusal import Refusal
from kraken_dagster.runtime.failures import LONGEST_WAIT_S, is_tried_again, unexpected_of, wait
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services

ARCHIVE = "archive"
PURGE = "purge"
_LONGEST_PROBLEM = 4_000  # characters; a document has room for few that are longer
LONGEST_REFUSAL_S = 24 * 60 * 60
T = TypeVar("T")


def note_refusal(
    services: Services, raw_file: RawFile, field: str, error: KrakenError, *, run_id: str
) -> Refusal:
    """Keeps what stands in the way, with the time of the next try.

    What time can't cure is looked at again too, so that it is forgotten once somebody has mended
    it; with pauses that grow to a day, as a look may read all of the file.

    Nothing is noted of a file that another run has moved, or purged, meanwhile.
    """
    now = services.now()
    before: Refusal | None = getattr(raw_file, field)
    unsorted = 0
    if error.unsorted:
        unsorted = 1 if before is None else before.unsorted_failures + 1
    refused = not is_tried_again(error, unsorted)
    failures = 1 if before is None or before.refused != refused else before.failures + 1
    longest_s = LONGEST_REFUSAL_S if refused else LONGEST_WAIT_S
    delay = wait(services, raw_file.instrument_id, failures=failures, longest_s=longest_s)
    refusal = Refusal(
        problem=str(error)[:_LONGEST_PROBLEM],
        at=now,
        failures=failures,
        unsorted_failures=unsorted,
        retry_at=now + delay,
        refused=refused,
        backup_lacks=isinstance(error, BackupIncomplete),
    )
    services.store.retention.note(raw_file, field, refusal, now=now, run_id=run_id)
    return refusal


def is_news(before: Refusal | None, error: KrakenError) -> bool:
    """Whether this was not what stood in the way at the last look already."""
    return before is None or before.problem != str(error)[:_LONGEST_PROBLEM]


def watched(
    held: Held,
    function: Callable[[Callable[[int], None], Callable[[], bool]], T],
    *,
    stall_s: float,
    what: object,
) -> T:
    """Calls a function that moves or deletes, with a sign of life to give and a leave to ask.

    One that hung is left behind. Should it come back, it has no leave any more: by then another
    run may work on the file.

    Raises:
        CopyStalled
    """
    given_up = Event()

    def may_go_on() -> bool:
        return held.still_ours() and not given_up.is_set()

    try:
        return beating(lambda beat: function(beat, may_go_on), stall_s=stall_s, what=what)
    finally:
        given_up.set()


@contextmanager
def in_own_words(raw_file_id: str) -> Iterator[None]:
    """An error that Kraken doesn't know becomes one that it can note, and stops no other file."""
    try:
        yield
    except KrakenError:
        raise
    except Exception as error:
        raise unexpected_of(error, raw_file_id) from error
