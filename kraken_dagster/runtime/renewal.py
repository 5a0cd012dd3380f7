"""A lease that is renewed in the background while a block runs."""

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from kraken_dagster.model.errors import StoreError
from kraken_dagster.model.raw_file import Lease

_TRIES_IN_A_LEASE = 4


def new_lease(step: str, *, run_id: str, now: datetime, lease_s: float) -> Lease:
    """A lease of this host with a token of its own, until `lease_s` seconds from `now`."""
    until = now + timedelta(seconds=lease_s)
    token, host = secrets.token_hex(8), socket.gethostname()
    return Lease(token=token, run_id=run_id, host=host, step=step, until=until)


@contextmanager
def renewed(renew: Callable[[], bool], *, lease_s: float) -> Iterator[None]:
    """Calls `renew` four times in each `lease_s` seconds, until the block ends or it returns False.

    A StoreError is passed over: the lease lapses unless a later try succeeds.
    """
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(lease_s / _TRIES_IN_A_LEASE):
            try:
                if not renew():
                    return
            except StoreError:
                continue

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
