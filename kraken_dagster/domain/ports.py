"""The protocols by which the steps use the outside world; a test may put a plain object there."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from kraken_dagster.domain.discovery import Listing
from kraken_dagster.domain.quant import JobReport, JobSpec


class Engine(Protocol):
    """What runs jobs: this machine, or a cluster.

    `submit` is safe to repeat: a job's name is unique, and a name that the engine knows already
    is never started again.
    """

    def submit(self, spec: JobSpec) -> str:
        """Starts the job, or finds the one of that name; returns the engine's id of it.

        Raises:
            SubmitFailed: the engine refused it, or can't be asked.
        """
        ...

    def find(self, name: str) -> str | None:
        """The engine's id of the job of that name; None if it was never submitted."""
        ...

    def states(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """What became of these jobs, in one question for all."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ends a job; nothing happens if it has ended."""
        ...

    def log_tail(self, job_id: str, *, lines: int = 20) -> str:
        """The last lines that the job wrote; empty if there are none."""
        ...


class FolderLister(Protocol):
    """Looks at an instrument's folder within a bound of time."""

    def __call__(self, folder: str, *, main_file: str | None, timeout_s: float) -> Listing:
        """One look.

        Raises:
            FolderMissing, FolderUnreadable, FolderHangs
        """
        ...
