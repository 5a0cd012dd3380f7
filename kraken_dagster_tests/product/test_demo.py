"""`kraken demo` and `kraken up` as commands."""

import json
import os
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import KRAKEN, processes_of
from kraken_dagster_tests.support.strangers import open_to_others

OF_ONE_ORDINARY_FILE_EACH = 8  # the Thermo's plan brings four more, the Sciex's one


def _kraken(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    return subprocess.run(
        [KRAKEN, *arguments],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )


def _are_nobody_elses_to_write(home: Path) -> None:
    """Kraken's own is Kraken's alone; backups are for all to read, results as the umask says."""
    own = [home / name for name in ("mongodb", "dagster", "jobs", "logs", "up.lock")]
    assert open_to_others(*own) == []
    kept = [path for path in (home / "backup").rglob("*") if path.name != MARKER_NAME]
    modes = {path.stat().st_mode & 0o777 for path in kept if path.is_file()}
    assert modes == {0o444}
    inside = {path.stat().st_mode & 0o777 for path in kept if path.suffix == ".d"}
    assert inside == {0o555}
    others = [path for path in (home / "output").rglob("*") if path.name == "stat.tsv"]
    assert {path.stat().st_mode & 0o777 for path in others} == {0o644}
    assert {path.parent.stat().st_mode & 0o777 for path in others} == {0o755}


@pytest.mark.lab
@pytest.mark.nightly  # CI has the demo of the installed package beside these
@pytest.mark.timeout(600)
def test_the_demo_ends_every_file_as_it_should_and_leaves_nothing_running(tmp_path: Path) -> None:
    real = tmp_path / "dagster_home_of_a_real_kraken"
    real.mkdir()
    done = _kraken(tmp_path, "demo", "--once", "--files", "1", DAGSTER_HOME=str(real))
    assert done.returncode == 0, done.stdout + done.stderr

    rows = [line for line in done.stdout.splitlines() if line.startswith("sim_")]
    backup = tmp_path / ".kraken-demo" / "backup"
    manifests = sorted(backup.rglob("*.md5"))
    assert len(rows) == OF_ONE_ORDINARY_FILE_EACH
    assert all("  as expected" in row for row in rows)
    for manifest in manifests:
        assert any(manifest.name.removesuffix(".md5") in row.split() for row in rows)
        command = ["md5sum", "--strict", "-c", manifest.name]
        assert subprocess.run(command, cwd=manifest.parent, capture_output=True).returncode == 0
    assert len(manifests) == OF_ONE_ORDINARY_FILE_EACH - 1  # one was renamed by its instrument
    assert "SIMULATION" in done.stdout
    _are_nobody_elses_to_write(tmp_path / ".kraken-demo")
    assert list(real.iterdir()) == []
    wait_until(lambda: not processes_of(tmp_path), "nothing runs any more")
    _practise(tmp_path, [line.strip() for line in done.stdout.splitlines()])


def _practise(folder: Path, lines: list[str]) -> None:
    """What the demo's last lines say: the failed search is done again, and succeeds."""
    up, retry = (
        next(
            shlex.split(line)[1:]
            for line in lines
            if line.startswith("kraken --config") and word in line
        )
        for word in (" up", " retry ")
    )
    raw_file_id = retry[-1]
    shown = json.loads(_kraken(folder, *up[:-1], "show", raw_file_id, "--json").stdout)
    assert shown["status"] == "quanting_failed"
    assert "on purpose" in shown["details"]
    (reported,) = [line for line in lines if raw_file_id in line and line.startswith("sim_")]
    assert "on purpose" in reported
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    with (folder / "up.log").open("wb") as log:
        kraken = subprocess.Popen(
            [KRAKEN, *up, "--port", str(free_port())], cwd=folder, env=kept, stdout=log, stderr=log
        )
    try:
        assert _kraken(folder, *retry).returncode == 0

        def status() -> str:
            answer = _kraken(folder, *up[:-1], "show", raw_file_id, "--json")
            return json.loads(answer.stdout)["status"]

        wait_until(lambda: status() == "done", "it has ended well", timeout_s=200, every_s=2)
    finally:
        kraken.send_signal(signal.SIGINT)
        kraken.wait(60)
    wait_until(lambda: not processes_of(folder), "nothing runs any more")


def test_the_demo_removes_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("precious")
    done = _kraken(tmp_path, "demo", "--once", "--home", "data")
    assert done.returncode == 1
    assert "The folder for the demo holds something else" in done.stderr
    assert [item.name for item in (tmp_path / "data").iterdir()] == ["thesis.txt"]


def test_kraken_up_refuses_a_port_that_is_taken_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "instruments.yaml").write_text(
        "locations: {instruments: i, backup: b, output: o}\ninstruments: {a: {type: thermo}}\n"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _kraken(tmp_path, "up", "--port", str(port))
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["instruments.yaml"]
    assert processes_of(tmp_path) == {}
