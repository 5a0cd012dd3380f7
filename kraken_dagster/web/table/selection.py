"""Which rows of a table a filter shows. What was found for a term is kept, and afterwards only rows
that have changed are looked at again."""

from dataclasses import dataclass, replace

import numpy as np

from kraken_dagster.web.table.cells import number_text, times_text
from kraken_dagster.web.table.columns import Column, Mask, Rows, Table
from kraken_dagster.web.table.terms import NotUnderstood, Term, bound, compiled, terms

_SHOWN = 80  # characters of a term that is told


@dataclass(frozen=True)
class Selection:
    """`mask` over all rows; `warnings` are terms that were ignored, and why."""

    mask: Mask
    warnings: tuple[str, ...] = ()


def select(table: Table, text: str) -> Selection:
    """The rows that a filter shows. Never fails: what can't be understood is a warning."""
    with table.lock:
        mask = np.ones(len(table), dtype=bool)
        try:
            conditions = terms(text)
        except NotUnderstood as error:
            return Selection(mask, (f"The filter is ignored: {error}.",))
        warnings = []
        for term in conditions:
            try:
                found = matching(table, term)
            except NotUnderstood as error:
                warnings.append(f"{term.text[:_SHOWN]!r} is ignored: {error}.")
            else:
                mask &= ~found if term.negated else found
        return Selection(mask, tuple(warnings))


def column_of(table: Table, name: str) -> str:
    """A column's name as the table has it.

    Raises:
        NotUnderstood: there is none, with or without regard to case.
    """
    if name in table.columns:
        return name
    for known in table.columns:
        if known.lower() == name.lower():
            return known
    raise NotUnderstood(f"there is no column {name[:_SHOWN]!r}")


def matching(table: Table, term: Term) -> Mask:
    """Where a term, without its `!`, holds.

    Raises:
        NotUnderstood: there is no such column, or it is no regular expression.
    """
    key = replace(term, text="", negated=False)
    version, before = table.masks.get(key, (-1, np.zeros(0, dtype=bool)))
    if version == table.version:
        return before
    mask = np.zeros(len(table), dtype=bool)
    mask[: len(before)] = before
    rows = np.flatnonzero(table.changed > version)
    if term.column is not None:
        mask[rows] = _in_column(table.columns[column_of(table, term.column)], term, rows)
    else:
        mask[rows] = _anywhere(table, term, rows)
    table.remember(key, mask)
    return mask


def _in_column(column: Column, term: Term, rows: Rows) -> Mask:
    if term.bounds is not None:
        return _in_range(column, term.bounds, rows)
    pattern = compiled(term.pattern)
    found = np.zeros(len(rows), dtype=bool)
    if column.codes is not None:
        codes = column.codes[rows]
        matching = np.zeros(len(column.words) + 1, dtype=bool)  # the last one is for -1
        for code in np.unique(codes[codes >= 0]):
            matching[code] = pattern.search(column.words[code]) is not None
        found |= matching[codes]
    if column.numbers is not None:
        places = np.flatnonzero(~np.isnan(column.numbers[rows]) & ~found)
        values, back = np.unique(column.numbers[rows[places]], return_inverse=True)
        texts = times_text(values) if column.is_time else [number_text(item) for item in values]
        found[places] = np.array([pattern.search(item) is not None for item in texts], bool)[back]
    return found


def _in_range(column: Column, bounds: tuple[str, str], rows: Rows) -> Mask:
    low, high = (bound(item) if item else None for item in bounds)
    numbers = np.full(len(rows), np.nan)
    if column.numbers is not None:
        numbers = column.numbers[rows].copy()
    if column.codes is not None:  # numbers that were written as text
        as_numbers = np.array([*(_number(word) for word in column.words), np.nan])
        numbers = np.where(np.isnan(numbers), as_numbers[column.codes[rows]], numbers)
        if column.numbers is None and np.isnan(as_numbers).all():
            raise NotUnderstood("the column has no numbers")
    found = ~np.isnan(numbers)  # what is missing is in no range
    if low is not None:
        found &= numbers >= low
    if high is not None:
        found &= numbers <= high
    return found


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return np.nan


def _anywhere(table: Table, term: Term, rows: Rows) -> Mask:
    words = term.words
    if words is not None:
        found = np.zeros(len(rows), dtype=bool)
        for word in words:
            found |= _has_word(table, Term(word, pattern=word), rows)
        return found
    pattern, metrics = compiled(term.pattern), term.may_be_metric
    return np.array(
        [
            _matches(pattern, table.texts[row])
            or (metrics and _matches(pattern, table.metrics[row]))
            for row in rows
        ],
        dtype=bool,
    )


def _has_word(table: Table, term: Term, rows: Rows) -> Mask:
    word, lower, metrics = term.pattern, table.texts_lower, table.metrics
    if term.may_be_metric:
        found = [word in lower[row] or word in metrics[row] for row in rows]
    elif len(rows) == len(table):
        found = [word in line for line in lower]
    else:
        found = [word in lower[row] for row in rows]
    return np.array(found, dtype=bool)


def _matches(pattern: object, lines: str) -> bool:
    """Whether one of the cells matches; what goes over the end of one is no match."""
    found = pattern.search(lines)  # type: ignore[attr-defined]
    if found is None:
        return False
    if "\n" not in found.group():
        return True
    return any(pattern.search(cell) for cell in lines.split("\n"))  # type: ignore[attr-defined]
