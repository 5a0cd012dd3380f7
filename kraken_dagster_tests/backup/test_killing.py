"""Whatever is killed, whenever: in the end every file is backed up once and processed once."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from kraken_dagster.model.raw_file import OPEN_ACQUISITION, Status
from kraken_dagster_tests.file_systems.test_fuse import Share, start_share
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import PATIENCE_S, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.xdist_group("killing"),  # in one worker, as they share a laboratory
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]
BIG_NAME, BIG_MB = "all_2.raw", 300
ACQUIRED = frozenset(Status) - OPEN_ACQUISITION
IN_MID_COPY = 50_000_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.kill_everything()
    for path in lab.home.rglob(BIG_NAME):  # the rest is kept a while, for who looks
        path.unlink()


@pytest.fixture
def lab(running: Lab) -> Iterator[Lab]:
    """The laboratory, at work. Each test brings files of its own and leaves them done."""
    if running.process is None or running.process.poll() is not None:
        running.up()
    yield running
    print(running.log[-5000:])  # for who reads of a failed test


@pytest.fixture
def share(lab: Lab) -> Iterator[Share]:
    """The folder of `share1` as a mount that can be made to hang."""
    mountpoint, source = lab.home / "instruments" / "share1", lab.home / "share1"
    source.mkdir()
    mountpoint.rmdir()
    share = start_share(source, mountpoint, lab.home / "read.json")
    yield share
    share.end()


def _wait_for(lab: Lab, name: str, statuses: frozenset[Status]) -> None:
    what = f"{name} is in {sorted(statuses)}"
    wait_until(lambda: lab.status(name) in statuses, what, timeout_s=PATIENCE_S)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def test_files_are_done_once_although_daemon_and_server_are_killed(lab: Lab) -> None:
    names = [lab.add_thermo("children_1.raw"), lab.add_bruker("children_2.d")]
    _wait_for(lab, names[1], ACQUIRED)
    lab.kill("dagster-daemon")
    _wait_for(lab, names[1], ACQUIRED - {Status.MONITORING_DONE})
    lab.kill("secantusd-py")
    lab.wait_until_done(names)
    assert "the embedded MongoDB server has ended; starting it" in lab.log
    assert _parent(lab.find("secantusd-py")) == lab.process.pid  # and of no run or sensor
    assert lab.problems() == []


def _kept_from_the_final_name(part: Path, name: str) -> bool:
    return 0 < part.stat().st_size < BIG_MB * 1_000_000 and name not in os.listdir(part.parent)


def test_killed_copies_leave_nothing_under_the_final_name_and_are_made_again(lab: Lab) -> None:
    names = [lab.add_bruker("all_1.d"), lab.add_thermo(BIG_NAME, megabytes=BIG_MB)]
    pid, part = lab.mid_copy(at_least_bytes=IN_MID_COPY)
    os.kill(pid, signal.SIGKILL)
    assert _kept_from_the_final_name(part, names[1])
    dead_runs = [lab.run_of(names[1])]

    _, part = lab.mid_copy(at_least_bytes=IN_MID_COPY, not_by=pid)
    dead_runs.append(lab.run_of(names[1]))
    lab.kill_everything()
    assert _kept_from_the_final_name(part, names[1])

    lab.up()
    lab.wait_until_done(names)
    assert [lab.run_status(run) for run in dead_runs] == 2 * [dg.DagsterRunStatus.FAILURE]
    assert lab.problems() == []


def test_files_are_done_once_although_dagsters_storage_is_deleted(lab: Lab) -> None:
    names = [lab.add_thermo("storage_1.raw"), lab.add_bruker("storage_2.d")]
    _wait_for(lab, names[0], ACQUIRED)
    assert lab.stop() == 0
    lab.wait_until_ended()
    shutil.rmtree(lab.dagster_home)
    lab.up()
    lab.wait_until_done(names)
    assert lab.problems() == []


@pytest.mark.fuse
def test_a_share_that_hangs_in_mid_copy_holds_up_no_other_and_goes_on(
    lab: Lab, share: Share
) -> None:
    share.stop_after(10_000_000)
    hanging = lab.add_thermo("share_1.raw", megabytes=20, folder=lab.home / "share1")
    _wait_for(lab, hanging, ACQUIRED)
    other = lab.add_thermo("beside_1.raw")
    wait_until(lambda: share.state() == "T", "the share hangs", timeout_s=PATIENCE_S)
    lab.wait_until_done([other])
    wait_until(lambda: lab.health("share1")["status"] == "error", "the board says so")
    assert "gives no answer" in lab.health("share1")["status_details"]
    assert lab.health("thermo1")["status"] == "ok"
    wait_until(lambda: lab.status(hanging) is Status.ERROR, "the copy says so")
    share.go_on()
    lab.wait_until_done([hanging])
    assert lab.problems() == []
