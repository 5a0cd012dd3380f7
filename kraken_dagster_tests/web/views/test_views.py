"""What the pages show, from a table and a report alone."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kraken_dagster.model.alerts.alert import Alert, Severity, State
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.web.column_config import ColumnChoice, ColumnEntry, load_columns
from kraken_dagster.web.intake import cells_of
from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.views import files, fleet, laboratory, words

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday


def _item(name: str, *wrong: str, **fields: Any) -> dict[str, Any]:
    standard = {"id": name, "type": "thermo", "status": "ok", "looked_at": NOW, "free_space_gb": 70}
    return {**standard, "wrong": [*wrong], **fields}


def _file(name: str, hours: float, instrument: str = "t1", **cells: Any) -> tuple[str, Any]:
    made = NOW - timedelta(hours=hours)
    return name, {"instrument_id": instrument, "created_at": made, "status": "done", **cells}


def _table(*rows: tuple[str, Any]) -> Table:
    table = Table()
    for name, cells in rows:
        table.put(name, cells)
    return table


def test_what_needs_a_person_stands_first_then_what_acquires() -> None:
    table = _table(_file("x", 1, "busy", status="monitoring_acquisition"))
    report = {
        "instruments": [_item("idle", "idle: unseen"), _item("busy"), _item("ill", "ill: mend it")],
        "wrong": ["ill: mend it"],  # the other one follows from something that is told elsewhere
    }
    found = fleet.cards(table, report, NOW)
    assert [(card.id, card.level) for card in found] == [
        ("ill", "bad"),
        ("busy", "busy"),
        ("idle", "quiet"),
    ]


def test_an_instrument_with_an_open_alert_needs_a_person_until_somebody_has_it() -> None:
    def alert(number: int, state: State, severity: Severity) -> Alert:
        fields = {"kind": "pile_up", "subject": "t2", "instrument": "t2", "summary": "t2: x"}
        return Alert.model_construct(
            id=str(number), number=number, state=state, severity=severity, **fields
        )

    alerts = [
        alert(1, State.OPEN, Severity.WARNING),
        alert(2, State.ACKNOWLEDGED, Severity.CRITICAL),
        alert(3, State.OPEN, Severity.INFO),
    ]
    report = {"instruments": [_item("t1"), _item("t2")]}
    found = fleet.cards(_table(), report, NOW, alerts=alerts)
    assert [(it.id, it.level, it.alerts) for it in found] == [("t2", "bad", 1), ("t1", "quiet", 0)]
    [_, t2] = fleet.cards(_table(), report, NOW, alerts=alerts[1:])
    assert (t2.id, t2.level) == ("t2", "quiet")


def test_what_is_wrong_with_no_single_instrument_is_told_once() -> None:
    report = {"instruments": [_item("t1", "t1: x")], "wrong": ["t1: x", "engine 'c': away"]}
    assert fleet.of_all(report) == ["engine 'c': away"]


def test_a_card_counts_since_yesterday_and_since_friday() -> None:
    table = _table(
        _file("today", 1, is_backed_up="yes"),
        _file("yesterday", 30, status="error", is_backed_up="no"),
        _file("saturday", 40),
        _file("thursday", 4 * 24, status="quanting_failed", is_backed_up="yes"),
    )
    [card] = fleet.cards(table, {"instruments": [_item("t1")]}, NOW)
    assert (card.since_yesterday, card.since_friday, card.failed) == (2, 3, 1)
    assert (card.not_backed_up, card.last_file) == (2, "today")


@pytest.mark.parametrize(("days", "expected"), [(0, 27), (4, 27), (-3, 20)])
def test_last_friday(days: int, expected: int) -> None:
    assert fleet.last_friday(NOW + timedelta(days=days)).day == expected


def test_the_end_of_an_acquisition_is_expected_after_the_usual_time() -> None:
    earlier = [_file(f"f{n}", 1 + n * 0.5) for n in range(1, 10)]
    table = _table(*earlier, _file("now", 1, status="monitoring_acquisition"))
    [card] = fleet.cards(table, {"instruments": [_item("t1")]}, NOW)
    assert (card.acquiring, card.expected_end) == ("now", NOW - timedelta(minutes=30))


def test_the_table_says_how_old_a_file_is_and_when_one_that_runs_ends() -> None:
    earlier = [_file(f"f{n}", 0.2 + n * 0.5) for n in range(1, 10)]
    table = _table(*earlier, _file("now", 0.2, status="monitoring_acquisition"), ("undated", {}))
    ages = fleet.ages(table, range(len(table)), NOW)
    told = {table.ids[row]: text for row, text in ages.items()}
    assert (told["now"], told["f1"], told["f9"]) == ("ends in 18 min", "42 min ago", "5 h ago")
    assert "undated" not in told
    stuck = _table(*earlier, _file("now", 48, status="monitoring_acquisition"))
    assert fleet.ages(stuck, [9], NOW) == {9: "2 days ago"}


def test_files_and_their_size_are_told_by_day_and_instrument() -> None:
    table = _table(
        _file("a", 1, size_gb=2), _file("b", 2, "t2", size_gb=3), _file("c", 30, size_gb=4)
    )
    today, yesterday, *_ = laboratory.throughput(table, ["t1", "t2"], NOW)
    assert (today.counts, today.sizes_gb, today.size_gb) == ((1, 1), (2, 3), 5)
    assert (yesterday.counts, yesterday.sizes_gb) == ((1, 0), (4, 0))


def test_a_disk_is_full_at_the_rate_of_the_last_week() -> None:
    table = _table(*(_file(f"f{n}", 24 * n, size_gb=10) for n in range(7)))
    [card] = fleet.cards(table, {"instruments": [_item("t1")]}, NOW)
    assert card.disk is not None
    assert card.disk.days == pytest.approx(7)
    [none] = fleet.cards(_table(), {"instruments": [_item("t1")]}, NOW)
    assert none.disk is not None
    assert none.disk.days is None


def test_the_last_metrics_are_compared_with_those_before() -> None:
    table = _table(*(_file(f"f{n}", 40 - n, proteins=100 + n % 3) for n in range(30)))
    table.put(*_file("last", 1, proteins=50.0))
    [card] = fleet.cards(table, {"instruments": [_item("t1")]}, NOW)
    [metric] = card.metrics
    assert (metric.name, metric.value, metric.median) == ("proteins", 50, 101)
    assert metric.deviation == pytest.approx(-51 / 1.4826)


def test_a_result_of_a_failed_rerun_hides_nothing_and_types_do_not_collide() -> None:
    document = {"_id": "x", "size": 1024**3, "status": "done", "created_at": NOW}
    results = [
        {"settings_name": "s", "type": "diann", "provenance": {"problem": "torn"}, "proteins": 1},
        {"settings_name": "s", "type": "diann", "proteins": 2, "old": 7},
        {"settings_name": "q", "type": "msqc", "proteins": 3, "nan": float("nan"), "list": [1]},
    ]
    cells = cells_of(document, results, {"old": "new"})
    assert (cells["proteins"], cells["proteins_msqc"], cells["new"]) == (2, 3, 7)
    assert (cells["size_gb"], cells["settings"]) == (1, "s v1, q v1")
    assert not {"nan", "list", "old"} & cells.keys()


@pytest.mark.parametrize("year", [1601, 1970, 2050])
def test_a_file_is_dated_by_when_it_was_first_seen_where_its_date_can_not_be(year: int) -> None:
    made = datetime(year, 1, 1, tzinfo=UTC)
    document = {"_id": "x", "created_at": made, "created_at_": NOW}
    assert cells_of(document, [], {})["created_at"] == NOW


@pytest.mark.parametrize("document", [{"_id": "x"}, {"_id": "x", "size": "big", "created_at": 3}])
def test_a_document_of_others_has_cells(document: dict[str, Any]) -> None:
    assert cells_of(document, [], {})["is_backed_up"] == "no"


def test_rows_are_sorted_by_numbers_then_texts_and_what_is_missing_comes_last() -> None:
    table = _table(("a", {"v": 2}), ("b", {"v": "text"}), ("c", {}), ("d", {"v": 10.0}))
    everything = np.ones(4, dtype=bool)
    up = files.ordered(table, everything, "v")
    assert [table.ids[row] for row in up] == ["a", "d", "b", "c"]
    down = files.ordered(table, everything, "-v")
    assert [table.ids[row] for row in down] == ["b", "d", "a", "c"]
    assert [table.ids[row] for row in files.ordered(table, everything, "-id")] == list("dcba")


def test_a_gradient_goes_over_what_is_shown_and_can_be_turned_round() -> None:
    entry = ColumnEntry(name="v", color_gradient="red_is_high")
    table = _table(*((f"f{n}", {"v": n}) for n in range(11)))
    rows = np.arange(11)
    shown = files.lines(table, rows, ["v"], ColumnChoice((entry,)), scale=rows)
    assert [shown[0].cells[0].css, shown[-1].cells[0].css] == ["g g9", "g g0"]


@pytest.mark.parametrize("value", [float("inf"), 1e308, -1e308, "text"])
def test_odd_values_have_a_cell(value: object) -> None:
    entry = ColumnEntry(name="v", color_gradient="green_is_high")
    table = _table(("a", {"v": 1.0}), ("b", {"v": value}), ("c", {"v": 2.0}))
    rows = np.arange(3)
    shown = files.lines(table, rows, ["v"], ColumnChoice((entry,)), scale=rows)
    assert shown[1].cells[0].text


def test_paths_are_quoted_and_a_name_of_two_lines_is_no_path() -> None:
    table = _table(
        ("a b.raw", {"backup_base_path": "/pool/t1"}), ("c\nd.raw", {"backup_base_path": "/pool"})
    )
    assert files.paths(table, [0, 1], "paths") == "/pool/t1/a b.raw\n"
    assert files.paths(table, [0, 1], "shell") == "'/pool/t1/a b.raw'\n"
    assert files.paths(table, [0, 1], "names") == "a b.raw\n"


def test_a_file_without_a_backup_has_a_name_and_no_path() -> None:
    table = _table(("there.raw", {"backup_base_path": "/pool/t1"}), ("fresh.raw", {}))
    assert files.paths(table, [0, 1], "paths") == "/pool/t1/there.raw\n"
    assert files.paths(table, [0, 1], "shell") == "/pool/t1/there.raw\n"
    assert files.paths(table, [0, 1], "names") == "there.raw\nfresh.raw\n"


def test_a_file_of_alphakrakens_says_how_columns_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "columns_config.yaml"
    path.write_text(
        "columns:\n  - name: _id\n    hide: True\n  - name: proteins\n    color_gradient: "
        "green_is_high\n    plot: True\n    log_scale: True\n    alternative_names: [prots]\n"
        "  - name: status_details\n    at_end: True\n  - name: irt_*_delta_rt\n    overlay: True\n"
        "    plot: True\n    plot_optional: False\n"
    )
    choice = load_columns(path)
    assert choice.other_names == {"prots": "proteins"}
    names = ["_id", "status_details", "irt_a_delta_rt", "x", "proteins", "status"]
    found = ["status", "proteins", "irt_a_delta_rt", "x", "status_details"]
    assert choice.arranged(names) == found
    assert choice.plotted(names) == ["irt_a_delta_rt", "proteins"]
    assert choice.gradient("proteins") == "green_is_high"


@pytest.mark.parametrize(
    "text", ["", "columns: 3", "columns:\n - {hide: 1}", "columns: [{name: [}"]
)
def test_any_other_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_columns(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12345, "12,345"), (0.01234, "0.0123"), (1234.5, "1,234"), (1.2e8, "1.2e+08")],
)
def test_metrics_are_written_as_people_compare_them(value: float, text: str) -> None:
    assert words.number(value) == text


def test_spans_and_sizes() -> None:
    assert [words.span(s) for s in (40, 720, 3 * 3600, 5 * 86400)] == [
        "40 s",
        "12 min",
        "3 h",
        "5 days",
    ]
    assert words.ago(NOW + timedelta(minutes=12), NOW) == "in 12 min"
    assert [words.size(v) for v in (None, 5, 5e5, 1.5e9)] == ["-", "5 bytes", "488.3 kB", "1.40 GB"]
