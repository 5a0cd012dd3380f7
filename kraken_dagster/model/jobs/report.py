"""What an engine says of a job."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class JobState(StrEnum):
    INTENDED = "intended"  # recorded, perhaps submitted: the engine must be asked by name
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    NODE_FAILURE = "node_failure"
    PREEMPTED = "preempted"
    SKIPPED = "skipped"  # recorded, and not submitted on purpose
    UNKNOWN = "unknown"  # the engine doesn't know it; that is not the same as ended


OPEN_STATES = frozenset({JobState.INTENDED, JobState.WAITING, JobState.RUNNING, JobState.UNKNOWN})


ENDED_STATES = frozenset(JobState) - OPEN_STATES


@dataclass(frozen=True)
class JobReport:
    """What an engine says of one job. `detail` is in the engine's own words.

    One that is `unknown` may still be `listed` by the queue, in a state that isn't known here, or
    be no more than `accounted` for, as one that has not ended. `output_away`: its output was, when
    its program had ended.
    """

    state: JobState
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    detail: str | None = None
    node: str | None = None
    peak_memory_bytes: int | None = None
    listed: bool = False
    accounted: bool = False
    output_away: bool = False

    @property
    def ended(self) -> bool:
        return self.state in ENDED_STATES

    @property
    def is_missing(self) -> bool:
        """Whether nobody knows of the job; only such a one becomes a failed one by time."""
        return self.state is JobState.UNKNOWN and not (self.listed or self.accounted)

    @property
    def elapsed_s(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()
