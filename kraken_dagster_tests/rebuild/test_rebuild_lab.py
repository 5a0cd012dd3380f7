"""Dagster's home is deleted under a laboratory at work: rebuilt, every file ends, each job once."""

import shutil
import subprocess
from collections.abc import Iterator

import dagster as dg
import pytest

from kraken_dagster.model.raw_file import Status
from kraken_dagster.orchestration.partitions import ASSETS
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import KRAKEN, PATIENCE_S, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.nightly,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.kill_everything()
    print(made.log[-5000:])  # for who reads of a failed test


def _rebuild(lab: Lab) -> str:
    command = [KRAKEN, "--config", str(lab.config_path), "rebuild"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _delete_home(lab: Lab) -> None:
    """While Dagster writes into it, as `rm -rf` does."""
    while lab.dagster_home.exists():
        shutil.rmtree(lab.dagster_home, ignore_errors=True)


def _shown(lab: Lab) -> dict[str, dict[str, set[str]]]:
    """The partitions that each asset has materialisations of, by instrument."""
    with dg.DagsterInstance.from_config(str(lab.dagster_home)) as instance:
        return {
            instrument_id: {
                asset: set(
                    instance.get_materialized_partitions(dg.AssetKey([instrument_id, asset]))
                )
                for asset in ASSETS
            }
            for instrument_id in ("thermo1", "bruker1")
        }


def test_every_file_ends_once_although_dagsters_home_is_deleted_in_the_middle_of_work(
    lab: Lab,
) -> None:
    lab.up()
    first = [lab.add_thermo("first_1.raw"), lab.add_bruker("first_2.d")]
    lab.wait_until_done(first)
    second = [lab.add_thermo(f"second_{number}.raw", megabytes=40) for number in range(4)]
    what = "some files are at work"
    wait_until(
        lambda: any(lab.status(name) is Status.COPYING for name in second),
        what,
        timeout_s=PATIENCE_S,
        every_s=0.05,
    )
    _delete_home(lab)
    reported = _rebuild(lab)  # while everything that is left of Kraken goes on
    assert "thermo1: 5 files: " in reported
    lab.stop()
    lab.wait_until_ended()
    _rebuild(lab)
    lab.up()
    lab.wait_until_done([*first, *second])
    assert lab.problems() == []
    _rebuild(lab)
    shown = _shown(lab)
    assert shown["thermo1"] == {asset: {"first_1.raw", *second} for asset in ASSETS}
    assert shown["bruker1"] == {asset: {"first_2.d"} for asset in ASSETS}
    assert "0 partitions added, nothing reported" in _rebuild(lab)
