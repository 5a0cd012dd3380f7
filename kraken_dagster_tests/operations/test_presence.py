"""One `kraken up` for a home and for an instrument; what is said when none runs; what is left."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.presence import HomeLock, Presence, end_all_of, runs_here
from kraken_dagster.operations.report import status
from kraken_dagster.runtime.open_store import HOME_VARIABLE
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import LIVES_FOR, Instance
from kraken_dagster_tests.support.helpers import wait_until, write_config
from kraken_dagster_tests.support.laboratory import KRAKEN

_HOLDER = """import sys, time
from pathlib import Path
from kraken_dagster.operations.presence import HomeLock
lock = HomeLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_up_on_one_home_is_refused_and_says_who_is_there(
    tmp_path: Path, mongodb_uri: str
) -> None:
    path = write_config(tmp_path, mongodb_uri)
    lock = HomeLock(load_config(path).home)
    lock.take()
    done = subprocess.run(
        [KRAKEN, "--config", str(path), "up"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"process {os.getpid()}, since 20" in done.stderr
    assert "runs for this home already" in done.stderr
    lock.release()
    assert runs_here(lock.home) is None


def test_the_lock_of_one_that_was_killed_is_free(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert runs_here(tmp_path) is not None
    with pytest.raises(ConfigError, match=f"process {holder.pid}"):
        HomeLock(tmp_path).take()
    holder.kill()
    holder.communicate()
    HomeLock(tmp_path).take()


def _other(services: Services, **changes: object) -> Instance:
    other = Instance(
        id="pc9:/home/kraken",
        host="pc9",
        home="/home/kraken",
        pid=4711,
        instruments=["thermo1"],
        since=services.now(),
        seen_at=services.now(),
    )
    return other.model_copy(update=changes)


def test_another_host_that_serves_the_same_instrument_is_named(services: Services) -> None:
    services.store.instances.seen(_other(services))
    with pytest.raises(ConfigError, match=r"process 4711 on pc9, last sign of life .*thermo1"):
        Presence.of(services.store, services.config, now=services.now()).begin()
    assert services.store.instances.last(serving=["bruker1"]) is None


@pytest.mark.parametrize("why", ["other instruments", "lapsed", "ended", "died on this machine"])
def test_another_that_is_in_nobodys_way_is_not_refused(
    services: Services, tmp_path: Path, why: str
) -> None:
    mine = Presence.of(services.store, services.config, now=services.now())
    changes = {
        "other instruments": {"instruments": ["astral7"]},
        "lapsed": {"seen_at": services.now() - LIVES_FOR},
        "ended": {"ended_at": services.now()},
        "died on this machine": {"host": mine.instance.host, "home": str(tmp_path)},
    }
    services.store.instances.seen(_other(services, **changes[why]))
    mine.begin()
    found = services.store.instances.get(mine.instance.id)
    assert found is not None
    assert found.lives(services.now())


def test_hosts_that_share_a_mongodb_serve_instruments_of_their_own(services: Services) -> None:
    first = Presence.of(services.store, services.config.only({"thermo1"}), now=services.now())
    first.begin()
    elsewhere = services.config.only({"bruker1"}).model_copy(update={"home": Path("/elsewhere")})
    Presence.of(services.store, elsewhere, now=services.now()).begin()


def test_status_says_once_that_nothing_runs_since_when_and_how_to_start_it(
    services: Services,
) -> None:
    wrong = status(services)["wrong"]
    assert [line for line in wrong if "kraken up" in line] == [wrong[0]]
    assert "never started" in wrong[0]
    assert not [line for line in wrong if "_watcher on" in line]

    presence = Presence.of(services.store, services.config, now=services.now())
    presence.begin()
    assert not [line for line in status(services)["wrong"] if "not running" in line]
    assert [line for line in status(services)["wrong"] if "thermo1_watcher on" in line]

    presence.end(now=services.now())
    assert f"last seen {services.now():%Y-%m-%d %H:%M} UTC on" in status(services)["wrong"][0]
    later = replace(services, now=lambda: services.now() + timedelta(days=1))
    assert "ended" in status(later)["wrong"][0]


def test_what_up_has_started_ends_with_it_also_the_children_of_children(tmp_path: Path) -> None:
    """A child that has left for a session of its own, and whose parent is gone."""
    script = 'setsid sleep 600 > /dev/null & echo "$!"; trap "" TERM; exec sleep 600'
    ours = {**os.environ, HOME_VARIABLE: str(tmp_path)}
    others = {**os.environ, HOME_VARIABLE: f"{tmp_path}-another"}
    started = [
        subprocess.Popen(["sh", "-c", script], env=env, stdout=subprocess.PIPE, text=True)
        for env in (ours, others)
    ]
    lines = [process.stdout.readline() for process in started if process.stdout is not None]
    child, other_child = (int(line) for line in lines)
    try:
        started[0].kill()
        started[0].communicate()
        wait_until(lambda: Path(f"/proc/{child}/stat").exists(), "the orphan is there")
        end_all_of(tmp_path)
        assert not _lives(child)
        assert _lives(other_child)
        assert started[1].poll() is None
    finally:
        for pid in (other_child, started[1].pid):
            os.kill(pid, signal.SIGKILL)
        started[1].communicate()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_home_of_somebody_else_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    path = write_config(tmp_path, "mongodb://127.0.0.1:9/", home="home")
    done = CliRunner().invoke(main, ["--config", str(path), "up"])
    assert done.exit_code == 1
    assert "Kraken's home can't be written to" in done.stderr


def test_a_home_on_a_read_only_disk_is_no_matter_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    path = write_config(tmp_path, "mongodb://127.0.0.1:9/", home="home")
    script = 'mount -t tmpfs -o ro none "$1/home" && exec "$2" --config "$3" up'
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*own, str(tmp_path), KRAKEN, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "Nothing can be written on this file system" in done.stderr
    assert "Next: mount it so that it may be written to" in done.stderr
    assert "as the user who owns it" not in done.stderr
