"""Fixtures: the real Slurm cluster, its state before and after a test, and a folder on it.

A module of tests that need it says `pytestmark = NEEDS_SLURM`: however many workers run the tests,
one of them runs all of these, since there is one cluster.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.cluster.slurm_cluster import (
    DEFAULT_BASE,
    Cluster,
    cluster_in,
    daemon,
    missing_packages,
    settings_of,
    start,
    stop,
)

NEEDS_SLURM = [
    pytest.mark.slurm,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.timeout(600),
]
BASE_VARIABLE = "KRAKEN_SLURM_BASE"
LOCK_PATIENCE_S = 300.0


# What a login with this shell reads.
PROFILES = {
    "bash": ".bashrc",
    "tcsh": ".tcshrc",
    "fish": ".config/fish/config.fish",
    "zsh": ".zshenv",
}


def forget_logins(cluster: Cluster) -> None:
    """Gives the other user bash and no profile; tests that were killed may have left others."""
    user = pwd.getpwnam(cluster.other_user)
    subprocess.run(["usermod", "--shell", "/bin/bash", user.pw_name], check=True)
    for name in PROFILES.values():
        Path(user.pw_dir, name).unlink(missing_ok=True)


def _lock(path: Path) -> int:
    """One session of tests at a time: every one cancels all jobs and stops daemons."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    end = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(number)
                pytest.fail(f"{path} is locked by other tests. Give these a {BASE_VARIABLE}")
            time.sleep(0.2)
        else:
            return number


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """The cluster in KRAKEN_SLURM_BASE, started if need be, and stopped if it was."""
    if os.geteuid() != 0:
        unavailable("the Slurm cluster needs root")
    if missing := missing_packages():
        unavailable(f"the Slurm cluster needs {missing}: `make slurm` installs them")
    base = Path(os.environ.get(BASE_VARIABLE) or DEFAULT_BASE)
    lock = _lock(base / ".tests")
    has_run = daemon(base, "slurmctld") is not None
    # One that was started in some other way stays as it is.
    known = settings_of(base) if has_run and (base / "env").exists() else {}
    try:
        start({**known, **os.environ, BASE_VARIABLE: str(base)})
        cluster = cluster_in(base)
        forget_logins(cluster)
        cluster.reset()
        yield cluster
    finally:
        if not has_run:
            stop(base)
        os.close(lock)


@pytest.fixture
def cluster_folder(slurm_cluster: Cluster) -> Iterator[Path]:
    """A folder of the user that Kraken logs in as, which jobs reach; pytest's are closed to them.

    It is gone afterwards. A test that starts jobs asks for `cluster`, too, which ends them first.
    """
    folder = slurm_cluster.base / "work" / secrets.token_hex(6)
    folder.mkdir(parents=True)
    shutil.chown(folder, slurm_cluster.user, slurm_cluster.user)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cluster(slurm_cluster: Cluster, cluster_folder: Path) -> Iterator[Cluster]:
    """The cluster, without any job; faults are undone and jobs cancelled afterwards."""
    yield slurm_cluster
    slurm_cluster.reset()


class Ahead:
    """The real clock, set forward where a test need not wait for what it knows."""

    def __init__(self) -> None:
        self.ahead = timedelta(hours=-4)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead

    def forward(self, **delta: float) -> None:
        self.ahead += timedelta(**delta)

    def is_real_now(self) -> None:
        self.ahead = timedelta()


def config_on(cluster: Cluster, folder: Path, config: KrakenConfig, **engine: Any) -> KrakenConfig:
    """The configuration with its roots in this folder and the cluster as an engine.

    `engine` has further fields of the engine's entry. The owner of the folder owns the roots.
    """
    roots = ("backup", "output", "settings", "software")
    owner = folder.stat()
    for name in roots:
        (folder / name).mkdir()
        os.chown(folder / name, owner.st_uid, owner.st_gid)
    given = config.model_dump(exclude_unset=True)
    given["locations"] |= {name: str(folder / name) for name in roots}
    given["engines"] = {"cluster": cluster.entry(**engine)}
    return KrakenConfig.model_validate(given)


def services_on(
    cluster: Cluster,
    folder: Path,
    config: KrakenConfig,
    store: Store,
    now: Callable[[], datetime],
    **engine: Any,
) -> Services:
    """The configuration's instruments, as `config_on` has them, and all run on the cluster."""
    given = config_on(cluster, folder, config, **engine).model_dump(exclude_unset=True)
    made = KrakenConfig.model_validate({**given, "defaults": {"engine": "cluster"}})
    return Services(config=made, store=store, engines=make_engines(made.engines, folder), now=now)
