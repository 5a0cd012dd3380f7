"""Jobs that work on copies of their files, as processes of this machine."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster_tests.cluster.slurm_cluster import look_at, processes
from kraken_dagster_tests.support.helpers import wait_until

CONTENT = b"scans of an instrument"
LONG_AGO = 1_700_000_000
# Writes down what it was given, then damages its file.
WORK = """
printf '%s\\n' "$@" > arguments
printf '%s\\n' "$RAW_FILE_PATH" > raw_file_path
cat -- "$RAW_FILE_PATH" > content
ls -A -- "${RAW_FILE_PATH%/*}" > beside
printf damaged >> "$RAW_FILE_PATH"
"""
# Writes down its folder, and waits, all by itself, for a line from the pipe `gate`.
WAIT = """
mkfifo gate
printf '%s' "${RAW_FILE_PATH%/*}" > folder.part && mv folder.part folder
read -r line < gate
"""


class Bench:
    """The engine, a raw file of two parts, and where the copies go."""

    def __init__(self, folder: Path) -> None:
        self.jobs = LocalJobs(folder / "jobs")
        words = ["/bin/bash", "-c", 'printf %s "kraken-$UID-$HOSTNAME"']
        found = subprocess.run(words, capture_output=True, text=True, check=True)
        self.temporary = folder / "tmp" / found.stdout
        self.raw_file = self.write(folder / "backup" / "x.wiff")
        self.scan = self.write(folder / "backup" / "x.wiff.scan")
        self._outputs = folder / "output"

    def write(self, path: Path) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(CONTENT)
        path.chmod(0o444)
        os.utime(path, (LONG_AGO, LONG_AGO))
        return path

    def output(self, name: str) -> Path:
        return self._outputs / name

    def submit(
        self, script: str, *arguments: str, name: str = "job", files: tuple[Path, ...] = ()
    ) -> None:
        copied = tuple(str(path) for path in files or (self.raw_file, self.scan))
        environment = {"RAW_FILE_PATH": copied[0]}
        command = ("/bin/sh", "-c", script, "sh", *arguments)
        output = str(self.output(name))
        self.jobs.submit(JobSpec(name, command, environment, output, working_copy=copied))

    def state(self, name: str = "job") -> JobReport:
        return self.jobs.states([name])[name]

    def result(self, name: str = "job") -> JobReport:
        wait_until(lambda: self.state(name).ended, f"the end of {name}")
        return self.state(name)

    def log(self, name: str = "job") -> str:
        return self.jobs.log_tail(JobSpec(name, (), {}, ""))

    def waiting(self, name: str) -> Path:
        """Submits a job that waits; returns the folder of its copies."""
        self.submit(WAIT, name=name)
        folder = self.output(name) / "folder"
        wait_until(folder.exists, f"the program of {name} runs")
        return Path(folder.read_text())

    def go_on(self, name: str) -> None:
        (self.output(name) / "gate").write_text("\n")

    def copies(self) -> list[str]:
        return sorted(os.listdir(self.temporary))

    def kill(self, name: str) -> None:
        """Everything of a job at once, so that nothing of it does anything more."""
        group = int((self.jobs.folder / name / "id").read_text().split()[0])
        os.killpg(group, signal.SIGSTOP)
        of_job = [process for process in processes() if _group(process.pid) == group]
        wait_until(lambda: all(_stands_still(process.pid) for process in of_job), "all stand still")
        os.killpg(group, signal.SIGKILL)
        assert self.result(name).state is JobState.FAILED


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _stands_still(pid: int) -> bool:
    process = look_at(pid)
    return process is None or process.state in "TZX"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    bench = Bench(tmp_path)
    yield bench
    for folder in bench.jobs.folder.glob("*"):
        bench.jobs.cancel(folder.name)


def test_the_program_gets_a_copy_and_what_it_writes_is_not_in_the_original(bench: Bench) -> None:
    original = str(bench.raw_file)
    bench.submit(WORK, original, f"--f={original},{original}", "other", f"{original}.scan")
    assert (bench.result().state, bench.log()) == (JobState.SUCCEEDED, "")
    copy = Path((bench.output("job") / "raw_file_path").read_text().removesuffix("\n"))
    assert copy.name == "x.wiff"
    assert copy.parent.parent == bench.temporary
    arguments = (bench.output("job") / "arguments").read_text().splitlines()
    assert arguments == [str(copy), f"--f={copy},{copy}", "other", f"{copy}.scan"]
    assert (bench.output("job") / "content").read_bytes() == CONTENT
    assert (bench.output("job") / "beside").read_text().split() == ["x.wiff", "x.wiff.scan"]
    for path in (bench.raw_file, bench.scan):
        assert (path.read_bytes(), path.stat().st_mtime) == (CONTENT, LONG_AGO)
    assert bench.copies() == []


@pytest.mark.parametrize(
    "name",
    [
        " two  words .wiff",
        'it\'s "quoted".wiff',
        "$(touch pwned) `touch pwned` & \\1 & $HOME.wiff",
        "new\nline.wiff",
        "-rf",
        "*?[a]{b,c}~.wiff",
        "back\\slash.wiff",
        "ünï 質.wiff",
        os.fsdecode(b"\xff\xfe.wiff"),
    ],
)
def test_whatever_the_file_s_name_is_its_copy_has_it_too(bench: Bench, name: str) -> None:
    path = bench.write(bench.raw_file.with_name(name))
    script = 'printf "%s\\0" "$@" "$RAW_FILE_PATH" > found; cat -- "$1" > content'
    bench.submit(script, str(path), f"--f={path}", files=(path,))
    assert (bench.result().state, bench.log()) == (JobState.SUCCEEDED, "")
    first, second, third, end = (bench.output("job") / "found").read_bytes().split(b"\0")
    copy = Path(os.fsdecode(first))
    assert (copy.name, copy.parent.parent) == (name, bench.temporary)
    assert (os.fsdecode(second), third, end) == (f"--f={copy}", first, b"")
    assert (bench.output("job") / "content").read_bytes() == CONTENT
    assert sorted(os.listdir(bench.output("job"))) == ["content", "found"]
    assert bench.copies() == []


def test_the_exit_code_is_the_program_s_and_the_copies_are_gone(bench: Bench) -> None:
    bench.submit("exit 7")
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 7)
    bench.submit("kill -SEGV $$", name="crashes")
    assert bench.result("crashes").detail == "ended by SIGSEGV"
    assert bench.copies() == []


def test_a_job_that_is_cancelled_takes_its_copies_with_it(bench: Bench) -> None:
    folder = bench.waiting("job")
    assert sorted(os.listdir(folder)) == ["x.wiff", "x.wiff.scan"]
    bench.jobs.cancel("job")
    assert bench.result().state is JobState.CANCELLED
    wait_until(lambda: bench.copies() == [], "the copies are gone")


def test_so_does_one_that_is_cancelled_while_it_copies(bench: Bench) -> None:
    endless = bench.raw_file.with_name("endless")
    os.mkfifo(endless)  # nobody writes into it, so that whoever reads it waits
    bench.submit("touch begun", files=(bench.raw_file, endless))
    wait_until(lambda: any(bench.temporary.glob("job-*/x.wiff")), "it copies")
    bench.jobs.cancel("job")
    assert bench.result().state is JobState.CANCELLED
    wait_until(lambda: bench.copies() == [], "the copies are gone")
    assert os.listdir(bench.output("job")) == []


def test_a_job_whose_files_can_not_be_copied_fails_before_the_program_starts(bench: Bench) -> None:
    bench.submit("touch begun", files=(bench.raw_file, bench.raw_file.with_name("missing")))
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 1)
    assert "missing" in bench.log()
    assert os.listdir(bench.output("job")) == []
    assert bench.copies() == []


def test_what_a_killed_job_leaves_the_next_one_removes_but_nothing_of_one_that_runs(
    bench: Bench,
) -> None:
    running, killed = bench.waiting("running"), bench.waiting("killed")
    bench.kill("killed")
    assert bench.copies() == sorted([running.name, killed.name])
    bench.submit('ls -A -- "${RAW_FILE_PATH%/*}" > beside', name="next")
    assert bench.result("next").state is JobState.SUCCEEDED
    assert bench.copies() == [running.name]
    assert sorted(os.listdir(running)) == ["x.wiff", "x.wiff.scan"]
    bench.go_on("running")
    assert bench.result("running").state is JobState.SUCCEEDED
    assert bench.copies() == []


def test_many_jobs_at_the_same_moment_have_a_folder_each(bench: Bench) -> None:
    names = [f"job-{number}" for number in range(8)]
    for name in names:
        bench.submit(WORK, name=name)
    for name in names:
        assert (bench.result(name).state, bench.log(name)) == (JobState.SUCCEEDED, "")
        assert (bench.output(name) / "content").read_bytes() == CONTENT
    assert len({(bench.output(name) / "raw_file_path").read_text() for name in names}) == 8
    assert bench.copies() == []


def test_a_folder_that_somebody_else_has_put_there_is_not_used(bench: Bench) -> None:
    elsewhere = bench.temporary.with_name("elsewhere")
    elsewhere.mkdir()
    bench.temporary.symlink_to(elsewhere)
    bench.submit("touch begun")
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 1)
    assert "set TMPDIR" in bench.log()
    assert os.listdir(elsewhere) == os.listdir(bench.output("job")) == []
    if os.geteuid() == 0:
        bench.temporary.unlink()
        bench.temporary.mkdir()
        os.chown(bench.temporary, 65534, 65534)
        bench.submit("touch begun", name="another")
        assert "set TMPDIR" in (bench.result("another") and bench.log("another"))
        assert bench.copies() == []
