"""The life sign of a run that works on many files: it holds leases on a few of them at a time."""

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from kraken_dagster.model.errors import StoreError
from kraken_dagster.model.raw_file import Lease
from kraken_dagster.runtime.services import Services

_STEP = "batch"
_FORGOTTEN_AFTER = timedelta(days=7)


def batch_of(run_id: str) -> str:
    return f"batch {run_id}"


@contextmanager
def giving_life_signs(services: Services, *, run_id: str, lease_s: float) -> Iterator[None]:
    """While the block runs, and for `lease_s` after it, so that the run's next step can begin.

    Raises:
        StoreUnavailable
    """
    now = services.now()
    lease = Lease(
        token=secrets.token_hex(8),
        run_id=run_id,
        host=socket.gethostname(),
        step=_STEP,
        until=now + timedelta(seconds=lease_s),
    )
    services.store.exclusive_runs.forget_lapsed(_STEP, before=now - _FORGOTTEN_AFTER)
    services.store.exclusive_runs.take(batch_of(run_id), lease, now=now)
    ended = threading.Event()

    def renew() -> None:
        with suppress(StoreError):  # it lapses unless a later try succeeds
            until = services.now() + timedelta(seconds=lease_s)
            services.store.exclusive_runs.renew(batch_of(run_id), lease, until)

    def renew_until_ended() -> None:
        while not ended.wait(lease_s / 4):
            renew()

    threading.Thread(target=renew_until_ended, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        renew()


def is_alive(services: Services, run_id: str, now: datetime) -> bool:
    return services.store.exclusive_runs.get(batch_of(run_id)).held(now) is not None
