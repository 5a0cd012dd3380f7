"""The protocols by which the steps use the outside world; a test may put a plain object there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kraken_dagster.model.files.folder import Listing
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobReport


class Engine(Protocol):
    """What runs jobs: this machine, or a cluster.

    A job's name is unique. Whoever can't tell whether a `submit` got through asks `find` first;
    a submission that got lost may still turn up for `settles_s` seconds.
    """

    @property
    def settles_s(self) -> float: ...

    def submit(self, spec: JobSpec, *, may_start: Callable[[], None] = lambda: None) -> str:
        """Starts the job; returns the engine's id of it.

        `may_start` is called right before, and raises where this process must not go on.

        Raises:
            SubmitFailed: the engine refused it.
            ClusterError: whether it was started is not known.
        """
        ...

    def find(self, name: str) -> str | None:
        """The engine's id of the job of that name; None if it was never submitted.

        Raises:
            ClusterError: the engine can't be asked.
        """
        ...

    def states(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """What became of these jobs, in one question for all.

        A job that could not be asked about is left out; one that the engine doesn't know is
        `unknown`.

        Raises:
            ClusterError: the engine can't be asked.
        """
        ...

    def usage(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """What ended jobs used, as far as the engine keeps accounts and has it by now."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ends a job; nothing happens if it has ended."""
        ...

    def log_tail(self, spec: JobSpec, *, lines: int = 20) -> str:
        """The last lines that the job wrote; empty if there are none."""
        ...

    def check(self) -> None:
        """Whether the engine can be asked.

        Raises:
            ClusterError
        """
        ...


class FolderLister(Protocol):
    """Looks at an instrument's folder within a bound of time."""

    def __call__(
        self,
        folder: str,
        *,
        main_files: Sequence[str] = (),
        timeout_s: float,
        entries: bool = True,
    ) -> Listing:
        """One look; without `entries` one at the folder itself only.

        Raises:
            FolderMissing, FolderUnreadable, FolderHangs
        """
        ...
