"""What Kraken uses of Dagster beside its public API stands in one table, and is there."""

import re
from pathlib import Path

import pytest

import kraken_dagster
import resources
from kraken_dagster.orchestration import dagster_internals
from kraken_dagster.orchestration.dagster_internals import INTERNALS, Internal


@pytest.mark.parametrize("name", INTERNALS)
def test_this_version_of_dagster_has_it(name):
    assert getattr(dagster_internals, name) is not None


def test_what_a_version_has_moved_is_named_with_what_it_is_for(monkeypatch):
    gone = Internal("dagster._core.nowhere", "partitions are shown", "a documented tag")
    monkeypatch.setattr(dagster_internals, "INTERNALS", {"Gone": gone})
    with pytest.raises(
        AttributeError, match=r"no dagster\._core\.nowhere\.Gone, by which partitions"
    ):
        _ = dagster_internals.Gone
    with pytest.raises(AttributeError):
        _ = dagster_internals.NeverHeardOf


def test_no_other_module_imports_anything_private():
    private = re.compile(r"^\s*(?:from|import) dagster\w*(?:\.\w+)*\._", re.MULTILINE)
    roots = [Path(str(package.__file__)).parent for package in (kraken_dagster, resources)]
    paths = [path for root in roots for path in root.rglob("*.py")]
    assert len(paths) > 200
    assert [path.name for path in paths if private.search(path.read_text("utf-8"))] == []


def test_every_name_of_the_table_is_used():
    root = Path(str(kraken_dagster.__file__)).parent
    texts = [
        path.read_text("utf-8")
        for path in root.rglob("*.py")
        if path.name != "dagster_internals.py"
    ]
    assert [name for name in INTERNALS if not any(name in text for text in texts)] == []
