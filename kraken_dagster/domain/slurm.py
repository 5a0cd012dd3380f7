"""What Slurm answers, read into our own terms. No cluster is asked here.

Sources: the manual pages of squeue, sacct and sbatch (22.05 to 25.05), and a real cluster.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from kraken_dagster.domain.errors import ClusterReplyUnreadable
from kraken_dagster.domain.quant import JobReport, JobState
from kraken_dagster.domain.resources import amount_bytes

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
_NONE = frozenset({"", "Unknown", "N/A", "None", "NONE", "None assigned", "(null)"})
_LARGEST_SIGNAL = 64
SQUEUE_FORMAT = ",".join(
    f"{name}:{width}|"
    for name, width in (
        ("JobID", 24),
        ("State", 24),
        ("exit_code", 12),
        ("Reason", 64),
        ("StartTime", 24),
        ("EndTime", 24),
        ("NodeList", 128),
    )
)
SACCT_FORMAT = "JobIDRaw,State,ExitCode,Start,End,NodeList,MaxRSS"


def job_state(text: str) -> JobState:
    """Slurm's state in our words; a `+` at its end says that Slurm has cut it off."""
    word = next(iter(text.split()), "")
    if not word.endswith("+"):
        return _STATES.get(word, JobState.UNKNOWN)
    meant = {state for name, state in _STATES.items() if name.startswith(word.rstrip("+"))}
    return meant.pop() if len(meant) == 1 else JobState.UNKNOWN


def job_id_in_log(text: str) -> str | None:
    """The first word after the first `slurm_job_id: ` of a log, in any case of its letters."""
    found = re.search(r"slurm_job_id: [^\S\n]*(\S+)", text, re.IGNORECASE)
    return None if found is None else found[1]


def is_job_id(text: str) -> bool:
    return re.fullmatch(r"\d{1,12}", text, re.ASCII) is not None


def submitted_id(reply: str) -> str:
    """The job's id in the answer of `sbatch --parsable`: `ID` or `ID;CLUSTER`.

    A site's own login scripts may write before it; the last line counts.
    """
    lines = reply.strip().splitlines()
    word = lines[-1].partition(";")[0].strip() if lines else ""
    if not is_job_id(word):
        raise ClusterReplyUnreadable(
            "sbatch gave an answer without a job id",
            expected="a number",
            found=repr(reply[:500]),
            next_step="the cluster is asked for the job by its name.",
        )
    return word


def parse_squeue(reply: str) -> dict[str, JobReport]:
    """The jobs in the answer of squeue in `SQUEUE_FORMAT`, by id; times are read as UTC."""
    found: dict[str, JobReport] = {}
    for job_id, state, status, reason, start, end, node in _rows(reply, "squeue", columns=7):
        number = _number(status)
        report = _report(state, (number >> 8, number & 0x7F), (start, end), node)
        if report.state is JobState.WAITING:
            blocked = reason.split(",")[0] in _BLOCKED
            report = replace(report, detail=reason if blocked else None, node=None)
        elif report.ended and reason not in _NONE:
            report = replace(report, detail=f"{state} ({reason})")
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
        if len(cells) != columns or not is_job_id(cells[0].partition(".")[0].partition("_")[0]):
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
        return report
    return replace(report, exit_code=exit_code, ended_at=_time(end), detail=state)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:  # `N/A`, `Unknown`, `None`
        return None
