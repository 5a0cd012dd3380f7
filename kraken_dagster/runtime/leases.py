"""Holding a file's lease while a step works on it."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kraken_dagster.model.errors import LeaseLost, StoreError
from kraken_dagster.model.raw_file import FINAL, Lease, RawFile, Status, Step, short_details
from kraken_dagster.runtime.ending import ended_in_words, ends, lapsed_in_words, was_stopped
from kraken_dagster.runtime.renewal import new_lease, renewed
from kraken_dagster.runtime.services import Services


@dataclass
class Held:
    """A lease that is being renewed. `raw_file` is the record as it was when it was taken, or as
    the step has changed it since."""

    services: Services
    lease: Lease
    raw_file: RawFile
    until: datetime
    _lost: threading.Event = field(default_factory=threading.Event)

    @property
    def run_id(self) -> str:
        return self.lease.run_id

    def transition(
        self,
        new: Status,
        *,
        of: RawFile | None = None,
        reason: str | None = None,
        options: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> RawFile:
        """Sets the file's status as this run, only while its lease holds; the file after that.

        Args:
            of: the record that must still be true; without it, `raw_file`.
            reason, options, fields: see `RawFiles.transition`.

        Raises:
            StatusConflict, LeaseLost
        """
        return self.services.store.raw_files.transition(
            of or self.raw_file,
            new,
            now=self.services.now(),
            reason=reason,
            run_id=self.run_id,
            lease=self.lease,
            options=options,
            fields=fields,
        )

    def still_ours(self) -> bool:
        """No once it was taken over, or may have been: this process may have been held up; nor
        once the run was told to end."""
        lost = self._lost.is_set() or ends(self.lease.run_id)
        return not lost and self.services.now() < self.until

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
    as lost, because another run may hold it.

    A run that is told to end in the block notes it in the file's history; for one that was killed
    whoever takes the lease after it does.

    Args:
        known: the record as it was read a moment ago, which saves reading it once more.

    Raises:
        LeaseHeld: another run works on the file.
    """
    raw_file = known or services.store.raw_files.current(raw_file_id)
    lease_s, now = services.instrument(raw_file.instrument_id).lease_s, services.now()
    lease = new_lease(step, run_id=run_id, now=now, lease_s=lease_s)
    taken = services.store.raw_files.take_lease(raw_file_id, lease, now=now, known=raw_file)
    held = Held(services, lease, taken, lease.until)
    try:
        with renewed(lambda: _renew(held, lease_s), lease_s=lease_s), _end_noted(held, step):
            if (dead := raw_file.lease) is not None and not dead.is_live(now):
                with suppress(StoreError):  # a word less; the lease is ours
                    held.raw_file = _note(services, raw_file_id, lapsed_in_words(dead), run_id)
            yield held
    finally:
        with suppress(StoreError):  # it lapses by itself then
            services.store.raw_files.release_lease(raw_file_id, lease, now=services.now())


@contextmanager
def _end_noted(held: Held, step: Step) -> Iterator[None]:
    """Notes in the file's history that its run was told to end within the block."""
    told_to_end = True
    try:
        yield
        told_to_end = False
    except Exception:
        told_to_end = ends(held.run_id)
        raise
    finally:
        if told_to_end:
            was_stopped(held.run_id, held.raw_file.id)
            word = ended_in_words(held.run_id, step, held.raw_file.instrument_id)
            with suppress(StoreError):
                _note(held.services, held.raw_file.id, word, held.run_id)


def _note(services: Services, raw_file_id: str, word: str, run_id: str) -> RawFile:
    """In the history, and in the details of a file that is under way."""
    raw_file = services.store.raw_files.current(raw_file_id)
    shown = {} if raw_file.status in FINAL else {"status_details": short_details(word)}
    return services.store.raw_files.update(
        raw_file, shown, now=services.now(), note=word, run_id=run_id
    )


def _renew(held: Held, lease_s: float) -> bool:
    wanted = held.services.now() + timedelta(seconds=lease_s)
    if not held.services.store.raw_files.renew_lease(held.raw_file.id, held.lease, wanted):
        held._lost.set()
        return False
    held.until = wanted
    return True
