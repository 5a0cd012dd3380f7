"""The example notebook runs, cell after cell, with a real page."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster_tests.rest.conftest import RERUN, TRACED
from kraken_dagster_tests.web.laboratory import OpenPage

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "examples" / "laboratory.ipynb"


def _cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _run(source: str, names: dict[str, Any]) -> Any:
    """The value of a cell's last line, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def test_the_example_runs(page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_URL", page.origin)
    monkeypatch.delenv("KRAKEN_TOKEN", raising=False)
    names: dict[str, Any] = {}
    shown = [_run(source, names) for source in _cells()]
    assert repr(shown[0]) == f"KrakenClient({page.origin})"
    assert str(shown[1]["created_at"]) == "datetime64[ns, UTC]"
    assert shown[2] == {"size": "B"}
    assert shown[3].sum().to_dict() == {"bruker1": 9.0, "thermo1": 9.0}
    assert shown[4]["count"].to_dict() == {("bruker1", "dia"): 6, ("thermo1", "dia"): 6}
    assert names["metrics"]["raw_file"].iloc[0] == RERUN
    assert shown[5].empty
    assert shown[6][0] == 10
    assert shown[6][1].to_dict() == dict.fromkeys(TRACED, 1e6)
    assert shown[7] == [(f"job-{RERUN}", "succeeded")]


def test_the_example_is_kept_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
