"""A child process with limits reads what strangers wrote: what it does costs that file only."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from kraken_dagster.fs.limited import child as limited_child
from kraken_dagster.fs.limited.child import call, end_idle
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.fs.stores.marker import Role, marker_line
from kraken_dagster.fs.stores.marker_file import write_marker
from kraken_dagster.fs.stores.roots import close_root, open_root
from kraken_dagster.model.errors import (
    CopyStalled,
    FileFormatError,
    MissingOutputError,
    ReadingEnded,
)
from kraken_dagster_tests.support.helpers import wait_until

LIMITS = ReadingLimits(memory_mb=512, cpu_s=1, written_mb=5, processes=10)
MARK = "KRAKEN_TEST_MARK"
READERS = """
import ctypes, mmap, os, pathlib, tempfile, time
from kraken_dagster.model.errors import FileFormatError, MissingOutputError

def pid(*_): return os.getpid()
def listed(folder): return sorted(item.name for item in folder.iterdir())
def refuses(folder):
    raise FileFormatError("It is torn", file=folder / "x.tsv", expected="2", found="1",
                          next_step="look.")
def misses(folder): raise MissingOutputError("A file is missing", file=folder)
def away(folder): raise OSError(5, "Input/output error", str(folder))
def wrong(folder): raise KeyError("a key")
def loops(folder):
    while True: pass
def sleeps(folder): time.sleep(1000)
def takes_memory(folder):
    kept = []
    while True: kept.append(bytearray(20_000_000))
def takes_shared_memory(folder):
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 20_000_000))
        kept[-1].write(b"x" * 20_000_000)
def forks(folder):
    while True:
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
def leaves_one(folder):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(1000)
        os._exit(0)
    return "left"
def comes_back_twice(folder):
    os.fork()
    return "once"
def prints(folder):
    for _ in range(3000): print("x" * 9_999)
    return "printed"
def writes(folder):
    with open(folder / "big", "wb") as file:
        while True: file.write(b"x" * 1_000_000)
def exits(folder): os._exit(3)
def crashes(folder): ctypes.string_at(0)
def is_killed(folder): os.kill(os.getpid(), 9)
def tells_much(folder): return "x" * 40_000_000
def tells_deep(folder):
    deep = []
    for _ in range(500): deep = [deep]
    return deep
def keeps_a_file(folder):
    name = tempfile.mkdtemp()
    pathlib.Path(name, "copy").write_bytes(b"x")
    (folder / "told").write_text(name)
    time.sleep(1000)
"""


@pytest.fixture
def readers(tmp_path, monkeypatch):
    """A module of readers, and a mark by which all that it starts is known."""
    (tmp_path / "modules").mkdir()
    name = f"readers_{uuid.uuid4().hex}"
    (tmp_path / "modules" / f"{name}.py").write_text(READERS)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setenv(MARK, name)
    yield name
    end_idle()
    wait_until(lambda: not marked(name), "nothing runs on")


def marked(name: str) -> list[int]:
    """The processes that were started with the mark."""
    wanted = f"{MARK}={name}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def asked(readers: str, name: str, folder: Path, *, wall_s: float = 600, limits=LIMITS):
    return call(f"{readers}:{name}", folder, limits=limits, wall_s=wall_s, what=folder / "x.d")


def test_one_child_does_it_for_all_files_of_a_run(readers, tmp_path):
    pids = {asked(readers, "pid", tmp_path) for _ in range(20)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    with pytest.raises(FileFormatError):
        asked(readers, "refuses", tmp_path)
    assert {asked(readers, "pid", tmp_path)} == pids  # an error of the file's is no reason to end


def test_errors_come_back_as_they_are(readers, tmp_path):
    with pytest.raises(FileFormatError) as reported:
        asked(readers, "refuses", tmp_path)
    assert str(reported.value) == (
        f"It is torn: '{tmp_path}/x.tsv'. Expected 2. Found 1. Next: look."
    )
    with pytest.raises(MissingOutputError, match="A file is missing"):
        asked(readers, "misses", tmp_path)
    with pytest.raises(OSError, match="Input/output error") as refusal:
        asked(readers, "away", tmp_path)
    assert (refusal.value.errno, refusal.value.filename) == (5, str(tmp_path))
    with pytest.raises(KeyError, match=r"^'a key'$"):
        asked(readers, "wrong", tmp_path)


ENDED = {
    "loops": "Reading takes more processor time than allowed",
    "takes_memory": "Reading takes more memory than allowed",
    "takes_shared_memory": "Reading takes more memory than allowed",
    "forks": "Reading starts more processes than allowed",
    "exits": "Found exit code 3",
    "crashes": "Found the signal SIGSEGV",
    "is_killed": "Found the signal SIGKILL",
    "tells_much": "What was read is too long",
}


@pytest.mark.parametrize("name", ENDED)
def test_a_file_that_ends_its_reader_has_an_error_of_its_own(readers, tmp_path, name):
    with pytest.raises(ReadingEnded, match=ENDED[name]) as reported:
        asked(readers, name, tmp_path)
    assert reported.value.file == str(tmp_path / "x.d")
    assert reported.value.next_step
    assert not reported.value.transient
    assert asked(readers, "listed", tmp_path) == ["modules"]  # the next file goes on


def test_a_reader_that_waits_for_ever_is_ended(readers, tmp_path):
    with pytest.raises(ReadingEnded, match="takes longer than allowed, though its folder answers"):
        asked(readers, "sleeps", tmp_path, wall_s=1)
    assert asked(readers, "listed", tmp_path) == ["modules"]


def test_where_the_share_gives_no_answer_it_is_no_fault_of_the_file(readers, tmp_path, monkeypatch):
    def hang(path):
        time.sleep(5)
        return iter(())

    monkeypatch.setattr(limited_child, "entries_below", hang)
    with pytest.raises(CopyStalled):
        asked(readers, "sleeps", tmp_path, wall_s=1)


@pytest.mark.parametrize("name", ["leaves_one", "comes_back_twice"])
def test_processes_that_a_reader_leaves_behind_are_ended(readers, tmp_path, name):
    assert asked(readers, name, tmp_path) in ("left", "once")
    assert marked(readers) == []
    assert asked(readers, "listed", tmp_path) == ["modules"]


def test_what_a_reader_prints_is_bounded(readers, tmp_path, capfd):
    limits = LIMITS.model_copy(update={"cpu_s": 30})
    assert asked(readers, "prints", tmp_path, limits=limits) == "printed"
    end_idle()
    printed = capfd.readouterr().err
    assert printed.startswith("xxx")
    assert len(printed) <= 64 * 1024


def test_what_a_reader_writes_is_bounded(readers, tmp_path):
    with pytest.raises(OSError, match="File too large"):
        asked(readers, "writes", tmp_path)
    assert (tmp_path / "big").stat().st_size <= 5 * 1024 * 1024


def test_an_answer_of_many_levels_is_taken_or_refused(readers, tmp_path):
    found, levels = asked(readers, "tells_deep", tmp_path), 0
    while found:
        found, levels = found[0], levels + 1
    assert levels == 500


def test_a_path_through_an_open_root_leads_to_the_same_folder_in_the_child(readers, tmp_path):
    store = tmp_path / "store"
    (store / "results").mkdir(parents=True)
    (store / "results" / "stat.tsv").touch()
    write_marker(store, marker_line(Role.OUTPUT, "b" * 12))
    root = open_root(store, Role.OUTPUT, ["b" * 12])
    try:
        store.rename(tmp_path / "elsewhere")  # the handle counts, and not the path
        assert asked(readers, "listed", root.path / "results") == ["stat.tsv"]
        with pytest.raises(FileFormatError) as reported:
            asked(readers, "refuses", root.path / "results")
        assert reported.value.file == f"{store}/results/x.tsv"
    finally:
        close_root(root)


def test_nothing_goes_on_when_kraken_is_killed(readers, tmp_path):
    script = (
        "import sys; sys.path[:] = eval(sys.argv[1])\n"
        "from pathlib import Path\n"
        "from kraken_dagster.fs.limited.child import call\n"
        "from kraken_dagster.fs.limited.limits import ReadingLimits\n"
        "call(sys.argv[2], Path(sys.argv[3]), limits=ReadingLimits(), wall_s=600, what='x')\n"
    )
    arguments = [repr(sys.path), f"{readers}:keeps_a_file", str(tmp_path)]
    kraken = subprocess.Popen([sys.executable, "-c", script, *arguments])
    reported = tmp_path / "told"
    try:
        wait_until(lambda: reported.exists() and reported.read_text(), "a reader is at work")
    finally:
        kraken.send_signal(signal.SIGKILL)
        kraken.wait()
    wait_until(lambda: not marked(readers), "nothing runs on")
    wait_until(lambda: not Path(reported.read_text()).exists(), "its files are gone")
