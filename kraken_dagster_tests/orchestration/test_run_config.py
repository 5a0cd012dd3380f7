"""Run config and tags that reach nobody, or can't be used, are refused before anything begins."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import Status
from kraken_dagster.orchestration.partitions import ASSETS
from kraken_dagster.orchestration.run_config import _problems
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, install_search, raw_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
OPS = {f"thermo1__{asset}": asset for asset in ASSETS}


def _of_quant(**options: Any) -> dict[str, Any]:
    return {"ops": {"thermo1__quant_job": {"config": options}}}


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ({"op": {}}, "The run config has 'op', which reaches nobody; `ops` is meant, perhaps"),
        ({"Ops": {}}, "`ops` is meant, perhaps"),
        ({"ops": {"quant_job": {}}}, "'quant_job', which reaches nobody; `thermo1__quant_job` is"),
        ({"ops": {"thermo1__Quant_Job": {}}}, "`thermo1__quant_job` is meant, perhaps"),
        ({"ops": {"zzz": {}}}, "expected `thermo1__backup` or `thermo1__metrics` or"),
        ({"ops": []}, "`ops` of the run config is [], expected ops with their config"),
        ({"ops": {"thermo1__quant_job": {"conf": {}}}}, "`config` is meant, perhaps"),
        ({"ops": {"thermo1__quant_job": 3}}, "`ops.thermo1__quant_job` is 3, expected `config`"),
        ({"ops": {"thermo1__metrics": {"config": {"a": 1}}}}, "has 'a', which reaches nobody"),
        (_of_quant(output_exist_mode="add"), "`output_exists_mode` is meant, perhaps"),
        (_of_quant(Output_Exists_Mode="add"), "`output_exists_mode` is meant, perhaps"),
        (_of_quant(output_exists_mode="Add"), "'Add', expected one of raise, overwrite, associate"),
        (_of_quant(output_exists_mode=1), "is 1, expected one of raise, overwrite, associate, add"),
        (_of_quant(debug_no_cluster_ssh="yes"), "is 'yes', expected true or false"),
        (
            {"ops": {"thermo1__backup": {"config": {"backup_overwrite_file_id": 7}}}},
            "`ops.thermo1__backup.config.backup_overwrite_file_id` is 7, expected a text",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    given: dict[str, Any], reported: str
) -> None:
    assert reported in next(_problems(given, OPS))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"ops": {}, "execution": {"config": {}}, "loggers": {}},
        _of_quant(output_exists_mode="ADD", debug_no_cluster_ssh=True),
        _of_quant(output_exists_mode="add"),
        {"ops": {"thermo1__backup": {"config": {"backup_overwrite_file_id": None}}}},
        {"ops": {"thermo1__raw_file": {"config": {}}}},
    ],
)
def test_what_is_understood_has_no_problem(given: dict[str, Any]) -> None:
    assert list(_problems(given, OPS)) == []


@pytest.fixture
def bench(config: KrakenConfig, store: Store) -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        bench = Bench(hastened(config), store, instance)
        install_search(config, store)
        for name in ("a.raw", "b.raw"):
            raw_file(bench.services.instrument_folder("thermo1"), name)
        bench.requested("thermo1")
        yield bench


def _refused(bench: Bench, result: dg.ExecuteInProcessResult, reported: str) -> None:
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert reported in str(data.description)
    assert "Nothing was begun. Next: correct it" in str(data.description)
    for name in ("a.raw", "b.raw"):
        assert bench.status(name) is Status.MONITORING_DONE


def test_a_run_with_a_wrong_value_begins_nothing(bench: Bench) -> None:
    """Nor does the step before the one that it is meant for."""
    config = _of_quant(output_exists_mode="adding")
    result = bench.execute("thermo1_ingest", "a.raw", run_config=config)
    _refused(bench, result, "'adding', expected one of raise, overwrite, associate, add")


@pytest.mark.parametrize(
    ("tags", "reported"),
    [
        ({"kraken/step": "qant"}, "The run's tag `kraken/step` is 'qant', expected one of backup"),
        ({"kraken/stpe": "quant"}, "`kraken/step` is meant, perhaps"),
    ],
)
def test_tags_that_mean_nothing_begin_nothing(
    bench: Bench, tags: dict[str, str], reported: str
) -> None:
    _refused(bench, bench.execute("thermo1_ingest", "a.raw", tags=tags), reported)
