"""A run over many files, killed in its midst: the watcher's next ticks go on with what is left."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from kraken_dagster.orchestration.partitions import TAG_FILES
from kraken_dagster_tests.support.laboratory import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.nightly,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]
NAMES = [f"many{number}.raw" for number in range(8)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Eight files, which are over at the same look."""
    lab = Lab(tmp_path, engine_slots=len(NAMES))
    for name in NAMES:
        lab.add_thermo(name, megabytes=60)
    yield lab
    lab.kill_everything()
    print(lab.log[-5000:])  # for who reads of a failed test


def _ingests(lab: Lab) -> list[dg.DagsterRun]:
    """The newest first."""
    with dg.DagsterInstance.from_config(str(lab.dagster_home)) as instance:
        return list(instance.get_runs(dg.RunsFilter(job_name="thermo1_ingest")))


def test_a_run_over_many_that_was_killed_is_gone_on_with(lab: Lab) -> None:
    lab.up()
    process, _ = lab.mid_copy(at_least_bytes=5_000_000)
    [killed] = _ingests(lab)
    assert killed.tags[TAG_FILES] == str(len(NAMES))
    os.kill(process, signal.SIGKILL)
    lab.wait_until_done(NAMES)
    *later, first = _ingests(lab)
    assert (first.run_id, first.status) == (killed.run_id, dg.DagsterRunStatus.FAILURE)
    assert later
    assert {run.status for run in later} == {dg.DagsterRunStatus.SUCCESS}
    assert lab.problems() == []
