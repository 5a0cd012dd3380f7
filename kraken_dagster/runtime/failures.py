"""Records a step's failure: what, why, and when it is tried again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta

from kraken_dagster.model.errors import (
    KrakenError,
    Lasting,
    StoreAway,
    StoreError,
    StoreRefused,
    Unexpected,
    Unsorted,
)
from kraken_dagster.model.errors.kinds import kind_of
from kraken_dagster.model.raw_file import ENDED, BackupStatus, Lease, RawFile, Status
from kraken_dagster.runtime.services import Services

LONGEST_WAIT_S = 30 * 60
MOST_UNSORTED = 5  # tries in a row that ended in an error of which nobody knows whether time helps


def wait(
    services: Services, instrument_id: str, *, failures: int, longest_s: float = LONGEST_WAIT_S
) -> timedelta:
    """How long until the next try after so many failures in a row; doubles, up to 30 minutes."""
    first = services.instrument(instrument_id).retry_after_s
    return timedelta(seconds=min(first * 2 ** min(failures - 1, 20), max(longest_s, first)))


@contextmanager
def failure_recorded(
    services: Services,
    raw_file_id: str,
    *,
    run_id: str,
    lease: Lease,
    fields: Mapping[str, object] | None = None,
) -> Iterator[None]:
    """Whatever goes wrong in the block is in MongoDB before it goes on its way.

    But for what is MongoDB's or another run's own trouble: StoreError; and a store that is away,
    which says nothing of the file, and which the file waits for as it is: StoreAway. What MongoDB
    refuses to hold is the file's, and MongoDB may well hold that.
    """
    try:
        yield
    except StoreRefused as error:
        with suppress(StoreError):
            record_failure(services, raw_file_id, error, run_id=run_id, lease=lease, fields=fields)
        raise
    except (StoreError, StoreAway):
        raise
    except KrakenError as error:
        record_failure(services, raw_file_id, error, run_id=run_id, lease=lease, fields=fields)
        raise
    except Exception as error:
        unexpected = unexpected_of(error, raw_file_id)
        record_failure(services, raw_file_id, unexpected, run_id=run_id, lease=lease, fields=fields)
        raise unexpected from error


def unexpected_of(error: Exception, raw_file_id: str) -> Unexpected:
    """Somebody else's error in words, and sorted by whether time cures it."""
    kind = kind_of(error)
    found = f"{type(error).__name__}: {error}"
    if kind is None:
        return Unsorted(
            "An error that Kraken doesn't know",
            file=raw_file_id,
            found=found,
            next_step=f"see the run's log, and report it. Tried {MOST_UNSORTED} times by itself, "
            "and then after `kraken retry`.",
        )
    sort = Unexpected if kind.transient else Lasting
    return sort(kind.meaning, file=raw_file_id, found=found, next_step=kind.next_step)


def is_tried_again(error: KrakenError, unsorted: int) -> bool:
    """Whether a step is tried again by itself after this error.

    Args:
        unsorted: how many in a row, with this one, were of a kind that nobody has sorted.
    """
    return error.transient and unsorted < MOST_UNSORTED


def record_failure(
    services: Services,
    raw_file_id: str,
    error: KrakenError,
    *,
    run_id: str,
    lease: Lease,
    fields: Mapping[str, object] | None = None,
) -> None:
    """Sets status `error` with the message. What time can cure gets a time for the next try.

    A file that has ended keeps its status: nothing was begun of what was asked for once more, and
    its history says so.
    """
    raw_file = services.store.raw_files.get(raw_file_id)
    if raw_file.status in ENDED:
        note_not_done(services, raw_file, error, run_id=run_id)
    else:
        _set_error(services, raw_file, error, run_id=run_id, lease=lease, fields=fields)


def note_not_done(
    services: Services, raw_file: RawFile, error: KrakenError, *, run_id: str
) -> None:
    """In the history only: what was asked for was not done, and the file is what it was."""
    error.stays = raw_file.status.value
    note = f"not done, and nothing has changed: {error}"
    services.store.raw_files.update(raw_file, {}, now=services.now(), note=note, run_id=run_id)


def _set_error(
    services: Services,
    raw_file: RawFile,
    error: KrakenError,
    *,
    run_id: str,
    lease: Lease,
    fields: Mapping[str, object] | None,
) -> None:
    now = services.now()
    failures = raw_file.failures + 1
    # A success sets `failures` back, and this with it.
    unsorted = min(raw_file.unsorted_failures, raw_file.failures) + 1 if error.unsorted else 0
    retry_at = None
    if is_tried_again(error, unsorted):
        retry_at = now + wait(services, raw_file.instrument_id, failures=failures)
    counts = {"failures": failures, "unsorted_failures": unsorted, "retry_at": retry_at}
    services.store.raw_files.transition(
        raw_file,
        Status.ERROR,
        now=now,
        reason=str(error),
        run_id=run_id,
        lease=lease,
        fields={**counts, **(fields or {})},
    )


def damage_fields(raw_file: RawFile) -> dict[str, object]:
    """How the file had ended is kept, so that it ends like that again once its backup is whole."""
    ended = raw_file.is_backed_up and raw_file.status in ENDED
    how = {"ended_as": raw_file.status, "ended_details": raw_file.status_details}
    return {"backup_status": BackupStatus.COPYING_FAILED, **(how if ended else {})}


def record_damage(
    services: Services,
    raw_file: RawFile,
    error: KrakenError,
    *,
    run_id: str,
    lease: Lease,
    fields: Mapping[str, object] | None = None,
) -> None:
    """A backup that is not what was recorded: status `error`, and nothing purges the file."""
    fields = {**damage_fields(raw_file), **(fields or {})}
    if raw_file.status is Status.IGNORED:  # which never becomes an error
        services.store.raw_files.update(
            raw_file, fields, now=services.now(), note=str(error), run_id=run_id
        )
        return
    _set_error(
        services,
        services.store.raw_files.get(raw_file.id),
        error,
        run_id=run_id,
        lease=lease,
        fields=fields,
    )
