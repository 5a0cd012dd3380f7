"""What Slurm answers, read into our own terms. No cluster is asked here.

Sources: the manual pages of squeue, sacct and sbatch (22.05 to 25.05), and a real cluster.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from kraken_dagster.model.errors import ClusterReplyUnreadable
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.jobs.resources import amount_bytes

_STATES: Mapping[str, JobState] = {
    "PENDING": JobState.WAITING,
    "CONFIGURING": JobState.WAITING,
    "POWER_UP_NODE": JobState.WAITING,
    "REQUEUED": JobState.WAITING,
    "REQUEUE_FED": JobState.WAITING,
    "REQUEUE_HOLD": JobState.WAITING,
    "RESV_DEL_HOLD": JobState.WAITING,
    "SPECIAL_EXIT": JobState.WAITING,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "COMPLETED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "NODE_FAIL": JobState.NODE_FAILURE,
    "BOOT_FAIL": JobState.NODE_FAILURE,
    "LAUNCH_FAILED": JobState.NODE_FAILURE,
    "RECONFIG_FAIL": JobState.NODE_FAILURE,
    "PREEMPTED": JobState.PREEMPTED,
}
# Reasons of a pending job that waiting doesn't cure.
_BLOCKED = frozenset(
    {
        "AccountNotAllowed",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "JobHeldAdmin",
        "JobHeldUser",
        "PartitionConfig",
        "PartitionDown",
        "PartitionInactive",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSNotAllowed",
        "ReqNodeNotAvail",
    }
)
# What a job is of which several states are told; whatever is not here has ended.
_BEFORE = {
    state: n for n, state in enumerate((JobState.RUNNING, JobState.WAITING, JobState.UNKNOWN))
}
_NONE = frozenset({"", "Unknown", "N/A", "None", "NONE", "None assigned", "(null)"})
_LARGEST_SIGNAL = 64
SQUEUE_FORMAT = ",".join(
    f"{name}:{width}|"
    for name, width in (
        ("JobArrayID", 96),
        ("State", 24),
        ("exit_code", 12),
        ("Reason", 64),
        ("StartTime", 24),
        ("EndTime", 24),
        ("NodeList", 128),
    )
)
SACCT_FORMAT = "JobID,State,ExitCode,Start,End,NodeList,MaxRSS"


def job_state(text: str) -> JobState:
    """Slurm's state in our words; a `+` at its end says that Slurm has cut it off.

    Of several words, as in `COMPLETED,COMPLETING`, one that is open counts before one that has
    ended, and before that one that isn't known.
    """
    word = next(iter(text.split()), "")
    cut = word.endswith("+")
    *words, last = re.split("[,+]", word.rstrip("+"))
    meant = [*(_STATES.get(item, JobState.UNKNOWN) for item in words), _state_of(last, cut=cut)]
    return min(meant, key=lambda state: _BEFORE.get(state, len(_BEFORE)))


def _state_of(word: str, *, cut: bool) -> JobState:
    if not cut:
        return _STATES.get(word, JobState.UNKNOWN)
    meant = {state for name, state in _STATES.items() if name.startswith(word)}
    return meant.pop() if len(meant) == 1 else JobState.UNKNOWN


def job_id_in_log(text: str) -> str | None:
    """The first word after the first `slurm_job_id: ` of a log, in any case of its letters."""
    found = re.search(r"slurm_job_id: [^\S\n]*(\S+)", text, re.IGNORECASE)
    return None if found is None else found[1]


def is_job_id(text: str) -> bool:
    return re.fullmatch(r"\d{1,12}", text, re.ASCII) is not None


def job_number(row_id: str) -> str | None:
    """The id that sbatch gave, of a job, a task of an array (`7_1`, `7_[2-9]`), a part of a
    heterogeneous job (`7+0`), or a job of a named cluster (`7;name`)."""
    found = re.fullmatch(r"(\d{1,12})(?:[_+;].*)?", row_id, re.ASCII | re.DOTALL)
    return None if found is None else found[1]


def report_of(known: Mapping[str, JobReport], job_id: str) -> JobReport | None:
    """What an answer says of a job as a whole; a site's own script may make it one of many tasks.

    It is open as long as any of them is, and has succeeded if all of them have.
    """
    if job_id in known:
        return known[job_id]
    parts = [report for row_id, report in known.items() if job_number(row_id) == job_id]
    if not parts:
        return None
    ended = [part for part in parts if part.ended]
    for state in _BEFORE:
        if open_ones := [part for part in parts if part.state is state]:
            return open_ones[0]
    worst = next((part for part in ended if part.state is not JobState.SUCCEEDED), ended[0])
    ends = [part.ended_at for part in ended if part.ended_at is not None]
    peaks = [part.peak_memory_bytes for part in ended if part.peak_memory_bytes is not None]
    return replace(
        worst, ended_at=max(ends, default=None), peak_memory_bytes=max(peaks, default=None)
    )


def submitted_id(reply: str) -> str:
    """The job's id in the answer of `sbatch --parsable`: `ID` or `ID;CLUSTER`.

    What a site has put in place of sbatch may write around it, but no number on a line of its own,
    unless sbatch names the cluster.
    """
    lines = [line.strip() for line in reply.splitlines()]
    words = [line for line in lines if re.fullmatch(r"\d{1,12}(;\S+)?", line, re.ASCII)]
    words = [word for word in words if ";" in word] or words
    found = {word.partition(";")[0] for word in words}
    if len(found) != 1:
        raise ClusterReplyUnreadable(
            "sbatch gave an answer without a job id" if not found else "sbatch named several jobs",
            expected="one line with a number, or with a number, `;` and the cluster's name",
            found=repr(reply[:500]),
            next_step="the cluster is asked for the job by its name.",
        )
    return found.pop()


def parse_squeue(reply: str) -> dict[str, JobReport]:
    """The jobs in the answer of squeue in `SQUEUE_FORMAT`, by id; times are read as UTC.

    One in a state that isn't known is listed all the same, so it hasn't ended.
    """
    found: dict[str, JobReport] = {}
    for job_id, state, status, reason, start, end, node in _rows(reply, "squeue", columns=7):
        number = _number(status)
        signal = number & 0x7F
        # Beside a signal the upper byte isn't zero where the node could not launch the job.
        report = _report(state, (0 if signal else number >> 8, signal), (start, end), node)
        if report.state is JobState.WAITING:
            blocked = reason.split(",")[0] in _BLOCKED
            report = replace(report, detail=reason if blocked else None, node=None)
        elif report.ended and reason not in _NONE:
            report = replace(report, detail=f"{state} ({reason})")
        elif report.state is JobState.UNKNOWN:
            why = "" if reason in _NONE else f" ({reason})"
            report = replace(report, detail=f"{state or 'no state'}{why}", listed=True)
        if job_id not in found or found[job_id].ended:  # clusters may list it together
            found[job_id] = report
    return found


def parse_sacct(reply: str) -> dict[str, JobReport]:
    """The jobs in the answer of `sacct -P -n` in `SACCT_FORMAT`, with the most memory of a step."""
    found: dict[str, JobReport] = {}
    for row_id, state, exit_code, start, end, node, memory in _rows(reply, "sacct", columns=7):
        job_id, _, step = row_id.partition(".")
        peak = amount_bytes(memory)
        if not step:
            code, _, signal = exit_code.partition(":")
            found[job_id] = _report(state, (_number(code), _number(signal)), (start, end), node)
        elif job_id in found and peak is not None:
            most = max(peak, found[job_id].peak_memory_bytes or 0)
            found[job_id] = replace(found[job_id], peak_memory_bytes=most)
    return found


def _rows(reply: str, program: str, *, columns: int) -> Iterator[list[str]]:
    for line in reply.splitlines():
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == columns + 1 and not cells[-1]:
            del cells[-1]  # squeue ends every column, sacct separates them
        if len(cells) != columns or job_number(cells[0].partition(".")[0]) is None:
            raise ClusterReplyUnreadable(
                f"The answer of {program} can't be read",
                expected=f"{columns} columns, the first one a job id",
                found=repr(line[:500]),
                next_step="look at what it prints on the cluster; asked again by itself.",
            )
        yield cells


def _report(state: str, status: tuple[int, int], times: tuple[str, str], node: str) -> JobReport:
    code, signal = status
    start, end = times
    ours = job_state(state)
    exit_code: int | None = code or None
    if ours is JobState.SUCCEEDED:
        exit_code = 0
    elif ours is JobState.FAILED and not code and 0 < signal <= _LARGEST_SIGNAL:
        exit_code = 128 + signal
    report = JobReport(
        ours,
        started_at=None if ours is JobState.WAITING else _time(start),
        node=None if node in _NONE else node,
    )
    if not report.ended:
        reported = (state or "no state") if ours is JobState.UNKNOWN else None
        return replace(report, detail=reported)
    return replace(report, exit_code=exit_code, ended_at=_time(end), detail=state)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:  # `N/A`, `Unknown`, `None`
        return None
