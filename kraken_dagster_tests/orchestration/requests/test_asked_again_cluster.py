"""Jobs on a cluster that are asked for again over a file that is done."""

# ruff: noqa: F811 fixtures of another module

from typing import Any

import pytest

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import OutputExists, SubmitFailed
from kraken_dagster.model.raw_file import ENDED, RawFile, Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.quant.test_submission import (  # noqa: F401 fixtures
    FakeCluster,
    asked,
    engine,
    leave,
    on_cluster,
    raw_file,
    services,
    stored,
    submitted,
    work,
)

HELPFUL = [mode for mode in OutputExistsMode if mode is not OutputExistsMode.RAISE]


def _ask(
    services: Services, mode: OutputExistsMode = OutputExistsMode.RAISE, **options: Any
) -> Any:
    return asked(services, output_exists_mode=mode, **options)


def _work(services: Services, engine: FakeCluster) -> RawFile:
    for _ in range(20):
        work(services)
        for job in services.store.jobs.of("x.raw"):
            job_id = job.cluster_job_id
            if job.is_open and job_id in engine.open:
                engine.end(job_id)
        if stored(services).status in ENDED | {Status.ERROR}:
            return stored(services)
    raise AssertionError(stored(services).status)


@pytest.fixture
def done(services: Services, engine: FakeCluster, raw_file: RawFile) -> RawFile:
    submitted(services)
    leave(services, "kraken.exit_code", f"0 1 {services.store.jobs.of('x.raw')[0].id}\n")
    found = _work(services, engine)
    assert found.status is Status.DONE
    return found


def test_an_engine_that_refuses_leaves_a_done_file_and_its_jobs_as_they_were(
    services: Services,
    engine: FakeCluster,
    done: RawFile,
) -> None:
    before = [job.id for job in services.store.jobs.of("x.raw")]
    document = done
    engine.refusal = SubmitFailed("no such partition", found="cpu9")
    with pytest.raises(SubmitFailed):
        _ask(services, OutputExistsMode.ADD)
    after = services.store.raw_files.get("x.raw")
    same = {"history", "updated_at_"}
    assert after.model_dump(exclude=same) == document.model_dump(exclude=same)
    assert [job.id for job in services.store.jobs.of("x.raw")] == before
    assert "cpu9" in after.history[-1]["reason"]
    engine.refusal = None
    assert _ask(services, OutputExistsMode.ADD).submitted


@pytest.mark.parametrize("mode", HELPFUL)
def test_what_a_refusal_advises_is_done_on_a_cluster_too(
    services: Services,
    engine: FakeCluster,
    done: RawFile,
    mode: OutputExistsMode,
) -> None:
    with pytest.raises(OutputExists):
        _ask(services)
    assert stored(services).status is Status.DONE
    retry(services, "x.raw", asked_by="somebody", mode=mode)
    assert _work(services, engine).status is Status.DONE


@pytest.mark.parametrize("mode", HELPFUL)
def test_a_done_file_is_not_skipped_while_no_cluster_may_be_asked(
    services: Services,
    engine: FakeCluster,
    done: RawFile,
    mode: OutputExistsMode,
) -> None:
    jobs = len(services.store.jobs.of("x.raw"))
    outcome = _ask(services, mode, no_cluster=True)
    assert "debug_no_cluster_ssh" in outcome.reason
    assert stored(services).status is Status.DONE
    assert len(services.store.jobs.of("x.raw")) == jobs
