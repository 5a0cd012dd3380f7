"""Runs jobs as processes of this machine that survive whatever started them.

Each job has a folder named after it. What it holds is all that is known of the job, so that any
process can ask, and any may die:

    spec.json    what was asked for
    id           the process group's id and when it started, written before the command runs
    log.txt      what the command wrote
    exit_code    its exit code, written last

A job is started at most once: making its folder is the claim. A claim without an id is a start
that died in between; it is taken over, under a lock that dies with its holder.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from kraken_dagster.clients.job_script import full_command
from kraken_dagster.domain.errors import SubmitFailed
from kraken_dagster.domain.quant import JobReport, JobSpec, JobState
from kraken_dagster.domain.vendors import safe_relative

_EXIT_CODE_OF_SIGNAL = 128
_TERM_PATIENCE_S = 5  # for a program that tidies up before it ends
# The shell gets the command as its positional arguments, so nothing in it is ever parsed. Its
# stdin is the lock of the claim, which it holds until it has written down who it is, even if
# whoever started it dies at once.
_SUPERVISOR = """
output=$1
jobdir=$2
shift 2
IFS= read -r stat < /proc/$$/stat
printf '%s %s\\n' "$$" "${stat##*) }" > "$jobdir/id.part" && mv "$jobdir/id.part" "$jobdir/id"
exec < /dev/null
cd "$output" || exit 1
"$@" > "$jobdir/log.txt" 2>&1
code=$?
printf '%s\\n' "$code" > "$jobdir/exit_code.part" && mv "$jobdir/exit_code.part" "$jobdir/exit_code"
"""


class LocalJobs:
    """The engine of type `local`. Its ids are the jobs' names."""

    settles_s = 0.0  # making the job's folder is the claim: nothing turns up later

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()  # a job starts elsewhere

    def submit(self, spec: JobSpec, *, may_start: Callable[[], None] = lambda: None) -> str:
        """Starts the job unless one of that name was started before."""
        job_dir = self._job_dir(spec.name)
        may_start()
        try:
            job_dir.mkdir(parents=True, exist_ok=True)
            with _locked(job_dir) as lock:
                if not (job_dir / "id").exists():
                    self._start(spec, job_dir, lock)
        except OSError as error:
            raise SubmitFailed(
                "The job could not be started",
                file=error.filename or job_dir,
                found=error.strerror or error,
                next_step="check the disk and the rights of Kraken's home and the output folder.",
            ) from error
        return spec.name

    def find(self, name: str) -> str | None:
        return name if (self._job_dir(name) / "id").exists() else None

    def states(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        return {job_id: self._state(self._job_dir(job_id)) for job_id in ids}

    def cancel(self, job_id: str) -> None:
        """SIGTERM, and SIGKILL to what is still there 5 s later."""
        job_dir = self._job_dir(job_id)
        process = _read_id(job_dir)
        if process is None or not _is_alive(*process) or (job_dir / "exit_code").exists():
            return
        (job_dir / "cancelled").touch()
        with suppress(ProcessLookupError):
            os.killpg(process[0], signal.SIGTERM)
            for _ in range(_TERM_PATIENCE_S * 20):
                if not _is_alive(*process):
                    return
                time.sleep(0.05)
            os.killpg(process[0], signal.SIGKILL)

    def usage(self, ids: Sequence[str]) -> Mapping[str, JobReport]:  # noqa: ARG002
        """Nothing: this machine keeps no accounts."""
        return {}

    def check(self) -> None:
        """This machine can always be asked."""

    def log_tail(self, spec: JobSpec, *, lines: int = 20) -> str:
        path = self._job_dir(spec.name) / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 64 * 1024))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def _job_dir(self, name: str) -> Path:
        return self.folder / safe_relative(name).name

    def _start(self, spec: JobSpec, job_dir: Path, lock: IO[str]) -> None:
        output = Path(spec.output_path)
        output.mkdir(parents=True, exist_ok=True)
        (job_dir / "spec.json").write_text(json.dumps(asdict(spec), indent=1))
        command = ["/bin/sh", "-c", _SUPERVISOR, "kraken-job", str(output), str(job_dir)]
        subprocess.Popen(
            [*command, *full_command(spec)],
            env={**_base_environment(), **spec.environment},
            stdin=lock,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_for_id(job_dir)

    def _wait_for_id(self, job_dir: Path) -> None:
        """The claim is only let go of once the job has an id, so that nobody starts it twice."""
        for _ in range(500):
            if (job_dir / "id").exists():
                return
            time.sleep(0.01)
        raise SubmitFailed(
            "The job was started and left no id",
            file=job_dir,
            next_step="check that /bin/sh works and that the job's folder can be written.",
        )

    def _state(self, job_dir: Path) -> JobReport:
        process = _read_id(job_dir)
        if process is None:
            return JobReport(JobState.UNKNOWN, detail="no such job was started on this machine")
        started = _time_of(job_dir / "id")
        exit_code = _read_exit_code(job_dir)
        if exit_code is None and _is_alive(*process):
            return JobReport(JobState.RUNNING, started_at=started)
        exit_code = _read_exit_code(job_dir)  # it may have ended between the two looks
        ended = _time_of(job_dir / "exit_code")
        if exit_code is None:
            detail = "its process is gone and left no exit code: killed, or the machine restarted"
            state = JobState.CANCELLED if (job_dir / "cancelled").exists() else JobState.FAILED
            return JobReport(state, started_at=started, ended_at=ended, detail=detail)
        if exit_code == 0:
            return JobReport(JobState.SUCCEEDED, 0, started, ended)
        return JobReport(JobState.FAILED, exit_code, started, ended, _signal_name(exit_code))


def _base_environment() -> dict[str, str]:
    """What a job inherits: little, with the programs of this installation first on the path."""
    programs = str(Path(sys.executable).parent)
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}"}


@contextmanager
def _locked(job_dir: Path) -> Iterator[IO[str]]:
    with (job_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go of when the last process closes it
        yield lock


def _read_id(job_dir: Path) -> tuple[int, str] | None:
    """The process group's id and its start time in the kernel's clock ticks."""
    try:
        pid, *stat = (job_dir / "id").read_text().split()
        return int(pid), stat[19]
    except (FileNotFoundError, ValueError, IndexError):  # or cut short by a power failure
        return None


def _is_alive(pid: int, start_time: str) -> bool:
    """Whether that very process lives, and not another one that got its number later."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = stat.rpartition(") ")[2].split()
    return fields[19] == start_time and fields[0] != "Z"


def _read_exit_code(job_dir: Path) -> int | None:
    try:
        return int((job_dir / "exit_code").read_text())
    except (FileNotFoundError, ValueError):  # or cut short by a power failure
        return None


def _time_of(path: Path) -> datetime | None:
    try:
        # To the millisecond, as MongoDB keeps it.
        return datetime.fromtimestamp(path.stat().st_mtime_ns // 1_000_000 / 1000, tz=UTC)
    except FileNotFoundError:
        return None


def _signal_name(exit_code: int) -> str | None:
    if exit_code <= _EXIT_CODE_OF_SIGNAL:
        return None
    with suppress(ValueError):
        return f"ended by {signal.Signals(exit_code - _EXIT_CODE_OF_SIGNAL).name}"
    return None
