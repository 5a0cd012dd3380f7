"""Jobs of this machine: real processes, some of which are killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.errors import SubmitFailed, UnsafePath
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import ENDED_STATES, JobReport, JobState
from kraken_dagster_tests.support.helpers import wait_until

HOSTILE = [
    "",
    " two  words ",
    'it\'s "quoted"',
    "$(touch pwned) `touch pwned` $HOME ${PATH}",
    "; touch pwned; #",
    "&& touch pwned || true & > pwned",
    "new\nline\r\n\ttab",
    "back\\slash\\n %s %d ~ * ? [a] {a,b} !",
    "-rf",
    "ünïcode 質量分析",
    os.fsdecode(b"\xff\xfe"),
]
# Waits for the file `gate` in its output folder, for a minute at most.
WAITING = (
    "/bin/sh",
    "-c",
    "for i in $(seq 1200); do [ -e gate ] && exit 7; sleep 0.05; done; exit 99",
)
SUBMITTING = """
import os, signal, sys, time
from pathlib import Path
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.jobs.job import JobSpec
folder, output, go, name, *command = sys.argv[1:]
print("ready", flush=True)
while not os.path.exists(go):
    time.sleep(0.001)
LocalJobs(Path(folder)).submit(JobSpec(name, tuple(command), {}, output))
"""


class Bench:
    """The engine, and a folder that jobs write to."""

    name = "job"

    def __init__(self, folder: Path) -> None:
        self.jobs = LocalJobs(folder / "jobs")
        self.output = folder / "output"

    def submit(self, *command: str, name: str = "job", **environment: str) -> str:
        return self.jobs.submit(JobSpec(name, command, environment, str(self.output)))

    def state(self, name: str = "job") -> JobReport:
        return self.jobs.states([name])[name]

    def log_tail(self, name: str, *, lines: int = 20) -> str:
        return self.jobs.log_tail(JobSpec(name, (), {}, str(self.output)), lines=lines)

    def result(self, name: str = "job") -> JobReport:
        wait_until(lambda: self.state(name).state in ENDED_STATES, f"the end of {name}")
        return self.state(name)

    def submitting(self, name: str, *command: str, after: str = "") -> "subprocess.Popen[str]":
        """A process of its own that submits as soon as the file `go` is there."""
        where = [self.jobs.folder, self.output, self.output.with_name("go"), name]
        child = subprocess.Popen(
            [sys.executable, "-c", SUBMITTING + after, *map(str, where), *command],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None
        child.stdout.readline()
        return child

    def go(self) -> None:
        self.output.with_name("go").touch()

    def lines(self) -> list[str]:
        return (self.output / "lines").read_text().splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for folder in bench.jobs.folder.glob("*"):
        bench.jobs.cancel(folder.name)


def append(text: str) -> tuple[str, str, str]:
    return "/bin/sh", "-c", f"echo {text} >> lines"


def test_a_job_s_exit_code_times_and_output_are_kept(bench: Bench) -> None:
    assert bench.submit("/bin/sh", "-c", "echo out; echo err >&2; pwd; exit 3") == "job"
    report = bench.result()
    assert (report.state, report.exit_code, report.detail) == (JobState.FAILED, 3, None)
    assert report.started_at is not None
    assert report.ended_at is not None
    assert report.started_at <= report.ended_at
    assert bench.log_tail("job").splitlines() == ["out", "err", str(bench.output)]
    assert bench.log_tail("job", lines=1) == str(bench.output)


def test_a_job_that_ends_with_nought_has_succeeded(bench: Bench) -> None:
    bench.submit("/bin/true")
    assert (bench.result().state, bench.result().exit_code) == (JobState.SUCCEEDED, 0)


def test_several_jobs_are_told_apart_and_an_unknown_one_is_unknown(bench: Bench) -> None:
    bench.submit("/bin/true", name="good")
    bench.submit("/bin/false", name="bad")
    bench.result("good"), bench.result("bad")
    states = bench.jobs.states(["good", "bad", "never"])
    assert {name: report.state for name, report in states.items()} == {
        "good": JobState.SUCCEEDED,
        "bad": JobState.FAILED,
        "never": JobState.UNKNOWN,
    }
    assert bench.log_tail("never") == ""
    bench.jobs.cancel("never")


def test_values_arrive_as_they_are_and_none_is_run(bench: Bench) -> None:
    variables = {f"VALUE_{number}": value for number, value in enumerate(HOSTILE)}
    script = (
        "import json, os, sys\n"
        "found = [sys.argv[1:], {n: v for n, v in os.environ.items() if n[:6] == 'VALUE_'}]\n"
        "json.dump(found, open('found', 'w'))"
    )
    bench.submit(sys.executable, "-c", script, *HOSTILE, **variables)
    assert bench.result().state is JobState.SUCCEEDED
    assert json.loads((bench.output / "found").read_text()) == [HOSTILE, variables]
    assert os.listdir(bench.output) == ["found"]


def test_a_job_is_given_what_is_asked_for_and_no_secret(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRAKEN_MONGODB_URI", "mongodb://user:secret@host")
    bench.submit("/usr/bin/env", NUM_THREADS="8")
    bench.result()
    lines = bench.log_tail("job", lines=1_000).splitlines()
    assert "NUM_THREADS=8" in lines
    assert f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}" in lines
    assert not [line for line in lines if "secret" in line]


def test_a_program_that_is_not_there_fails_and_its_log_says_so(bench: Bench) -> None:
    bench.submit("/nowhere/program")
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 127)
    assert "/nowhere/program" in bench.log_tail("job")


@pytest.mark.parametrize(("code", "detail"), [(137, "ended by SIGKILL"), (255, None)])
def test_a_signal_is_called_by_its_name(bench: Bench, code: int, detail: str | None) -> None:
    bench.submit("/bin/sh", "-c", f"exit {code}")
    assert (bench.result().exit_code, bench.result().detail) == (code, detail)


def test_a_program_that_was_killed_is_said_to_be(bench: Bench) -> None:
    bench.submit("/bin/sh", "-c", "kill -SEGV $$")
    assert bench.result().detail == "ended by SIGSEGV"


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_job_survives_the_death_of_who_submitted_it(bench: Bench, whole_group: bool) -> None:
    child = bench.submitting("job", *WAITING, after="time.sleep(60)")
    bench.go()
    wait_until(lambda: bench.state().state is JobState.RUNNING, "the job runs")
    (os.killpg if whole_group else os.kill)(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert bench.state().state is JobState.RUNNING
    (bench.output / "gate").touch()
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 7)


def test_a_name_is_started_once_however_often_it_is_submitted(bench: Bench) -> None:
    for text in ("first", "second", "third"):
        bench.submit(*append(text))
        bench.result()
    assert bench.lines() == ["first"]


def test_a_name_is_started_once_when_many_submit_it_at_the_same_moment(bench: Bench) -> None:
    children = [bench.submitting("job", *append("one")) for _ in range(4)]
    bench.go()
    assert [child.wait() for child in children] == [0] * 4
    bench.result()
    assert bench.lines() == ["one"]


def test_a_name_is_started_once_when_who_submits_it_is_killed_meanwhile(bench: Bench) -> None:
    bench.go()
    for name in ("a", "b", "c"):
        child = bench.submitting(name, *append(name))
        wait_until((bench.jobs.folder / name).exists, "the claim")
        child.kill()
        child.wait()
        bench.submit(*append(name), name=name)
        assert bench.result(name).state is JobState.SUCCEEDED
    assert bench.lines() == ["a", "b", "c"]


def test_a_claim_without_a_start_is_taken_over(bench: Bench) -> None:
    (bench.jobs.folder / "job").mkdir(parents=True)
    assert bench.state().state is JobState.UNKNOWN
    bench.submit("/bin/true")
    assert bench.result().state is JobState.SUCCEEDED


def test_an_output_folder_that_can_not_be_made_is_an_error_and_may_be_mended(bench: Bench) -> None:
    bench.output.write_text("in the way")
    with pytest.raises(SubmitFailed, match="output"):
        bench.submit("/bin/true")
    bench.output.unlink()
    bench.submit("/bin/true")
    assert bench.result().state is JobState.SUCCEEDED


def test_a_job_that_is_cancelled_ends_as_cancelled(bench: Bench) -> None:
    bench.submit(*WAITING)
    bench.jobs.cancel("job")
    assert (bench.result().state, bench.result().exit_code) == (JobState.CANCELLED, None)


def test_a_job_that_has_ended_can_not_be_cancelled(bench: Bench) -> None:
    bench.submit("/bin/true")
    bench.result()
    bench.jobs.cancel("job")
    assert bench.state().state is JobState.SUCCEEDED


def test_a_job_whose_processes_were_killed_has_failed(bench: Bench) -> None:
    bench.submit(*WAITING)
    os.killpg(int((bench.jobs.folder / "job" / "id").read_text().split()[0]), signal.SIGKILL)
    assert bench.result().state is JobState.FAILED
    assert "gone and left no exit code" in str(bench.state().detail)


def test_another_process_with_the_job_s_number_is_not_taken_for_it(bench: Bench) -> None:
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    stat = Path(f"/proc/{other.pid}/stat").read_text().rpartition(") ")[2].split()
    (bench.jobs.folder / "job").mkdir(parents=True)
    identity = bench.jobs.folder / "job" / "id"
    identity.write_text(f"{other.pid} {' '.join(stat)}\n")
    assert bench.state().state is JobState.RUNNING
    stat[19] = str(int(stat[19]) - 1)
    identity.write_text(f"{other.pid} {' '.join(stat)}\n")
    assert bench.state().state is JobState.FAILED
    bench.jobs.cancel("job")
    assert not identity.with_name("cancelled").exists()
    other.send_signal(signal.SIGUSR1)
    assert other.wait() == -signal.SIGUSR1


def test_a_relative_folder_is_one_folder_wherever_the_job_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = LocalJobs(Path("jobs"))
    jobs.submit(JobSpec("job", ("/bin/true",), {}, "output"))
    wait_until(lambda: jobs.states(["job"])["job"].state is JobState.SUCCEEDED, "the end")


@pytest.mark.parametrize("name", ["../job", "/job", "", "."])
def test_a_name_that_leads_out_of_the_folder_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(UnsafePath):
        bench.submit("/bin/true", name=name)
