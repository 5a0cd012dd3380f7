"""`kraken status --watch`: counts and rates, and its end."""

import os
import signal
import subprocess
from pathlib import Path

from rich.console import Console

from kraken_dagster.cli.screens.status_watch import Rates, pictures
from kraken_dagster.model.raw_file import Status
from kraken_dagster.store.connection import Store, connect
from kraken_dagster_tests.support.helpers import record, wait_until, write_config
from kraken_dagster_tests.support.laboratory import KRAKEN


def _text(picture: object) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(picture)
    return capture.get()


def test_counts_and_files_a_minute_are_shown(store: Store) -> None:
    times = iter((0.0, 30.0))
    shown = pictures(store, ["thermo1"], Rates(), clock=lambda: next(times))
    store.raw_files.register(record("a.raw", status=Status.DONE), reason="x")
    assert "1" in _text(next(shown))
    for name in ("b.raw", "c.raw"):
        store.raw_files.register(record(name, status=Status.DONE), reason="x")
    row = next(line for line in _text(next(shown)).splitlines() if line.startswith("thermo1"))
    assert row.split() == ["thermo1", "3", "4.0"]


def test_a_rate_is_that_of_the_last_minute() -> None:
    rates = Rates()
    for second, ended in ((0, 0), (60, 600), (120, 600), (180, 600)):
        rates.add(second, {"thermo1": ended})
    assert rates.per_minute("thermo1") == 0


def test_a_mongodb_that_is_away_is_told_and_ends_nothing() -> None:
    away = connect("mongodb://127.0.0.1:1/", timeout_s=0.2)
    shown = pictures(away, ["thermo1"], Rates(), clock=lambda: 0.0)
    assert "can't be reached" in _text(next(shown))
    assert "can't be reached" in _text(next(shown))
    away.close()


def test_ctrl_c_ends_it_with_0(tmp_path: Path, mongodb_uri: str) -> None:
    path = write_config(tmp_path, mongodb_uri)
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [KRAKEN, "--config", str(path), "status", "--watch", "--every", "0.1"],
            stdout=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            wait_until(lambda: b"thermo1" in log.read_bytes(), "it shows something")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
