"""The tools: what they tell, how much of it, and that texts of others are marked."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from mcp import Client

from kraken_dagster.web.mcp.marking import NOTICE, OTHER_NAMES, UNTRUSTED, marked
from kraken_dagster.web.queries.comparison import compare
from kraken_dagster.web.queries.explain import next_step
from kraken_dagster_tests.mcp.conftest import LOST, ORDER, ORDERED, Laboratory, result_of
from kraken_dagster_tests.web.laboratory import HOSTILE

HELA = "thermo1_hela_0004.raw"


def _bare(value: Any) -> list[str]:
    """Every text of an answer, names of entries too, that stands in no mark and is not of Kraken's
    own catalogue of metrics."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _bare(item)]
    if isinstance(value, dict):
        known = (UNTRUSTED, "title", "unit", "definition")
        texts = [text for key, item in value.items() if key not in known for text in _bare(item)]
        return [*value, *texts]
    return []


def test_every_tool_only_reads_and_says_so(laboratory: Laboratory) -> None:
    async def tools() -> Any:
        async with Client(laboratory.server) as client:
            assert NOTICE in (client.instructions or "")
            return (await client.list_tools()).tools

    found = {tool.name: tool for tool in anyio.run(tools)}
    assert {"get_available_instruments", "get_raw_files_by_names"} < found.keys()
    for tool in found.values():
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint
        assert tool.annotations.destructive_hint is False
        assert tool.description
    told = found["get_raw_files_for_instrument"].input_schema["properties"]
    assert list(told)[:5] == [
        "instrument_id",
        "name_search_string",
        "max_age_in_days",
        "gradient_length_filter",
        "only_basic_metrics",
    ]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("explain_file", {"file": ORDERED}),
        (
            "find_files",
            {"instrument": "thermo1", "name_contains": "order", "fields": "*", "limit": 9},
        ),
        ("find_metrics", {"instrument": "thermo1", "metrics": f"note,{ORDER.rstrip('.')}"}),
        ("compare_runs", {"files": [ORDERED, HELA]}),
        ("get_raw_files_by_names", {"raw_file_names": [ORDERED]}),
        ("what_is_wrong", {}),
        ("quality_of_instrument", {"instrument": "thermo1"}),
    ],
)
def test_texts_of_others_are_marked_as_data(
    laboratory: Laboratory, tool: str, arguments: dict[str, Any]
) -> None:
    found = laboratory.ask(tool, **arguments)
    assert found.pop("notice") == NOTICE
    bare = _bare(found)
    assert "thermo1" in bare or ORDERED in bare
    assert [text for text in bare if re.search(r"\s", text)] == []
    if tool not in ("what_is_wrong", "quality_of_instrument"):
        assert {UNTRUSTED: ORDER} in _marks(found) or {UNTRUSTED: ORDER[:-1]} in _marks(found)


def _marks(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = [value] if UNTRUSTED in value else []
        return own + [mark for item in value.values() for mark in _marks(item)]
    return [mark for item in value for mark in _marks(item)] if isinstance(value, list) else []


def test_a_name_that_is_a_sentence_is_marked_also_as_a_name() -> None:
    assert marked({"a b": 1, "c": ["d", "e f", None, 2.5]}) == {
        "c": ["d", {UNTRUSTED: "e f"}, None, 2.5],
        OTHER_NAMES: [[{UNTRUSTED: "a b"}, 1]],
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_leads_back_to_its_file(laboratory: Laboratory, name: str) -> None:
    text = result_of(laboratory.server, "explain_file", file=name).content[0]
    assert text.type == "text"
    assert text.text.isascii()
    told = json.loads(text.text)["file"]
    assert (told[UNTRUSTED] if isinstance(told, dict) else told) == name


def test_pages_go_on_by_cursor_and_have_at_most_200(laboratory: Laboratory) -> None:
    found: list[str] = []
    cursor = None
    while True:
        page = laboratory.ask("find_files", instrument="thermo1", limit=20, cursor=cursor)
        assert len(page["data"]) <= 20
        found += [str(item["id"]) for item in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
    everything = laboratory.ask("find_files", instrument="thermo1", limit=200)
    assert found == [str(item["id"]) for item in everything["data"]]
    assert len(found) > 60


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("find_files", {"limit": 201}),
        ("find_files", {"instrument": {"$ne": None}}),
        ("find_files", {"filter": "hela"}),
        ("find_files", {"instrument": "thermo1", "fields": "*", "limit": 200}),
        ("find_files", {"cursor": "nonsense"}),
        ("find_metrics", {"metrics": "proteins", "limit": 100_000}),
        ("compare_runs", {"files": ["one"]}),
        ("compare_runs", {"files": [HELA, "nobody.raw"]}),
        ("explain_file", {"file": "nobody.raw"}),
        ("quality_of_instrument", {"instrument": "nobody"}),
        ("trace_of_file", {"file": "thermo1_hela_0002.raw"}),
        ("trace_of_file", {"file": HELA, "name": "nothing"}),
        ("get_raw_files_by_names", {"raw_file_names": ["x"] * 201}),
    ],
)
def test_what_can_not_be_answered_says_why(
    laboratory: Laboratory, tool: str, arguments: dict[str, Any]
) -> None:
    text = laboratory.refused(tool, **arguments)
    assert len(text) > len(f"Error executing tool {tool}") + 20, text


def test_a_failed_search_is_explained_with_the_end_of_its_log(laboratory: Laboratory) -> None:
    found = laboratory.ask("explain_file", file=LOST)
    (told,) = found["jobs"]
    assert told["state"] == "timeout"
    assert told["log_tail"][UNTRUSTED].endswith("DUE TO TIME LIMIT")
    assert len(told["log_tail"][UNTRUSTED]) == 2_000
    assert "kraken retry" in found["next_step"][UNTRUSTED]


@pytest.mark.parametrize(
    ("status", "details", "waits_for", "retry_at", "expected"),
    [
        ("error", "Full. Next: free some.", None, None, "free some."),
        (
            "error",
            "Full. Next: free some.",
            None,
            "2026",
            "free some; Kraken tries again by itself",
        ),
        ("error", None, None, "2026", "Kraken tries again by itself at 2026."),
        ("error", "Odd.", None, None, "mend what"),
        ("copying", None, "a slot", None, "nothing: Kraken goes on"),
        ("copying", None, None, None, "nothing: Kraken works"),
        ("done", None, None, None, "nothing: the file has come to its end."),
    ],
)
def test_a_next_step_is_what_the_message_says_or_that_nothing_is_to_be_done(
    status: str, details: str | None, waits_for: str | None, retry_at: str | None, expected: str
) -> None:
    found = {"status": status, "details": details, "waits_for": waits_for, "retry_at": retry_at}
    assert next_step(found).startswith(expected)


def test_a_comparison_has_a_column_for_each_file(laboratory: Laboratory) -> None:
    found = compare(laboratory.services, [HELA, ORDERED, HELA], ["proteins", "note", "nothing"])
    assert [item["file"] for item in found["files"]] == [HELA, ORDERED]
    assert [row["metric"] for row in found["rows"]] == ["proteins", "note"]
    proteins, note = found["rows"]
    assert proteins["values"] == [7004, 5]
    assert proteins["change_percent"] == [0.0, round(100 * (5 / 7004 - 1), 2)]
    assert note["change_percent"] == [None, None]


def test_a_thinned_trace_keeps_its_highest_value(laboratory: Laboratory) -> None:
    found = laboratory.ask("trace_of_file", file=HELA, points=50)
    assert len(found["values"]) == len(found["rt_min"]) == 50
    assert max(found["values"]) == found["highest"] == 2e9
    assert found["highest_at_rt_min"] == 15.0
    assert found["points_measured"] == 3000


def test_alphakrakens_tools_answer_in_its_rows(laboratory: Laboratory) -> None:
    assert laboratory.ask("get_available_instruments")["result"] == [
        {"instrument_id": "bruker1"},
        {"instrument_id": "thermo1"},
    ]
    names = [HELA, "nobody.raw"]
    answered = result_of(laboratory.server, "get_raw_files_by_names", raw_file_names=names)
    row, last = (json.loads(block.text) for block in answered.content if block.type == "text")
    assert row["raw_file"] == {
        "name": HELA,
        "instrument_id": "thermo1",
        "status": "done",
        "size": 1_500_000_000,
        "created_at": "2026-03-01T04:00:00",
    }
    assert row["metrics"]["proteins"] == 7004
    assert row["metrics"]["irt_a_delta_rt"] == 0.4
    assert last["next"] is None
    assert answered.structured_content is not None
    assert answered.structured_content["result"] == [row]


def test_alphakrakens_filters_hold(laboratory: Laboratory) -> None:
    def names(**arguments: Any) -> list[str]:
        found = laboratory.ask("get_raw_files_for_instrument", **arguments)
        return [row["raw_file"]["name"] for row in found["result"]]

    runs = {"instrument_id": "bruker1", "name_search_string": "HELA_03"}
    ten = [f"bruker1_hela_{number:03}.raw" for number in reversed(range(30, 40))]
    assert names(**runs) == ten
    assert names(**runs, gradient_length_filter=20.5) == ten
    assert names(**runs, gradient_length_filter=30) == []
    assert names(**runs, max_age_in_days=0) == []
    (basic, *_) = laboratory.ask("get_raw_files_for_instrument", **runs)["result"]
    assert basic["metrics"].keys() == {"proteins", "gradient_length"}
    everything = laboratory.ask("get_raw_files_for_instrument", **runs, only_basic_metrics=False)
    assert "ms1_signal" in everything["result"][0]["metrics"]
    at = datetime.fromisoformat(basic["raw_file"]["created_at"]).replace(tzinfo=UTC)
    assert at == laboratory.services.store.raw_files.get(ten[0]).created_at


def test_metrics_are_described_with_their_units(laboratory: Laboratory) -> None:
    found = laboratory.ask("describe_metrics", names=["proteins", "nothing"])
    (row,) = found["data"]
    assert row["name"] == "proteins"
    assert isinstance(row["definition"], str)
    assert found["unknown"] == ["nothing"]
    assert len(laboratory.ask("describe_metrics")["data"]) <= 200
