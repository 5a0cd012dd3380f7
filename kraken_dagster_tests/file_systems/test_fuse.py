"""What a copy and a look do on a share that counts, hangs and dies: a FUSE file system."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model import errors
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import require
from kraken_dagster_tests.backup.copying.copying_cases import (
    Copying,
    content,
    make,
    parts,
    unavailable,
    write,
)
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS, aside, moved, purge_all
from kraken_dagster_tests.retention.retention_cases import content as all_content
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = pytest.mark.fuse
LONG_S = 60.0


@dataclass
class Share:
    """An instrument's folder, seen through a mount that a process of its own serves."""

    mountpoint: Path
    counter: Path
    process: "subprocess.Popen[bytes]"

    def state(self) -> str:
        """The process's state as the kernel has it: `T` is stopped."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2][0]

    def stop_after(self, read_bytes: int) -> None:
        self.counter.with_name(f"{self.counter.name}.stop").write_text(str(read_bytes))

    def wait_until_stopped(self) -> None:
        wait_until(lambda: self.state() == "T", "the share hangs")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        wait_until(lambda: self.state() != "T", "the share goes on")

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        subprocess.run(["fusermount3", "-u", "-z", self.mountpoint], capture_output=True)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_share(source: Path, mountpoint: Path, counter: Path) -> Share:
    """A mount of `source`; a skip, or a failure in CI, where there can be none."""
    if not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None:
        unavailable("no FUSE: /dev/fuse or fusermount3 is missing")
    mountpoint.mkdir(exist_ok=True)
    program = [sys.executable, "-m", "kraken_dagster_tests.file_systems.fuse_folder"]
    with counter.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([*program, source, mountpoint, counter], stderr=log)
    share = Share(mountpoint, counter, process)
    wait_until(lambda: os.path.ismount(mountpoint) or process.poll() is not None, "the mount")
    if process.poll() is not None:
        unavailable(f"FUSE can't mount: {counter.with_suffix('.log').read_text()[-500:]}")
    return share


@pytest.fixture(params=[Vendor.THERMO, Vendor.BRUKER])
def direct(request: pytest.FixtureRequest, tmp_path: Path) -> Copying:
    """The raw file as it is on the instrument's own disk, of several megabytes."""
    case = make(tmp_path, request.param)
    write(case.source / case.members()[-1], 20_000_000, seed=5)
    return case


@pytest.fixture
def share(direct: Copying, tmp_path: Path) -> Iterator[Share]:
    share = start_share(direct.source, tmp_path / "share", tmp_path / "read.json")
    yield share
    share.end()


@pytest.fixture
def shared_case(direct: Copying, share: Share) -> Copying:
    """The same raw file as it is seen through the share."""
    return replace(direct, source=share.mountpoint)


def sizes(case: Copying) -> dict[str, int]:
    """What a single reading of all members comes to; an empty one gives no bytes."""
    found = {name: (case.source / name).stat().st_size for name in case.members()}
    return {name: size for name, size in found.items() if size}


def scanners() -> list[int]:
    """Our processes that list folders, by number; a dead one has no command line any more."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if any(word.endswith(b"scan_folder.py") for word in words) and parent == os.getpid():
                found.append(int(process.name))
    return found


def scan(folder: Path, timeout_s: float = LONG_S) -> list[str]:
    listing = list_folder(str(folder), main_files=["analysis.tdf_bin"], timeout_s=timeout_s)
    return [entry.name for entry in listing.entries]


def scan_if_it_answers(folder: Path) -> list[str] | None:
    """Nothing as long as the child that hung is not quite gone."""
    with suppress(errors.FolderHangs):
        return scan(folder)
    return None


def test_the_source_is_read_once(direct: Copying, shared_case: Copying, share: Share) -> None:
    shared_case.run()
    assert json.loads(share.counter.read_text()) == sizes(direct)
    assert content(direct.final) == content(direct.source / direct.name)


def test_what_is_there_already_is_proven_by_one_reading(
    shared_case: Copying, share: Share, direct: Copying
) -> None:
    direct.run()
    assert shared_case.run().copied == 0
    assert json.loads(share.counter.read_text()) == sizes(direct)


def test_a_share_that_hangs_in_mid_copy_stalls_it_and_is_copied_once_it_answers(
    direct: Copying, shared_case: Copying, share: Share
) -> None:
    plan = shared_case.plan()
    share.stop_after(10_000_000)
    with pytest.raises(errors.CopyStalled):
        shared_case.run(plan=plan, stall_s=1.5)
    share.wait_until_stopped()
    assert not direct.final.exists()
    share.go_on()
    shared_case.run()
    assert content(direct.final) == content(direct.source / direct.name)
    wait_until(lambda: not parts(direct.target), "what hung clears up")
    assert [*direct.target.iterdir()] == [direct.final]


@pytest.mark.parametrize("direct", [Vendor.BRUKER], indirect=True)
def test_a_share_that_hangs_before_the_first_byte_stalls_the_copy(
    direct: Copying, shared_case: Copying, share: Share
) -> None:
    plan = shared_case.plan()
    share.stop_after(0)
    with pytest.raises(errors.CopyStalled):
        shared_case.run(plan=plan, stall_s=1.0)
    assert not direct.final.exists()


def test_a_share_that_dies_in_mid_copy_leaves_nothing_partial(
    direct: Copying, shared_case: Copying, share: Share
) -> None:
    plan = shared_case.plan()
    share.stop_after(10_000_000)

    def kill_it() -> bool:
        if share.process.poll() is None and share.state() == "T":
            share.process.kill()
        return True

    with pytest.raises((errors.SourceUnreadable, errors.SourceMissing)):
        shared_case.run(plan=plan, still_ours=kill_it)
    assert share.process.wait() == -signal.SIGKILL
    assert not direct.final.exists()
    assert not parts(direct.target)


@pytest.mark.parametrize("direct", [Vendor.BRUKER], indirect=True)
def test_a_folder_that_hangs_is_said_to_hang_and_looked_at_by_one_child_only(share: Share) -> None:
    assert scan(share.mountpoint) == ["x.d"]
    share.stop_after(0)
    with pytest.raises(errors.FolderHangs):
        scan(share.mountpoint, timeout_s=1.0)
    share.wait_until_stopped()
    hanging = scanners()
    assert len(hanging) == 1
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(scan, share.mountpoint, timeout_s=10.0)
        wait_until(lambda: second.done() or scanners() != hanging, "an answer")
        assert scanners() == hanging
        with pytest.raises(errors.FolderHangs):
            second.result()
    share.go_on()
    assert wait_until(lambda: scan_if_it_answers(share.mountpoint), "an answer") == ["x.d"]


@pytest.mark.parametrize("direct", [Vendor.THERMO], indirect=True)
def test_a_folder_whose_server_was_stopped_hangs_and_answers_again(share: Share) -> None:
    share.process.send_signal(signal.SIGSTOP)
    share.wait_until_stopped()
    with pytest.raises(errors.FolderHangs):
        scan(share.mountpoint, timeout_s=1.0)
    share.go_on()
    assert wait_until(lambda: scan_if_it_answers(share.mountpoint), "an answer") == ["x.raw"]


@pytest.mark.parametrize("direct", [Vendor.THERMO], indirect=True)
def test_a_folder_whose_server_died_is_unreadable(share: Share) -> None:
    share.process.kill()
    share.process.wait()
    with pytest.raises(errors.FolderUnreadable):
        scan(share.mountpoint)


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_a_backup_that_is_the_instruments_disk_by_another_mount_stays(
    services: Services, tmp_path: Path, instrument_id: str, name: str
) -> None:
    """The mount numbers its files by itself, so that nothing but their times is the same."""
    folder = services.backup_folder(moved(services, instrument_id, name))
    shutil.rmtree(folder)
    here = aside(services, instrument_id)
    before = all_content(here)
    share = start_share(here, folder, tmp_path / "read.json")
    try:
        outcome = purge_all(services, instrument_id)
    finally:
        share.end()
    assert outcome.deleted == ()
    assert "are one file" in outcome.kept[0].reason
    assert all_content(here) == before


def test_a_store_that_is_mounted_anew_is_there_though_a_look_at_the_old_mount_still_hangs(
    services, tmp_path
):
    root, disk = services.config.locations.backup.path, tmp_path / "disk"
    shutil.copytree(root, disk)
    share = start_share(disk, root, tmp_path / "counter")
    try:
        share.stop_after(0)
        with pytest.raises(errors.StoreAway, match="no answer within"):
            require(services, Role.BACKUP, timeout_s=0.5)
        share.wait_until_stopped()
        with pytest.raises(errors.StoreAway, match="no answer to an earlier look"):
            require(services, Role.BACKUP, timeout_s=LONG_S)
        subprocess.run(["umount", "-l", root], check=True)
        require(services, Role.BACKUP, timeout_s=LONG_S)
        assert share.state() == "T"
    finally:
        share.end()
