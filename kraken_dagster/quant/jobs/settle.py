"""What became of a job, by what its engine says and by what it left in its output folder."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    CopyStalled,
    KrakenError,
)
from kraken_dagster.model.jobs.job import (
    EXIT_ENDED_BADLY_AWAY,
    EXIT_ENDED_WELL_AWAY,
    EXIT_STORE_AWAY,
    QuantJob,
)
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.quant.jobs.left_by_job import (
    exit_code_left_by,
    has_begun,
    has_result,
    output_is_full,
)
from kraken_dagster.runtime.services import Services

T = TypeVar("T")
# A tick must be over in 60 s: no wait for a share, and no further question, takes longer.
PATIENCE_S = 10.0
# Of Slurm the latter, where a job's log can't be opened: by signal 53, which no program ends by.
_MAY_BE_AWAY = (EXIT_STORE_AWAY, 128 + 53)
_ENDED_AWAY = (EXIT_ENDED_WELL_AWAY, EXIT_ENDED_BADLY_AWAY)
_UNKNOWN_GRACE = timedelta(minutes=10)


class ExitCodes:
    """What jobs left in their output folders. A share that hangs is waited for once in a poll."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._refusal: str | None = None

    def tells_of_stores(self, job: QuantJob) -> tuple[bool, str | None]:
        """Whether a job found no store where it ran, and why that can't be known.

        Kraken's own script writes an exit code last; what a site's script, or a program, ends with
        counts once it has begun.
        """
        entry = self._services.config.engines.get(job.engine)
        own = isinstance(entry, SlurmEngine) and entry.job_script is None
        try:
            begun = bounded(
                lambda: has_begun(self._services, job), timeout_s=PATIENCE_S, what=job.output_path
            )
        except (KrakenError, OSError) as error:
            return False, str(error)
        if not begun or not own:
            return not begun, None
        exit_code, refusal = self.of(job)
        return exit_code is None, refusal

    def ended_away(self, job: QuantJob, report: JobReport) -> bool | None:
        """Whether the result is complete of a job whose output was away at its end; None where
        that is not what its exit code says.

        Raises:
            KrakenError, OSError: it can't be known.
        """
        if not report.output_away and exit_code_left_by(self._services, job) is not None:
            return None  # the program's own
        well = report.exit_code == (0 if report.output_away else EXIT_ENDED_WELL_AWAY)
        return well and has_result(self._services, job)

    def asked(self, what: Callable[[], T]) -> tuple[T | None, str | None]:
        """An answer of the output, and why there is none."""
        path = self._services.config.locations.output.path
        try:
            return bounded(what, timeout_s=PATIENCE_S, what=path), None
        except (KrakenError, OSError) as error:
            return None, str(error)

    def is_full(self) -> bool:
        return output_is_full(self._services)

    def of(self, job: QuantJob) -> tuple[int | None, str | None]:
        """The exit code, and why it can't be known."""
        if self._refusal is None:
            try:
                return bounded(
                    lambda: exit_code_left_by(self._services, job),
                    timeout_s=PATIENCE_S,
                    what=self._services.config.locations.output.path,
                ), None
            except CopyStalled as error:
                self._refusal = str(error)
            except (KrakenError, OSError) as error:
                return None, str(error)
        return None, self._refusal


def _where(report: JobReport) -> str:
    return report.node or "this machine"


def _failed(job: QuantJob, report: JobReport, left: ExitCodes, now: datetime) -> JobReport:
    """One that failed, unless a store that was away or full is the reason."""
    if report.output_away or (report.exit_code in _ENDED_AWAY and report.node is not None):
        complete, refusal = left.asked(lambda: left.ended_away(job, report))
        if complete is None and refusal is None:
            return report
        if complete:
            reported = "its output was away when it ended, and has its whole result now"
            return replace(report, state=JobState.SUCCEEDED, exit_code=0, detail=reported)
        reported = f"the output went away while it ran on {_where(report)}"
        return _as_away(report, True, refusal, now=now, reported=reported)
    if report.exit_code in _MAY_BE_AWAY:
        return _as_away(report, *left.tells_of_stores(job), now=now)
    full, refusal = left.asked(left.is_full) if report.exit_code else (False, None)
    if full:
        return _as_away(report, True, None, now=now, reported="the output is full")
    return report


def _as_away(
    report: JobReport,
    away: bool,
    refusal: str | None,
    *,
    now: datetime,
    reported: str | None = None,
) -> JobReport:
    """A job that found no store where it ran is run again; what it left tells whether it did."""
    if refusal is not None:
        why = f"exit code {report.exit_code}; its output can't be read: {refusal}"
        return replace(report, state=JobState.UNKNOWN, detail=why, exit_code=None, ended_at=None)
    if not away:
        return report
    reported = reported or f"the output or the backup is away, or full, on {_where(report)}"
    state, code = JobState.NODE_FAILURE, EXIT_STORE_AWAY
    # By our own clock, as the pause until the next try is counted from then.
    return replace(report, state=state, exit_code=code, ended_at=now, detail=reported)


def settled_report(job: QuantJob, report: JobReport, left: ExitCodes, now: datetime) -> JobReport:
    """A job that the engine doesn't know is not done: what it left in its output folder decides,
    and if it left nothing it counts as failed, but only after a grace.

    One that is listed is open, whatever its state may mean, and what is in its folder may be of a
    run before. One that the accounting has as open stays so, but for what it left.
    """
    if report.state is JobState.FAILED:
        return _failed(job, report, left, now)
    if report.state is not JobState.UNKNOWN:
        return report
    report = replace(report, started_at=job.started_at, node=job.node)
    if report.listed:
        return report
    exit_code, refusal = left.of(job)
    if refusal is not None:
        return replace(report, detail=f"{report.detail}; its output can't be read: {refusal}")
    if exit_code is not None:
        state = JobState.FAILED if exit_code else JobState.SUCCEEDED
        detail = f"by the exit code in its output folder: {report.detail}"
        return replace(report, state=state, exit_code=exit_code, ended_at=now, detail=detail)
    if report.accounted or now - (job.unknown_since or now) < _UNKNOWN_GRACE:
        return report
    detail = f"{report.detail}, for {_UNKNOWN_GRACE}, and it left no exit code in its output folder"
    return replace(report, state=JobState.FAILED, ended_at=now, detail=detail)
