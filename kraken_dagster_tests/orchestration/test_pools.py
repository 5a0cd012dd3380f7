"""The pool of jobs: there from the start with the configured limit; a person's limit stays."""

from collections.abc import Iterator

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.metadata import catalogue_metadata, page_metadata
from kraken_dagster.orchestration.pools import pool_limit, slots_of_all_engines


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _config(**slots: int) -> KrakenConfig:
    engines = {name: {"type": "local", "slots": count} for name, count in slots.items()}
    return KrakenConfig.model_validate(
        {
            "locations": dict.fromkeys(("instruments", "backup", "output"), "/mnt"),
            "instruments": {"thermo1": {"type": "thermo", "engine": next(iter(slots))}},
            "engines": engines,
        }
    )


def _shown(instance: dg.DagsterInstance) -> dict[str, int]:
    """What Dagit's page on concurrency shows."""
    return {item.name: item.limit for item in instance.event_log_storage.get_pool_limits()}


def test_the_pool_is_there_and_follows_the_configuration(instance: dg.DagsterInstance) -> None:
    assert _shown(instance) == {}
    for slots in (4, 6):
        assert slots_of_all_engines(instance, _config(local=slots)) == {"local": slots}
        assert _shown(instance) == {"cluster_slots": slots}


def test_what_a_person_has_set_stays(instance: dg.DagsterInstance) -> None:
    slots_of_all_engines(instance, _config(local=4))
    instance.event_log_storage.set_concurrency_slots("cluster_slots", 1)
    for slots in (4, 6):
        assert slots_of_all_engines(instance, _config(local=slots)) == {"local": 1}
    assert _shown(instance) == {"cluster_slots": 1}


def test_engines_of_different_slots_keep_their_own(instance: dg.DagsterInstance) -> None:
    slots_of_all_engines(instance, _config(local=4))
    both = {"local": 2, "other": 5}
    assert slots_of_all_engines(instance, _config(**both)) == both
    instance.event_log_storage.set_concurrency_slots("cluster_slots", 1)
    assert slots_of_all_engines(instance, _config(**both)) == {"local": 1, "other": 1}


def test_of_other_pools_nothing_is_set(instance: dg.DagsterInstance) -> None:
    assert pool_limit(instance, "file_copy_thermo1", default=2) == 2
    instance.event_log_storage.set_concurrency_slots("file_copy_thermo1", 2)
    assert pool_limit(instance, "file_copy_thermo1", default=5) == 2


def test_a_file_in_dagit_leads_to_the_page_and_an_asset_says_what_its_metrics_mean() -> None:
    (link,) = page_metadata("http://lab:8080/", "a b&c.raw").values()
    assert link.value == "http://lab:8080/file?id=a+b%26c.raw"
    assert page_metadata(None, "x.raw") == {}
    (text,) = catalogue_metadata("diann").values()
    assert "| `fwhm_rt` | min |" in str(text.value)
    assert "| `fwhm_rt` | s |" not in str(text.value)
