"""Runs jobs as processes of this machine that survive whatever started them.

Each job has a folder named after it. What it holds is all that is known of the job, so that any
process can ask, and any may die:

    spec.json    what was asked for
    namespace    where its process numbers mean something: a boot, or a container's life
    id           who leads the job's session and when it started, written before the command runs
    log.txt      what the command wrote
    exit_code    its exit code, written last into a place that was taken first

A job is started at most once: making its folder is the claim. A claim without an id is a start
that died in between; it is taken over, under a lock that dies with its holder. It has ended when
there is its exit code, or when none of its processes lives any more, whichever of them was killed.
Processes of another boot, or of a container that was replaced, are gone: such a job is run again.
Whose job it is, is in MongoDB; only its own code location asks for it.
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

from kraken_dagster.engines.job_script import checked_command
from kraken_dagster.fs.attributes import Refusals, flush
from kraken_dagster.fs.digests import exists
from kraken_dagster.fs.private import PRIVATE_UMASK, make_folders, site_umask
from kraken_dagster.fs.processes import job_keeper
from kraken_dagster.fs.processes.job_keeper import (
    ENDED,
    ENDED_AWAY,
    EXIT_CODE,
    EXIT_CODE_BYTES,
    ID,
    ID_BYTES,
    ID_PART,
    LEFT_IN_OUTPUT,
    LOG,
    MARK,
    SITE_UMASK,
    SPEC,
    TERM_PATIENCE_S,
    is_alive,
    living,
    send,
)
from kraken_dagster.fs.processes.pid_namespace import pid_namespace
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import CopyStalled, SubmitFailed
from kraken_dagster.model.files.vendors import safe_relative
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobReport, JobState

_EXIT_CODE_OF_SIGNAL = 128
_KEEPER = Path(job_keeper.__file__)
_KEPT_PATIENCE_S = 20.0
_ASK_S = 0.05
_ANSWER_S = 5.0
_NAMESPACE = "namespace"


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
            job_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(job_dir) as lock:
                if not exists(job_dir / ID):
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
        return name if exists(self._job_dir(name) / ID) else None

    def states(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        return {job_id: self._state(self._job_dir(job_id)) for job_id in ids}

    def cancel(self, job_id: str) -> None:
        """SIGTERM, and SIGKILL to what is still there 5 s later; to every process of the job."""
        job_dir = self._job_dir(job_id)
        process = _read_id(job_dir)
        if process is None or _read_exit_code(job_dir) is not None or _was_elsewhere(job_dir):
            return
        if not living(job_dir, *process):
            return
        with suppress(OSError):  # a full disk keeps no job alive
            (job_dir / "cancelled").touch()
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + TERM_PATIENCE_S
            while (left := living(job_dir, *process)) and time.monotonic() < end:
                send(left, number)
                time.sleep(_ASK_S)

    def usage(self, ids: Sequence[str]) -> Mapping[str, JobReport]:  # noqa: ARG002
        """Nothing: this machine keeps no accounts."""
        return {}

    def check(self) -> None:
        """This machine can always be asked."""

    def log_tail(self, spec: JobSpec, *, lines: int = 20) -> str:
        path = self._job_dir(spec.name) / LOG
        if not exists(path):
            return ""
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 64 * 1024))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def _job_dir(self, name: str) -> Path:
        return self.folder / safe_relative(name).name

    def _start(self, spec: JobSpec, job_dir: Path, lock: IO[str]) -> None:
        output = Path(spec.output_path)
        if not spec.stores:  # whoever knows the output by its marker has made it through that
            make_folders(output)
        (job_dir / SPEC).write_text(json.dumps(asdict(spec), indent=1))
        (job_dir / _NAMESPACE).write_text(pid_namespace())
        for name, size in ((EXIT_CODE, EXIT_CODE_BYTES), (ID_PART, ID_BYTES)):
            _take_room(job_dir / name, size)
        keeper = [sys.executable, "-I", "-S", str(_KEEPER), str(job_dir), str(output), spec.name]
        child = subprocess.Popen(
            [*keeper, *checked_command(spec)],
            env={
                **_base_environment(),
                **spec.environment,
                MARK: str(job_dir),
                SITE_UMASK: f"{site_umask():03o}",
            },
            umask=PRIVATE_UMASK,
            stdin=lock,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_for_id(job_dir, child)

    def _wait_for_id(self, job_dir: Path, child: "subprocess.Popen[bytes]") -> None:
        """The claim is only let go of once the job has an id, so that nobody starts it twice."""
        end = time.monotonic() + _KEPT_PATIENCE_S
        while time.monotonic() < end:
            ended = child.poll()
            if exists(job_dir / ID):
                return
            if ended:
                raise OSError(ended, os.strerror(ended), str(job_dir / ID))
            time.sleep(0.01)
        raise SubmitFailed(
            "The job was started and left no id",
            file=job_dir,
            next_step="check that Python starts within 20 s on this machine, and that the job's "
            "folder can be written.",
        )

    def _state(self, job_dir: Path) -> JobReport:
        process = _read_id(job_dir)
        if process is None:
            return JobReport(JobState.UNKNOWN, detail="no such job was started on this machine")
        started = _time_of(job_dir / ID)
        exit_code = _read_exit_code(job_dir)
        gone = _was_elsewhere(job_dir)
        if exit_code is None and not gone:
            if is_alive(*process):
                return JobReport(JobState.RUNNING, started_at=started)
            if left := living(job_dir, *process):
                detail = f"who kept it was killed, and it goes on: process {left[0]}"
                return JobReport(JobState.RUNNING, started_at=started, detail=detail)
            # It may have ended between the two looks, or left its exit code elsewhere.
            exit_code = _read_exit_code(job_dir)
        ended = None if exit_code is None else _time_of(job_dir / EXIT_CODE)
        if exit_code is None:
            exit_code, ended = _left_in_output(job_dir)
        if exists(job_dir / "cancelled"):
            return JobReport(JobState.CANCELLED, started_at=started, ended_at=ended)
        if exit_code is None and gone:
            detail = "this machine, or the container that ran it, was started anew"
            return JobReport(JobState.NODE_FAILURE, started_at=started, detail=detail)
        if exit_code is None:
            detail = "its process is gone and left no exit code: it was killed"
            return JobReport(JobState.FAILED, started_at=started, ended_at=ended, detail=detail)
        if exit_code == 0 and not _ended_away(job_dir):
            return JobReport(JobState.SUCCEEDED, 0, started, ended)
        reported, away = _signal_name(exit_code), _ended_away(job_dir)
        return JobReport(JobState.FAILED, exit_code, started, ended, reported, output_away=away)


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


def _take_room(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.write(b" " * size)
        file.flush()
        flush(file.fileno(), Refusals())


def _read_id(job_dir: Path) -> tuple[int, int] | None:
    """Who leads the job's session, and its start time in the kernel's clock ticks."""
    try:
        pid, *stat = (job_dir / ID).read_text().split()
        return int(pid), int(stat[19])
    except (FileNotFoundError, ValueError, IndexError):  # or cut short by a power failure
        return None


def _was_elsewhere(job_dir: Path) -> bool:
    """Whether its processes were of another boot or container; False for an older Kraken's job."""
    try:
        return (job_dir / _NAMESPACE).read_text() not in ("", pid_namespace())
    except FileNotFoundError:
        return False


def _read_exit_code(job_dir: Path) -> int | None:
    """None while there is but the room for it. One without a size of its own is of an older
    Kraken's."""
    try:
        text = (job_dir / EXIT_CODE).read_text()
        if len(text) != EXIT_CODE_BYTES:
            return int(text)
        code, end = text.split()
    except (FileNotFoundError, ValueError):  # or cut short by a power failure
        return None
    return int(code) if end in (ENDED, ENDED_AWAY) else None


def _ended_away(job_dir: Path) -> bool:
    """Whether the job's output was away when its program had ended."""
    try:
        return (job_dir / EXIT_CODE).read_text().split()[1:] == [ENDED_AWAY]
    except FileNotFoundError:
        return False


def _left_in_output(job_dir: Path) -> tuple[int | None, datetime | None]:
    """The exit code that found no room here, and its time."""
    try:
        spec = json.loads((job_dir / SPEC).read_text())
        path = Path(spec["output_path"]) / LEFT_IN_OUTPUT
        words = bounded(path.read_text, timeout_s=_ANSWER_S, what=path).split()
        if len(words) == 3 and words[2] == spec["name"]:
            return int(words[0]), _time_of(path)
    except (OSError, ValueError, KeyError, CopyStalled):
        pass
    return None, None


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
