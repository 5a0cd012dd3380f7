"""The processes that list folders live on, and one that is of no use any more is replaced."""

import os
import signal
from pathlib import Path

import pytest

from kraken_dagster.fs import scanners
from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.model.errors import FolderHangs, FolderUnreadable


@pytest.fixture(autouse=True)
def _none_is_left() -> None:
    while scanners._idle:
        scanners._idle.pop().kill()


def look(folder: Path, timeout_s: float = 60.0) -> list[str]:
    return [entry.name for entry in list_folder(str(folder), timeout_s=timeout_s).entries]


def the_one() -> int:
    (scanner,) = scanners._idle
    return scanner.process.pid


def test_one_process_serves_look_after_look(tmp_path):
    (tmp_path / "a.raw").touch()
    assert look(tmp_path) == ["a.raw"]
    first = the_one()
    with pytest.raises(FolderUnreadable):
        look(tmp_path / "a.raw")
    (tmp_path / "b.raw").touch()
    assert look(tmp_path) == ["a.raw", "b.raw"]
    assert the_one() == first


def test_one_that_was_killed_is_replaced(tmp_path):
    (tmp_path / "a.raw").touch()
    look(tmp_path)
    os.kill(the_one(), signal.SIGKILL)
    assert look(tmp_path) == ["a.raw"]


def test_one_that_gives_no_answer_costs_its_folder_one_look_and_the_others_none(tmp_path):
    for name in ("sick", "well"):
        (tmp_path / name).mkdir()
    look(tmp_path / "sick")
    stopped = the_one()
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(FolderHangs):
        look(tmp_path / "sick", timeout_s=0.3)
    assert look(tmp_path / "well") == []
    assert the_one() != stopped
    os.waitid(os.P_PID, stopped, os.WEXITED | os.WNOWAIT)  # it was killed
    assert look(tmp_path / "sick") == []


def test_a_look_that_was_interrupted_leaves_no_answer_for_the_next(tmp_path, monkeypatch):
    (tmp_path / "a.raw").touch()
    look(tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("kraken_dagster.fs.folder_listing.Entry", interrupted)
        with pytest.raises(KeyboardInterrupt):
            look(tmp_path)
    assert scanners._idle == []
    assert look(tmp_path) == ["a.raw"]
