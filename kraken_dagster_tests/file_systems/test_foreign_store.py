"""A backup store that refuses what is no part of the proof, and what `kraken doctor` says of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.stores.roots import read_marker
from kraken_dagster.fs.stores.store_probe import PREFIX, has_room
from kraken_dagster.metrics import rawqc
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.doctor.checks import _writable
from kraken_dagster.operations.init_store import mark
from kraken_dagster_tests.backup.copying.copying_cases import content, make, parts, write
from kraken_dagster_tests.backup.copying.test_resuming import (
    BLOCK,
    SIZE,
    Reads,
    copied,
    recorded,
    stopped,
)
from kraken_dagster_tests.file_systems.foreign import foreign
from kraken_dagster_tests.raw_readers.real_files import small_raw
from kraken_dagster_tests.support.helpers import (
    acquire,
    finish,
    manifest_holds,
    md5sum,
    wait_until,
)

pytestmark = pytest.mark.fuse
REFUSED = {
    "noutime": "setting a file's times: Operation not permitted",
    "nofsync": "flushing a file: Invalid argument",
    "nochmod": None,
    "nolink": None,
    "newino": None,
    "fat": None,
    "noutime,nochmod,nolink,nofsync,newino": "setting a file's times: Operation not permitted",
}


@pytest.mark.parametrize("way", REFUSED)
@pytest.mark.parametrize("vendor", Vendor)
def test_a_store_that_refuses_what_is_no_proof_takes_copies(tmp_path, vendor, way):
    case = make(tmp_path, vendor)
    with foreign(case.target, way) as real:
        result = case.run()
        reported = REFUSED[way]
        assert reported is None or reported in result.refused
        for name in case.members():
            assert content(real / name) == content(case.source / name)
            assert result.facts[name].md5 == md5sum(case.source / name)
        assert not parts(real)
        assert case.run().copied == 0  # it is all proven, and nothing is copied once more


@pytest.mark.parametrize("instrument_id", ["thermo1", "bruker1"])
def test_a_backup_is_made_where_times_can_not_be_set_and_that_is_recorded(services, instrument_id):
    name = {"thermo1": "x.raw", "bruker1": "x.d"}[instrument_id]
    acquire(services, instrument_id, name)
    finish(services, instrument_id)
    with foreign(services.config.locations.backup.path, "noutime,nochmod,nolink"):
        back_up(services, name, run_id="r", options=BackupOptions())
        after = services.store.raw_files.get(name)
        assert (after.status, after.is_backed_up) == (Status.COPYING_DONE, True)
        assert "setting a file's times: Operation not permitted" in after.history[-1]["reason"]
        assert manifest_holds(services.backup_folder(after), f"{name}.md5")


ALL_REFUSED = "noutime,nochmod,nolink,nofsync"


def test_a_store_that_refuses_what_is_no_proof_can_be_initialised(services):
    root = services.config.locations.backup.path
    with foreign(root, ALL_REFUSED):
        store_id = mark(services, Role.BACKUP, by="a test")
        assert read_marker(root) == {Role.BACKUP: store_id}


def test_results_are_written_where_nothing_can_be_flushed(tmp_path: Path):
    raw, output = tmp_path / "small.raw", tmp_path / "output"
    raw.write_bytes(small_raw())
    output.mkdir()
    with foreign(output, ALL_REFUSED):
        assert rawqc.main([str(raw), str(output)]) == 0
        assert [path.name for path in output.iterdir()] == ["msqc_results.tsv"]


def test_a_job_runs_whose_folder_can_not_be_flushed(tmp_path: Path):
    home, output = tmp_path / "home", tmp_path / "output"
    home.mkdir()
    with foreign(home, ALL_REFUSED):
        jobs = LocalJobs(home / "jobs")
        jobs.submit(JobSpec("j", (sys.executable, "-c", "pass"), {}, str(output)))
        wait_until(lambda: jobs.states(["j"])["j"].ended, "the job has ended")
        assert jobs.states(["j"])["j"].state is JobState.SUCCEEDED


def test_a_copy_that_died_goes_on_where_nothing_can_be_flushed(tmp_path: Path, monkeypatch):
    source, folder = write(tmp_path / "x.raw", SIZE), tmp_path / "b"
    folder.mkdir()
    with foreign(folder, ALL_REFUSED):
        target = folder / "x.raw"
        known = sum(size for _, size, _ in recorded(stopped(source, target)[1]))
        reads = Reads(monkeypatch, source)
        assert copied(source, target) == md5sum(source)
        assert 0 < reads.count <= SIZE - known + 4 * BLOCK < SIZE


@pytest.mark.parametrize("way", ["nolink", "nolink,nocase"])
def test_without_hard_links_nothing_is_replaced_either(tmp_path, way):
    case = make(tmp_path, Vendor.THERMO)
    with foreign(case.target, way) as real:
        (real / "x.raw").write_bytes(b"somebody else's")
        with pytest.raises(Exception, match="never overwritten"):
            case.run()
        assert (real / "x.raw").read_bytes() == b"somebody else's"


@pytest.mark.parametrize(
    ("way", "level", "reported"),
    [
        ("none", "ok", "writable"),
        ("noutime", "warning", "setting times: Operation not permitted"),
        ("nochmod", "warning", "taking the right to write: Operation not permitted"),
        ("nofsync", "warning", "flushing a file: Invalid argument"),
        ("nolink", "ok", "writable"),  # the kernel's rename that replaces nothing does
        ("nocase", "warning", "capital and small letters: it takes two names for one"),
        ("nfd", "warning", "ways to write an accent: it takes two names for one"),
        ("strip", "warning", "a name with a dot at its end: it is kept under another one"),
        ("fat", "ok", "writable"),
    ],
)
def test_doctor_names_the_operation_that_fails(tmp_path, way, level, reported):
    store = tmp_path / "store"
    store.mkdir()
    with foreign(store, way) as real:
        found = _writable("a store", store)
        assert (found.level, reported in found.found) == (level, True), found.found
        assert "writable" in found.found
        assert list(real.iterdir()) == []


def test_doctor_removes_what_a_probe_that_was_killed_has_left_and_nothing_else(tmp_path):
    left, young, other = (tmp_path / name for name in (f"{PREFIX}old", f"{PREFIX}new", "x.raw"))
    for path in (left, young):
        (path / "folder").mkdir(parents=True)
        (path / "folder" / "file").write_bytes(b"x")
    other.write_bytes(b"x")
    os.utime(left, (1, 1))
    assert _writable("a store", tmp_path).level == "ok"
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, other.name]


def test_a_store_that_tells_of_no_free_inodes_has_room(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    with foreign(store, "none") as real:
        facts = os.statvfs(store)
        assert facts.f_files > 0
        assert facts.f_favail == 0
        assert has_room(store, 4096)
        assert list(real.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("limit", ["size=8k", "nr_inodes=2"])
def test_a_store_that_takes_no_file_has_no_room(tmp_path, limit):
    mount = ["mount", "-t", "tmpfs", "-o", limit, "small", tmp_path]
    subprocess.run(mount, check=True)
    try:
        assert not has_room(tmp_path, 64 * 1024)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
