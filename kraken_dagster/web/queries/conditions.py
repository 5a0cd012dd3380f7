"""A filter in the page's language, as far as MongoDB looks for it by an index, and the rest of it.

The rest is looked for by the page's own code in batches of files, which needs a bound: an
instrument, a project, or a period with a beginning.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.raw_file import Status
from kraken_dagster.web.intake import BASIC, QUALITY
from kraken_dagster.web.table.columns import Mask, Table
from kraken_dagster.web.table.selection import column_of, matching
from kraken_dagster.web.table.terms import NotUnderstood, Term, bound, compiled, terms

_OF_RESULTS = ("settings", QUALITY)
_OF_FILES = frozenset(BASIC) - set(_OF_RESULTS)


@dataclass
class Conditions:
    """`query` is MongoDB's, `rest` for batches; `unseen` is what no batch had."""

    query: dict[str, Any] = field(default_factory=dict)
    rest: list[Term] = field(default_factory=list)
    name_contains: str | None = None
    _seen: set[Term] = field(default_factory=set)

    @property
    def is_exact(self) -> bool:
        return not self.rest and self.name_contains is None

    @property
    def is_bounded(self) -> bool:
        """Whether an index leads to the files, however many there are."""
        query = self.query
        return (
            "instrument_id" in query
            or "project_id" in query
            or "$gte" in query.get("created_at", {})
        )

    @property
    def needs_results(self) -> bool:
        """Whether anything is asked of metrics, settings or verdicts."""
        return any(term.column is None or term.column not in _OF_FILES for term in self.rest)

    @property
    def unseen(self) -> list[str]:
        """Columns that no file had which was looked at."""
        return sorted({str(it.column) for it in self.rest if it.column and it not in self._seen})

    def require_bound(self) -> None:
        """
        Raises:
            InputRefused: it would have to look at all files.
        """
        if self.is_exact or self.is_bounded:
            return
        wanted = self.rest[0].text if self.rest else f"name_contains {self.name_contains}"
        raise InputRefused(
            "Such a condition needs a bound, as every file would have to be looked at",
            expected="an instrument, a project, or a period with a beginning",
            found=wanted[:200],
            next_step="add `instrument`, `project` or `since`, or `instrument_id=...` or "
            "`created_at=[2026-01-01,]` to the filter.",
        )

    def holds(self, table: Table) -> Mask:
        """The rows of a batch that all of the rest holds for."""
        mask = np.ones(len(table), dtype=bool)
        if self.name_contains is not None:
            wanted = self.name_contains.lower()
            mask &= np.array([wanted in file_id.lower() for file_id in table.ids], dtype=bool)
        for term in self.rest:
            try:
                if term.column is not None:
                    column_of(table, term.column)
                found = matching(table, term)
                self._seen.add(term)
            except NotUnderstood:  # no file of this batch has such a column, or numbers in it
                found = np.zeros(len(table), dtype=bool)
            mask &= ~found if term.negated else found
        return mask

    def take(self, term: Term, known_instruments: Iterable[str]) -> None:
        """Sorts a term of a filter into what MongoDB is asked, and the rest."""
        column = (term.column or "").lower()
        if term.negated or column not in ("instrument_id", "status", "created_at"):
            self.rest.append(term)
        elif column == "created_at":
            if term.bounds is None:
                self.rest.append(term)
            else:
                self._take_period(term)
        elif term.bounds is not None:
            self.rest.append(term)
        elif column == "instrument_id":
            self._take_one_of("instrument_id", term, known_instruments)
        else:
            self._take_one_of("status", term, [item.value for item in Status])

    def _take_one_of(self, name: str, term: Term, known: Iterable[str]) -> None:
        pattern = compiled(term.pattern)
        found = [item for item in known if pattern.search(item) is not None]
        before = self.query.get(name)
        kept = found if before is None else [item for item in before["$in"] if item in found]
        self.query[name] = {"$in": kept}

    def _take_period(self, term: Term) -> None:
        low, high = (bound(item) if item else None for item in term.bounds or ("", ""))
        self.between(_date(low), _date(high))

    def between(self, low: datetime | None, high: datetime | None) -> None:
        period = self.query.get("created_at", {})
        if low is not None:
            period["$gte"] = max(low, period.get("$gte", low))
        if high is not None:
            period["$lte"] = min(high, period.get("$lte", high))
        if period:
            self.query["created_at"] = period


def understood(text: str) -> list[Term]:
    """The terms of a filter.

    Raises:
        InputRefused: one can't be understood; a program is not to get files that it has not meant.
    """
    try:
        found = terms(text)
        for term in found:
            if term.bounds is None:
                compiled(term.pattern)
    except NotUnderstood as error:
        raise InputRefused(
            "The filter can't be understood",
            expected="the language of the page's filter",
            found=f"{text[:200]}: {error}",
            next_step="correct it; docs/page.md describes the language.",
        ) from None
    return found


def _date(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise InputRefused(
            "A date of the filter is out of range",
            found=seconds,
            next_step="give a date like 2026-01-31.",
        ) from None
