"""Holding a file's lease while a step works on it."""

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_dagster.model.errors import LeaseLost, StoreError
from kraken_dagster.model.raw_file import FINAL, Lease, RawFile, Step, short_details
from kraken_dagster.runtime.ending import ended_in_words, ends, lapsed_in_words, was_stopped
from kraken_dagster.runtime.services import Services


@dataclass
class Held:
    """A lease that is being renewed. `raw_file` is the record as it was when it was taken."""

    lease: Lease
    raw_file: RawFile
    now: Callable[[], datetime]
    until: datetime
    _lost: threading.Event = field(default_factory=threading.Event)

    def still_ours(self) -> bool:
        """No once it was taken over, or may have been: this process may have been held up; nor
        once the run was told to end."""
        lost = self._lost.is_set() or ends(self.lease.run_id)
        return not lost and self.now() < self.until

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
    services: Services, raw_file_id: str, *, step: Step, run_id: str, known: RawFile | None = None
) -> Iterator[Held]:
    """Takes the file's lease, renews it while the block runs, and gives it back.

    While MongoDB is away the lease can't be renewed; once it has lapsed by our own clock it counts
    as lost, because somebody else may hold it.

    A run that is told to end in the block notes it in the file's history; for one that was killed
    whoever takes the lease after it does.

    Args:
        known: the record as it was read a moment ago, which saves reading it once more.

    Raises:
        LeaseHeld: another run works on the file.
    """
    raw_file = known or services.store.raw_files.current(raw_file_id)
    seconds = services.instrument(raw_file.instrument_id).lease_s
    now = services.now()
    lease = _new_lease(step, run_id, now + timedelta(seconds=seconds))
    taken = services.store.raw_files.take_lease(raw_file_id, lease, now=now, known=raw_file)
    held = Held(lease, taken, services.now, lease.until)
    ended = threading.Event()
    threading.Thread(target=_renew, args=(services, held, seconds, ended), daemon=True).start()
    told_to_end = True
    try:
        if (dead := raw_file.lease) is not None and not dead.is_live(now):
            with suppress(StoreError):  # a word less; the lease is ours
                held.raw_file = _note(services, raw_file_id, lapsed_in_words(dead), run_id)
        yield held
        told_to_end = False
    except Exception:
        told_to_end = ends(run_id)
        raise
    finally:
        ended.set()
        if told_to_end:
            _leave_word(services, raw_file, step, run_id)
        with suppress(StoreError):  # it lapses by itself then
            services.store.raw_files.release_lease(raw_file_id, lease, now=services.now())


def _leave_word(services: Services, raw_file: RawFile, step: Step, run_id: str) -> None:
    was_stopped(run_id, raw_file.id)
    with suppress(StoreError):
        word = ended_in_words(run_id, step, raw_file.instrument_id)
        _note(services, raw_file.id, word, run_id)


def _new_lease(step: Step, run_id: str, until: datetime) -> Lease:
    token, host = secrets.token_hex(8), socket.gethostname()
    return Lease(token=token, run_id=run_id, host=host, step=step, until=until)


def _note(services: Services, raw_file_id: str, word: str, run_id: str) -> RawFile:
    """In the history, and in the details of a file that is under way."""
    raw_file = services.store.raw_files.current(raw_file_id)
    shown = {} if raw_file.status in FINAL else {"status_details": short_details(word)}
    return services.store.raw_files.update(
        raw_file, shown, now=services.now(), note=word, run_id=run_id
    )


def _renew(services: Services, held: Held, seconds: float, ended: threading.Event) -> None:
    while not ended.wait(seconds / 4):
        wanted = services.now() + timedelta(seconds=seconds)
        try:
            renewed = services.store.raw_files.renew_lease(held.raw_file.id, held.lease, wanted)
        except StoreError:
            continue  # it lapses by `until` unless a later try succeeds
        if not renewed:
            held._lost.set()
            return
        held.until = wanted
