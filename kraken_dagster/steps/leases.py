"""Holding a file's lease while a step works on it."""

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_dagster.domain.errors import LeaseLost, StoreError
from kraken_dagster.domain.raw_file import Lease, RawFile, Step
from kraken_dagster.steps.world import World


@dataclass
class Held:
    """A lease that is being renewed. `raw_file` is the record as it was when it was taken."""

    lease: Lease
    raw_file: RawFile
    now: Callable[[], datetime]
    until: datetime
    _lost: threading.Event = field(default_factory=threading.Event)

    def still_ours(self) -> bool:
        """No once it was taken over, or may have been: this process may have been held up."""
        return not self._lost.is_set() and self.now() < self.until

    def require(self) -> None:
        """Stops who may have been held up so long that somebody else works on the file.

        Raises:
            LeaseLost
        """
        if not self.still_ours():
            raise LeaseLost(
                "This run was held up, and may not be the only one that works on the file",
                file=self.raw_file.id,
                next_step="nothing: what is missing is done by another run.",
            )


@contextmanager
def holding(
    world: World, raw_file_id: str, *, step: Step, run_id: str, known: RawFile | None = None
) -> Iterator[Held]:
    """Takes the file's lease, renews it while the block runs, and gives it back.

    While MongoDB is away the lease can't be renewed; once it has lapsed by our own clock it counts
    as lost, because somebody else may hold it.

    Args:
        known: the record as it was read a moment ago, which saves reading it once more.

    Raises:
        LeaseHeld: another run works on the file.
    """
    raw_file = known or world.store.raw_files.current(raw_file_id)
    seconds = world.instrument(raw_file.instrument_id).lease_s
    now = world.now()
    lease = Lease(
        token=secrets.token_hex(8),
        run_id=run_id,
        host=socket.gethostname(),
        step=step,
        until=now + timedelta(seconds=seconds),
    )
    taken = world.store.raw_files.take_lease(raw_file_id, lease, now=now, known=raw_file)
    held = Held(lease, taken, world.now, lease.until)
    ended = threading.Event()
    renewer = threading.Thread(target=_renew, args=(world, held, seconds, ended), daemon=True)
    renewer.start()
    try:
        yield held
    finally:
        ended.set()
        with suppress(StoreError):  # it lapses by itself then
            world.store.raw_files.release_lease(raw_file_id, lease, now=world.now())


def _renew(world: World, held: Held, seconds: float, ended: threading.Event) -> None:
    while not ended.wait(seconds / 4):
        wanted = world.now() + timedelta(seconds=seconds)
        try:
            renewed = world.store.raw_files.renew_lease(held.raw_file.id, held.lease, wanted)
        except StoreError:
            continue  # it lapses by `until` unless a later try succeeds
        if not renewed:
            held._lost.set()
            return
        held.until = wanted
