"""Runs that are told to end in the midst of their work: by whom, and what they had in hand."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kraken_dagster.model.raw_file import Lease, Step

_UNKNOWN = "its process was told to end"
_NEXT: dict[Step, str] = {
    Step.BACKUP: "what is copied so far is compared and used, or removed, by the next try, which "
    "{instrument}_watcher requests at its next tick",
    Step.QUANT: "the next try, which {instrument}_watcher or cluster_jobs requests at its next "
    "tick, asks for its jobs by their names before it submits any",
    Step.COLLECT: "cluster_jobs has its results collected at its next tick",
    Step.ARCHIVE: "{instrument}_archiver goes on at its next tick",
    Step.PURGE: "the next purge proves again what is left, and goes on",
    Step.OFFSITE: "the next upload goes on with the parts that the server has",
    Step.VERIFY: "nothing; its backup is as it was, and is read again the next time",
}


@dataclass
class Ending:
    """Of one run in this process. `stopped`: the ids of files that it had in hand at its end."""

    why: Callable[[], str]
    begun: threading.Event = field(default_factory=threading.Event)
    stopped: list[str] = field(default_factory=list)

    def in_words(self) -> str:
        """What has told the run to end, also where nobody can be asked for it any more."""
        try:
            return self.why()
        except Exception:  # noqa: BLE001 - Dagster's storage may be away
            return _UNKNOWN


_endings: dict[str, Ending] = {}


@contextmanager
def explained(run_id: str, why: Callable[[], str]) -> Iterator[Ending]:
    """While the block runs, `why` says in words what has told the run to end."""
    ending = _endings[run_id] = Ending(why)
    try:
        yield ending
    finally:
        del _endings[run_id]


def ends(run_id: str) -> bool:
    """Whether the run was told to end; then nothing more is begun."""
    ending = _endings.get(run_id)
    return ending is not None and ending.begun.is_set()


def was_stopped(run_id: str, raw_file_id: str) -> None:
    """Keeps that the run had this file in hand."""
    if run_id in _endings:
        _endings[run_id].stopped.append(raw_file_id)


def ended_in_words(run_id: str, step: Step, instrument_id: str) -> str:
    """What a file's history says of a run that was told to end while it worked on the file."""
    ending = _endings.get(run_id)
    why = _UNKNOWN if ending is None else ending.in_words()
    follows = _NEXT[step].format(instrument=instrument_id)
    return (
        f"the run ended before its step {step} was done: {why}. Its lease is given back. "
        f"Next: {follows}, if that is switched on."
    )


def lapsed_in_words(lease: Lease) -> str:
    """What a file's history says of a run whose lease has lapsed."""
    return (
        f"run {lease.run_id} on {lease.host}, step {lease.step}, did not give its lease back, "
        f"which lapsed at {lease.until:%Y-%m-%d %H:%M:%S} UTC: its process was killed, its machine "
        "went down, or it could not reach MongoDB. Next: nothing, this run goes on from what it "
        "left."
    )
