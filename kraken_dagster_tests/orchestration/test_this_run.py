"""A run's process builds the definitions of its own instrument, and any other all of them."""

import inspect
import multiprocessing
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._grpc import impl

import kraken_dagster.definitions
from kraken_dagster.config.loader import CONFIG_VARIABLE
from kraken_dagster.orchestration.this_run import instruments_of_this_run
from kraken_dagster_tests.support.helpers import write_config

ALL = {"thermo1", "bruker1"}
POINTER = CodePointer.from_python_file(str(kraken_dagster.definitions.__file__), "defs", None)


def load(_run: bytes, job: ReconstructableJob, answer: "SimpleQueue[set[str]]") -> None:
    """What a run's process does first, and which instruments' assets it has then."""
    repository = job.repository.get_definition()
    repository.get_job(job.job_name)
    keys = repository.asset_graph.get_all_asset_keys()
    answer.put({key.path[0] for key in keys} - {"file_systems"})


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("job", "expected"),
    [("bruker1_collect", {"bruker1"}), ("bruker1_catchup", ALL), ("purge", ALL)],
)
def test_a_run_of_one_instrument_loads_no_other(tmp_path, monkeypatch, mongodb_uri, job, expected):
    monkeypatch.setenv(CONFIG_VARIABLE, str(write_config(tmp_path, mongodb_uri)))
    spawn = multiprocessing.get_context("spawn")  # as a code server does
    answer = spawn.SimpleQueue()
    asked = ReconstructableJob(ReconstructableRepository(POINTER), job)
    process = spawn.Process(target=load, args=[b"", asked, answer])
    process.start()
    process.join()
    assert process.exitcode == 0
    assert answer.get() == expected


def test_this_version_of_dagster_hands_a_run_its_job():
    names = list(inspect.signature(impl.start_run_in_subprocess).parameters)
    assert names[:2] == ["serialized_execute_run_args", "recon_pipeline"]
    server = Path(str(inspect.getsourcefile(dg)))  # the package's __init__
    source = (server.parent / "_grpc" / "server.py").read_text(encoding="utf-8")
    assert "recon_repo.get_reconstructable_job(" in source
    assert "target=start_run_in_subprocess" in source


def test_a_process_that_is_no_run_needs_all(config):
    assert instruments_of_this_run(config) == list(config.instruments)
