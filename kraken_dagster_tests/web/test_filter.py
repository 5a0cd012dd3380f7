"""The filter's language over columns: what it shows, what it tells, and what changes do to it."""

import time
from datetime import UTC, datetime

import numpy as np
import pytest

from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.table.selection import select
from kraken_dagster.web.table.terms import LONGEST, MOST_TERMS, Term


def _table(**rows: dict[str, object]) -> Table:
    table = Table()
    for name, cells in rows.items():
        table.put(name, cells)  # type: ignore[arg-type]
    return table


def _shown(table: Table, text: str) -> list[str]:
    return [table.ids[row] for row in np.flatnonzero(select(table, text).mask)]


@pytest.fixture
def table() -> Table:
    return _table(
        a={"status": "done", "proteins": 5000, "made": datetime(2026, 3, 1, 12, tzinfo=UTC)},
        b={"status": "error", "proteins": "n/a", "Title": "HeLa (1)"},
        c={"status": "done", "proteins": 7000.5, "ok": True, "gone": None},
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "abc"),
        ("  ", "abc"),
        ("done&", "ac"),
        ("! done", "b"),
        ("!!done", "abc"),
        ("title=hela", "b"),
        ("proteins=[,6000]", "a"),
        ("proteins=[6000,1e9]", "c"),
        ("proteins=n/a", "b"),
        ("proteins=^5000$", "a"),
        ("proteins=7000\\.5", "c"),
        ("made=2026-03", "a"),
        ("made=[2026-03-01,2026-03-02]", "a"),
        ("made=[2026-03-02,]", ""),
        ("ok=true", "c"),
        ("5000|hela", "ab"),
        ("^a$", "a"),
        ("e.ror", "b"),
    ],
)
def test_a_filter_shows(table: Table, text: str, shown: str) -> None:
    assert "".join(_shown(table, text)) == shown
    assert select(table, text).warnings == ()


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("(bad", "no regular expression"),
        ("nothing=1", "there is no column 'nothing'"),
        ("status=[1,2]", "has no numbers"),
        (r"(a)\1", "no regular expression"),
        ("(((a{900}){900}){900})", "no regular expression"),
        ("\udcff+", "no text in Unicode"),
        ("x" * (LONGEST + 1), "at most"),
        ("&" * MOST_TERMS, "at most"),
    ],
)
def test_what_can_not_be_understood_is_told_and_ignored(
    table: Table, text: str, reported: str
) -> None:
    found = select(table, text)
    assert found.mask.all()
    assert reported in "".join(found.warnings)


def test_an_expression_that_would_explode_takes_no_longer_than_any_other() -> None:
    """By Python's own engine this text takes longer than the universe has lasted."""
    table = _table(**{f"{'a' * 200}{number}!": {} for number in range(50)})
    begun = time.process_time()
    assert _shown(table, "(a+)+b") == []
    assert time.process_time() - begun < 60


def test_changes_are_found_and_what_stays_is_not_looked_at_again(table: Table) -> None:
    assert _shown(table, "error") == ["b"]
    table.put("b", {"status": "done"})
    table.put("d", {"status": "error"})
    assert _shown(table, "error") == ["d"]
    assert _shown(table, "proteins=n/a") == []  # a cell that is replaced is gone
    assert _shown(table, "status=error") == ["d"]


def test_a_table_grows_beyond_its_first_room() -> None:
    table = Table()
    for number in range(3000):
        table.put(f"file{number}", {"number": number, "kind": "odd" if number % 2 else "even"})
    assert len(_shown(table, "number=[1000,1999] & kind=odd")) == 500
    assert table.text("number", 2999) == "2999"


def test_no_match_goes_from_one_cell_into_the_next() -> None:
    table = _table(first={"x": "hela", "y": "blank"})
    assert _shown(table, r"hela\s") == []
    assert _shown(table, r"a[^x]b") == []
    assert _shown(table, r"hela|\s") == ["first"]


@pytest.mark.parametrize(
    ("pattern", "may_be"),
    [
        ("12", True),
        ("12a", False),
        (r"\d+", True),
        ("he.*a", False),
        ("[a-z]?1", True),
        ("h?1", True),
    ],
)
def test_numbers_are_searched_only_where_one_could_be_written_so(
    pattern: str, may_be: bool
) -> None:
    assert Term(pattern, pattern=pattern).may_be_metric is may_be
