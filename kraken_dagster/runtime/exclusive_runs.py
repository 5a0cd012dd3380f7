"""Holding an errand, work on a whole instrument, while a run is at it."""

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from kraken_dagster.model.errors import StoreError
from kraken_dagster.model.raw_file import Lease
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


def offsite_of(raw_file_id: str) -> str:
    """The upload of one file: long, and no reason for any other step of the file to wait."""
    return f"offsite {raw_file_id}"


@contextmanager
def at_work(services: Services, name: str, *, run_id: str, lease_s: float) -> Iterator[None]:
    """Keeps a second run from the same errand. What is done to each file has its own lease, so one
    that was held up and goes on beside another does no harm.

    Raises:
        LeaseHeld: another run is at it.
    """
    now = services.now()
    lease = Lease(
        token=secrets.token_hex(8),
        run_id=run_id,
        host=socket.gethostname(),
        step=name,
        until=now + timedelta(seconds=lease_s),
    )
    services.store.exclusive_runs.take(name, lease, now=now)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(lease_s / 4):
            with suppress(StoreError):  # it lapses unless a later try succeeds
                until = services.now() + timedelta(seconds=lease_s)
                if not services.store.exclusive_runs.renew(name, lease, until):
                    return

    threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with suppress(StoreError):  # it lapses by itself then
            services.store.exclusive_runs.release(name, lease)
