"""A run over many files whose process is killed: the watcher's next ticks go on with the rest."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import Status
from kraken_dagster.orchestration.partitions import TAG_FILES
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.backup.copying.copying_cases import parts
from kraken_dagster_tests.rebuild.rebuilding import new_instance
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, raw_file, require_success
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
    pytest.mark.timeout(900),
]
BIG = 200_000_000
NAMES = [f"f{number}.raw" for number in range(8)]


def _start(bench: Bench, folder: Path, request: dg.RunRequest) -> "subprocess.Popen[bytes]":
    """The run in a process of its own, as the code server starts it."""
    path = folder / "config.json"
    path.write_text(bench.config.model_dump_json(exclude_unset=True))
    ends = request.partition_key_range
    assert ends is not None
    module = "kraken_dagster_tests.orchestration.ended_run"
    arguments = [str(path), str(folder / "dagster"), str(request.job_name), ends.start, ends.end]
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments, json.dumps(dict(request.tags))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _requested(bench: Bench) -> list[dg.RunRequest]:
    return list(bench.tick("thermo1_watcher").run_requests or ())


def test_a_killed_run_over_many_is_gone_on_with(
    config: KrakenConfig, store: Store, tmp_path: Path
) -> None:
    with new_instance(tmp_path / "dagster") as instance:
        defaults = {"copy_slots": 2, "lease_s": 4, "files_per_run_from": 3}
        bench = Bench(hastened(config, **defaults), store, instance)
        for name in NAMES:
            content = b"\1" * (BIG if name == NAMES[0] else 1000)
            raw_file(bench.services.instrument_folder("thermo1"), name, content)
        [request] = bench.requested("thermo1")
        assert request.tags[TAG_FILES] == str(len(NAMES))
        process = _start(bench, tmp_path, request)
        backup = bench.config.locations.backup.path
        wait_until(lambda: parts(backup), "a copy is under way", timeout_s=400, every_s=0.002)
        process.kill()
        process.wait(400)
        [killed] = instance.get_runs()
        in_hand = [name for name in NAMES if bench.file(name).lease is not None]
        assert in_hand
        _run_all(bench)
        dead = instance.get_run_by_id(killed.run_id)
        assert dead is not None
        assert dead.status is dg.DagsterRunStatus.FAILURE
        assert "process is gone" in bench.log_of(dead)
        runs = [run for run in instance.get_runs() if run.run_id != killed.run_id]
        alone = [run.tags["dagster/partition"] for run in runs if TAG_FILES not in run.tags]
        assert set(in_hand) <= set(alone)
        for name in NAMES:
            history = bench.file(name).history
            assert len([it for it in history if it["to"] == Status.COPYING_DONE]) == 1


def _run_all(bench: Bench) -> None:
    """Does what the watcher requests, until every file has its backup."""
    while not all(bench.file(name).is_backed_up for name in NAMES):
        for request in wait_until(lambda: _requested(bench), "a run is requested", timeout_s=400):
            require_success(bench.run(request))
