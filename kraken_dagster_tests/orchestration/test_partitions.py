"""The order of partitions: a backfill takes a run for each stretch of them without a gap."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from kraken_dagster.orchestration.partitions import (
    add_partitions,
    asset_key,
    partitions_of,
    stand_together,
)
from kraken_dagster_tests.rebuild.rebuilding import new_instance

pytestmark = pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated")
KEYS = [f"f{number:03d}" for number in range(60)]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with new_instance(tmp_path / "dagster") as instance:
        add_partitions(instance, "thermo1", KEYS)
        yield instance


def test_partitions_that_lie_apart_stand_together_and_keep_what_was_recorded(instance):
    apart = KEYS[::3]
    backup = asset_key("thermo1", "backup")
    instance.report_runless_asset_event(dg.AssetMaterialization(backup, partition=apart[4]))
    stand_together(instance, "thermo1", apart)
    rest = [key for key in KEYS if key not in apart]
    assert list(partitions_of(instance, "thermo1")) == [*rest, *apart]
    assert instance.get_materialized_partitions(backup) == {apart[4]}


@pytest.mark.parametrize("chosen", [KEYS[10:30], [*KEYS[3:10], *KEYS[20:40], KEYS[59]]])
def test_partitions_that_nearly_stand_together_are_not_touched(instance, chosen):
    stand_together(instance, "thermo1", chosen)
    assert list(partitions_of(instance, "thermo1")) == KEYS
