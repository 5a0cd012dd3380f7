"""Work that one run at a time does: a whole instrument's, or one file's upload."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from kraken_dagster.model.errors import StoreError
from kraken_dagster.runtime.renewal import new_lease, renewed
from kraken_dagster.runtime.services import Services


def archive_of(instrument_id: str) -> str:
    return f"archive {instrument_id}"


def purge_of(instrument_id: str) -> str:
    return f"purge {instrument_id}"


def catchup_of(instrument_id: str) -> str:
    return f"catchup {instrument_id}"


def scrub_of(suffix: str) -> str:
    """Of the backups of a code location's instruments; without a suffix, of all."""
    return f"scrub{suffix}"


def scrub_copies_of(suffix: str) -> str:
    """Of the copies off-site; the same for a code location."""
    return f"scrub_offsite{suffix}"


def offsite_of(raw_file_id: str) -> str:
    """The upload of one file: long, and no reason for any other step of the file to wait."""
    return f"offsite {raw_file_id}"


@contextmanager
def at_work(services: Services, name: str, *, run_id: str, lease_s: float) -> Iterator[None]:
    """Keeps a second run from the same work. What is done to each file has its own lease, so a run
    that was held up and goes on beside another does no harm.

    Raises:
        LeaseHeld: another run is at it.
    """
    store, now = services.store.exclusive_runs, services.now()
    lease = new_lease(name, run_id=run_id, now=now, lease_s=lease_s)
    store.take(name, lease, now=now)

    def renew() -> bool:
        return store.renew(name, lease, services.now() + timedelta(seconds=lease_s))

    try:
        with renewed(renew, lease_s=lease_s):
            yield
    finally:
        with suppress(StoreError):  # it lapses by itself then
            store.release(name, lease)
