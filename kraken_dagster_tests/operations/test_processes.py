"""Which configuration runs: told from MongoDB, and where the file has a mistake, without it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import CONFIG_VARIABLE
from kraken_dagster.monitoring.loaded import loaded_now, remember
from kraken_dagster.operations.report import status
from kraken_dagster.runtime.open_store import HOME_VARIABLE
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import Instance, Loaded, OnDisk
from kraken_dagster_tests.conftest import Clock
from kraken_dagster_tests.support.helpers import wait_until

EARLIER = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
PROBLEM = "line 3: no such key"


@contextmanager
def code_server(config: Path, home: Path) -> Iterator[int]:
    """A process that looks like one, of a `kraken up` with this configuration."""
    environment = {**os.environ, CONFIG_VARIABLE: str(config), HOME_VARIABLE: str(home)}
    command = [sys.executable, "-c", "import time; time.sleep(600)", "grpc"]
    with subprocess.Popen(command, env=environment) as process:
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        wait_until(lambda: b"grpc" in cmdline.read_bytes(), "it has begun")
        try:
            yield process.pid
        finally:
            process.kill()


def said(home: Path, loaded: Loaded) -> None:
    (home / "loaded").mkdir(parents=True, exist_ok=True)
    path = home / "loaded" / f"{loaded.process}-{loaded.pid}.json"
    path.write_text(loaded.model_dump_json())


def loaded(
    pid: int, *, process: str = "daemon", since: datetime = LATER, problem: str | None = None
) -> Loaded:
    return Loaded(
        process=process, pid=pid, digest="abc", file_time=EARLIER, since=since, problem=problem
    )


def test_with_a_broken_file_status_says_what_runs_since_when_and_what_it_means(
    tmp_path: Path,
) -> None:
    config, home = tmp_path / "instruments.yaml", tmp_path / "home"
    config.write_text("instruments: [\n")
    with code_server(config, home) as pid:
        # The newest code server could not load the file, and says so by the digest of that.
        said(home, loaded(pid).model_copy(update={"digest": "broken", "problem": PROBLEM}))
        remember(home, [loaded(1, since=datetime(2026, 3, 1, 8, 5, tzinfo=UTC), problem=PROBLEM)])
        found = CliRunner().invoke(main, ["--config", str(config), "status"])
    assert found.exit_code == 1
    known, meaning, error = found.stderr.splitlines()
    assert known == (
        "daemon knows the configuration that was written at 2026-03-01 08:00:00 UTC (abc), "
        "since 2026-03-01 08:05:00 UTC"
    )
    assert "nothing new is begun; runs and jobs at work go on. Next: correct it" in meaning
    assert "not valid YAML" in error


def test_with_a_broken_file_and_a_code_server_that_has_another_what_runs_goes_on(
    tmp_path: Path,
) -> None:
    config, home = tmp_path / "instruments.yaml", tmp_path / "home"
    config.write_text("instruments: [\n")
    with code_server(config, home) as pid:
        remember(home, [loaded(pid, process="code_server", problem=PROBLEM)])
        found = CliRunner().invoke(main, ["--config", str(config), "status"])
    known, meaning, _ = found.stderr.splitlines()
    assert known.startswith("code_server knows the configuration that was written at 2026-03-01")
    assert meaning.startswith("sensors, runs and jobs go on by the configuration that is known.")


def test_with_a_broken_file_and_nothing_that_runs_only_the_mistake_is_told(tmp_path: Path) -> None:
    config = tmp_path / "instruments.yaml"
    config.write_text("instruments: [\n")
    found = CliRunner().invoke(main, ["--config", str(config), "status"])
    [error] = found.stderr.splitlines()
    assert "not valid YAML" in error


def test_a_code_server_that_could_not_load_leaves_what_was_known(tmp_path: Path) -> None:
    with code_server(tmp_path / "instruments.yaml", tmp_path) as pid:
        said(tmp_path, loaded(pid, since=EARLIER))
        said(tmp_path, loaded(2, since=LATER, problem=PROBLEM))
        [found] = loaded_now(tmp_path, [])
    assert (found.pid, found.since, found.problem) == (pid, EARLIER, PROBLEM)
    assert found.stands  # a daemon ticks only what it could load
    # The good one ends a while later, as the daemon's do each minute.
    [found] = loaded_now(tmp_path, [found])
    assert (found.digest, found.since, found.problem) == ("abc", EARLIER, PROBLEM)


def test_a_code_server_that_could_not_load_another_file_goes_on_until_it_ends(
    tmp_path: Path,
) -> None:
    with code_server(tmp_path / "instruments.yaml", tmp_path) as pid:
        said(tmp_path, loaded(pid, process="code_server", since=EARLIER))
        said(tmp_path, loaded(2, process="code_server", since=LATER, problem=PROBLEM))
        [found] = loaded_now(tmp_path, [])
    assert (found.pid, found.problem, found.stands) == (pid, PROBLEM, False)
    [found] = loaded_now(tmp_path, [found])
    assert (found.digest, found.problem, found.stands) == ("abc", PROBLEM, True)


@pytest.mark.parametrize(
    ("digest", "age_min", "on_disk", "at_load", "stands", "state", "told"),
    [
        ("abc", 60, None, None, False, "current", None),
        ("abc", 60, None, PROBLEM, False, "current", None),  # a mistake that was undone
        ("new", 1, None, None, False, "the file is newer", None),
        ("new", 60, None, None, False, "the file is newer", "`kraken reload` says why"),
        ("new", 1, PROBLEM, PROBLEM, False, "the file is broken", "sensors, runs and jobs go on"),
        ("new", 1, PROBLEM, PROBLEM, True, "the file is broken", "nothing new is begun"),
        ("abc", 1, None, PROBLEM, True, "the file was mended", "nothing new is begun until"),
    ],
)
def test_status_says_how_the_code_server_stands_to_the_file(
    services: Services,
    *,
    digest: str,
    age_min: float,
    on_disk: str | None,
    at_load: str | None,
    stands: bool,
    state: str,
    told: str | None,
) -> None:
    now = services.now()
    written = now - timedelta(minutes=age_min)
    disk = OnDisk(path="instruments.yaml", digest=digest, file_time=written, problem=on_disk)
    running = loaded(1, process="code_server", problem=at_load).model_copy(
        update={"stands": stands}
    )
    instance = Instance(
        id="h", host="h", home="/h", pid=1, instruments=[*services.config.instruments],
        since=EARLIER, seen_at=now, loaded=[running], on_disk=disk,
    )  # fmt: skip
    services.store.instances.seen(instance)
    [row] = status(services)["processes"]
    assert (row["state"], row["stands"]) == (state, stands)
    assert (row["told"] is None) if told is None else (told in row["told"])


@pytest.mark.parametrize(
    ("digest", "age_min", "on_disk", "at_load", "state", "of_daemon", "of_dagit"),
    [
        ("abc", 60, None, None, "current", None, None),
        ("new", 1, None, None, "the file is newer", None, None),
        ("new", 60, None, None, "the file is newer", "has not taken up", "has not taken up"),
        ("new", 1, PROBLEM, None, "the file is broken", "nothing new is begun", "shows no sensors"),
        ("new", 9, PROBLEM, PROBLEM, "the file is broken", "nothing new is begun", "correct the"),
        ("new", 1, None, PROBLEM, "the file was mended", "within about 90 s", "reload it in Dagit"),
        ("abc", 1, None, PROBLEM, "the file was mended", "within about 90 s", "reload it in Dagit"),
    ],
)
def test_status_says_how_each_process_stands_to_the_file(
    services: Services,
    *,
    digest: str,
    age_min: float,
    on_disk: str | None,
    at_load: str | None,
    state: str,
    of_daemon: str | None,
    of_dagit: str | None,
) -> None:
    now = services.now()
    written = now - timedelta(minutes=age_min)
    disk = OnDisk(path="instruments.yaml", digest=digest, file_time=written, problem=on_disk)
    running = [loaded(1, process=name, problem=at_load) for name in ("daemon", "dagit")]
    instance = Instance(
        id="h", host="h", home="/h", pid=1, instruments=[*services.config.instruments],
        since=EARLIER, seen_at=now, loaded=running, on_disk=disk,
    )  # fmt: skip
    services.store.instances.seen(instance)
    found = status(services)
    rows = {item["process"]: item for item in found["processes"]}
    assert {item["state"] for item in rows.values()} == {state}
    for row, told in ((rows["daemon"], of_daemon), (rows["dagit"], of_dagit)):
        assert (row["told"] is None) if told is None else (told in row["told"])
        assert (row["told"] in found["wrong"]) == (told is not None)


def test_a_daemon_that_can_not_load_the_file_is_no_sensor_that_was_switched_off(
    services: Services, clock: Clock
) -> None:
    services.store.health.unwell("thermo1", details="", now=services.now())
    clock.forward(minutes=20)
    disk = OnDisk(path="instruments.yaml", digest="new", file_time=clock(), problem=PROBLEM)
    instance = Instance(
        id="h", host="h", home="/h", pid=1, instruments=["thermo1"], since=EARLIER,
        seen_at=clock(), loaded=[loaded(1, problem=PROBLEM)], on_disk=disk,
    )  # fmt: skip
    services.store.instances.seen(instance)
    wrong = status(services)["wrong"]
    assert [line for line in wrong if "is thermo1_watcher on?" in line] == []
    assert any("nothing new is begun" in line for line in wrong)
