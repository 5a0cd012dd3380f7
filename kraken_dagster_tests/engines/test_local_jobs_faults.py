"""Jobs of this machine of which parts are killed, and whose disk is full: what is said of them."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.fs.processes.job_keeper import EXIT_CODE, LEFT_IN_OUTPUT, MARK, facts_of, living
from kraken_dagster.model.errors import StatusConflict, SubmitFailed
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.collect import collect
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.engines.test_local_jobs import Bench
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import backed_up, each, wait_until

# Says that it runs, waits all by itself for a line from the pipe `gate`, and ends with 7.
WAITING = "mkfifo gate; echo $$ > pid.part; mv pid.part pid; read -r line < gate; exit 7"
# The same, of which nothing but SIGKILL is the end.
DEAF = f"trap '' TERM; {WAITING}"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for folder in bench.jobs.folder.glob("*"):
        bench.jobs.cancel(folder.name)


def job_dir(bench: Bench) -> Path:
    return bench.jobs.folder / bench.name


def leader(bench: Bench) -> int:
    return int((job_dir(bench) / "id").read_text().split()[0])


def alive(bench: Bench) -> list[int]:
    pid = leader(bench)
    stat = (job_dir(bench) / "id").read_text().split()
    return living(job_dir(bench), pid, int(stat[20]))


def keepers(bench: Bench) -> list[int]:
    """Those of the job's processes that only keep it; the one that leads comes first."""
    own = [pid for pid in alive(bench) if b"job_keeper" in _command(pid)]
    return sorted(own, key=lambda pid: pid != leader(bench))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def running(bench: Bench, script: str = WAITING) -> int:
    """The number of the program of a job that has begun."""
    bench.submit("/bin/sh", "-c", script)
    pid = bench.output / "pid"
    wait_until(pid.exists, "the program runs")
    return int(pid.read_text())


def go_on(bench: Bench) -> None:
    (bench.output / "gate").write_text("\n")


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(_runs(pid) for pid in pids), "they are gone")


def _runs(pid: int) -> bool:
    facts = facts_of(pid)
    return facts is not None and facts.state not in "ZX"


# --- killed


@pytest.mark.parametrize("which", [0, 1], ids=["the one that leads", "the other"])
def test_a_job_goes_on_and_its_end_is_known_although_a_keeper_was_killed(
    bench: Bench, which: int
) -> None:
    program = running(bench)
    kill(keepers(bench)[which])
    assert bench.state().state is JobState.RUNNING
    assert _runs(program)
    bench.submit("/bin/sh", "-c", "echo second > second")
    go_on(bench)
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 7)
    assert not (bench.output / "second").exists()


def test_what_a_job_prints_is_kept_although_who_reads_it_was_killed(bench: Bench) -> None:
    running(bench, f"echo before; ({WAITING}); echo after; exit 0")
    wait_until(lambda: bench.log_tail("job") == "before", "the log")
    kill(keepers(bench)[1])
    go_on(bench)
    assert bench.result().state is JobState.SUCCEEDED
    assert bench.log_tail("job").splitlines() == ["before", "after"]


@pytest.mark.parametrize("script", [WAITING, f"setsid sh -c '{WAITING}' & wait"])
def test_a_job_has_not_ended_while_any_of_its_processes_lives(bench: Bench, script: str) -> None:
    program = running(bench, script)
    kill(*keepers(bench))
    kill(*(pid for pid in alive(bench) if pid != program))
    report = bench.state()
    assert (report.state, report.exit_code) == (JobState.RUNNING, None)
    assert "it goes on: process" in str(report.detail)
    go_on(bench)
    assert bench.result().state is JobState.FAILED
    assert "gone and left no exit code" in str(bench.state().detail)


@pytest.mark.parametrize("left", [f"sh -c '{WAITING}' &", f'setsid sh -c "{DEAF}" &'])
def test_what_a_program_leaves_behind_has_ended_before_the_job_has(bench: Bench, left: str) -> None:
    program = running(bench, f"{left} until [ -e pid ]; do sleep 0.05; done; kill -KILL $$")
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 137)
    assert not _runs(program)


def test_a_process_of_another_job_is_none_of_this_one(bench: Bench) -> None:
    program = running(bench)
    other = subprocess.Popen(
        ["sleep", "60"], env={MARK: f"{job_dir(bench)}-2"}, start_new_session=True
    )
    assert program in alive(bench)
    assert other.pid not in alive(bench)
    bench.jobs.cancel("job")
    assert other.poll() is None
    kill(other.pid)
    other.wait()


@pytest.mark.parametrize("script", [WAITING, DEAF, f'setsid sh -c "{DEAF}" & wait'])
def test_nothing_of_a_job_lives_on_once_it_is_cancelled(bench: Bench, script: str) -> None:
    program = running(bench, script)
    bench.jobs.cancel("job")
    assert not _runs(program)
    assert bench.result().state is JobState.CANCELLED
    assert alive(bench) == []


def test_a_job_whose_keepers_were_killed_can_be_cancelled(bench: Bench) -> None:
    program = running(bench, DEAF)
    kill(*keepers(bench))
    bench.jobs.cancel("job")
    assert not _runs(program)
    assert bench.state().state is JobState.CANCELLED


def test_a_job_s_program_finds_signals_as_usual_and_nothing_of_its_keepers(bench: Bench) -> None:
    script = "trap > traps; yes | head -n1; env > found; cat; ls -l /proc/self/fd > files"
    bench.submit("/bin/sh", "-c", script)
    assert bench.result().state is JobState.SUCCEEDED
    assert bench.log_tail("job") == "y"
    assert (bench.output / "traps").read_text() == ""
    names = {line.partition("=")[0] for line in (bench.output / "found").read_text().splitlines()}
    assert names <= {"HOME", "LANG", "TMPDIR", "PATH", "PWD", "OLDPWD", "_", "SHLVL", MARK}
    lines = (bench.output / "files").read_text().splitlines()
    opened = {line.split()[-3] for line in lines if "->" in line}
    assert opened == {"0", "1", "2", "3"}  # the last is of `ls` itself


def test_no_second_program_is_started_while_the_first_one_lives(services: Services) -> None:
    custom_settings(services, "s", f"echo begun >> begun; {WAITING}", metrics_type="custom")
    backed_up(services, "thermo1", "a.raw")
    submit_jobs(services, "a.raw", run_id="q", slots=each(5), by_hand=False)
    [job] = services.store.jobs.of("a.raw")
    output = services.result_folder(job)
    wait_until((output / "pid").exists, "the program runs")
    engine = services.engines["local"]
    assert isinstance(engine, LocalJobs)
    kept = Bench(output)
    kept.jobs, kept.name = engine, job.id
    kill(*keepers(kept))
    poll(services, slots=each(5))
    assert collect(services, "a.raw", run_id="c").raw_file.status is Status.QUANTING
    with pytest.raises(StatusConflict):
        retry(services, "a.raw", asked_by="me")
    submit_jobs(services, "a.raw", run_id="q2", slots=each(5), by_hand=False)
    assert (output / "begun").read_text() == "begun\n"
    (output / "gate").write_text("\n")
    wait_until(lambda: not alive(kept), "it has ended")
    poll(services, slots=each(5))
    assert collect(services, "a.raw", run_id="c").raw_file.status is Status.QUANTING_FAILED
    retry(services, "a.raw", asked_by="me")


# --- full


@pytest.fixture
def small(bench: Bench) -> Iterator[Path]:
    """Kraken's home as a disk of its own, with room for little."""
    home = bench.jobs.folder
    home.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", home]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        unavailable("a tmpfs can't be mounted; this needs root")
    yield home
    for folder in home.glob("job*"):
        bench.jobs.cancel(folder.name)
    subprocess.run(["umount", "-l", home], check=True)


def fill(disk: Path) -> Path:
    full = disk / "fill"
    with full.open("ab", buffering=0) as file:
        size = 64 * 1024
        while size:
            try:
                file.write(secrets.token_bytes(size))
            except OSError:
                size //= 2
    return full


@pytest.mark.parametrize("code", [0, 3])
def test_a_full_home_is_no_end_of_a_job(bench: Bench, small: Path, code: int) -> None:
    running(bench, f"({WAITING}); exit {code}")
    fill(small)
    go_on(bench)
    ended = JobState.FAILED if code else JobState.SUCCEEDED
    assert (bench.result().state, bench.result().exit_code) == (ended, code)
    assert bench.result().ended_at is not None


def test_a_program_that_prints_more_than_there_is_room_for_goes_on(
    bench: Bench, small: Path
) -> None:
    script = "set -e; echo first; head -c 5000000 /dev/zero; echo middle; "
    running(bench, f"{script} ({WAITING}) || echo last; echo done > result")
    wait_until(lambda: not os.statvfs(small).f_bavail, "it is full")
    (small / "room").symlink_to("/")  # a name needs no room
    (job_dir(bench) / "log.txt").rename(small / "moved")
    (small / "moved").write_bytes(b"")
    go_on(bench)
    assert bench.result().state is JobState.SUCCEEDED
    assert (bench.output / "result").read_text() == "done\n"
    lines = (small / "moved").read_bytes().splitlines()
    assert lines[-1] == b"last"
    assert b"bytes are missing here" in lines[-2]


def test_an_exit_code_without_room_of_its_own_is_left_in_the_output_folder(
    bench: Bench, small: Path
) -> None:
    running(bench)
    (job_dir(bench) / EXIT_CODE).unlink()
    fill(small)
    go_on(bench)
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 7)
    assert bench.result().ended_at is not None
    assert (bench.output / LEFT_IN_OUTPUT).read_text() == "7 local job\n"


def test_an_exit_code_that_can_be_left_nowhere_waits(bench: Bench, small: Path) -> None:
    running(bench)
    (job_dir(bench) / EXIT_CODE).unlink()
    fill(small)
    away = bench.output.with_name("away")
    go_on(bench)
    bench.output.rename(away)
    wait_until(lambda: len(alive(bench)) == 2, "only the keepers are left")
    assert bench.state().state is JobState.RUNNING
    away.rename(bench.output)
    assert (bench.result().state, bench.result().exit_code) == (JobState.FAILED, 7)


def test_a_job_for_which_there_is_no_room_is_not_begun_and_tried_again(
    bench: Bench, small: Path
) -> None:
    full = fill(small)
    for _ in range(2):
        with pytest.raises(SubmitFailed, match="No space left on device") as caught:
            bench.submit("/bin/sh", "-c", "echo one >> lines")
        assert caught.value.transient
        assert bench.jobs.find("job") is None
        assert not (bench.output / "lines").exists()
    full.unlink()
    bench.submit("/bin/sh", "-c", "echo one >> lines")
    assert bench.result().state is JobState.SUCCEEDED
    assert bench.lines() == ["one"]
