"""Runs side by side: what of their metrics differs, and by how much."""

from collections.abc import Mapping, Sequence
from typing import Any

from kraken_dagster.metrics.catalogue import described
from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.plain import plain
from kraken_dagster.web.queries.results import newest_of_each

MOST_FILES, MOST_ROWS = 20, 200

Row = dict[str, Any]


def compare(services: Services, file_ids: Sequence[str], metrics: Sequence[str] = ()) -> Row:
    """`files`, and `rows`: each a metric of one type and settings with its values in the order of
    the files, and how far each is from the first, in percent. What differs most comes first.

    Args:
        metrics: names of metrics; none: all, of which `left_out` are not told.

    Raises:
        UnknownRawFile, StoreError
    """
    files = [services.store.raw_files.current(file_id) for file_id in dict.fromkeys(file_ids)]
    ids = [item.id for item in files]
    results = services.store.changes.results(ids)
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for file_id in ids:
        for result in newest_of_each(results.get(file_id, ())):
            key = (str(result.get("type")), str(result.get("settings_name") or ""))
            groups.setdefault(key, {}).setdefault(file_id, result)
    rows = [row for key, group in groups.items() for row in _rows(key, group, ids, metrics)]
    rows.sort(key=_largest_change, reverse=True)
    return {
        "files": [
            {
                "file": item.id,
                "instrument": item.instrument_id,
                "project": item.project_id,
                "status": item.status.value,
                "created_at": plain(item.created_at),
                "size_bytes": item.size,
            }
            for item in files
        ],
        "rows": rows[:MOST_ROWS],
        "left_out": max(0, len(rows) - MOST_ROWS),
    }


def _rows(
    key: tuple[str, str], group: Mapping[str, Row], ids: Sequence[str], wanted: Sequence[str]
) -> list[Row]:
    kind, settings = key
    found = {name for result in group.values() for name in result if name not in RESERVED_NAMES}
    names = [name for name in wanted if name in found] if wanted else sorted(found)
    results = [group.get(file_id, {}) for file_id in ids]
    versions = [result.get("settings_version") for result in results]
    return [
        {
            "metric": name,
            **_words(name, kind),
            "type": kind,
            "settings_name": settings or None,
            "settings_versions": versions,
            "values": values,
            "change_percent": [_change(values[0], value) for value in values],
        }
        for name in names
        for values in [[plain(result.get(name)) for result in results]]
    ]


def _words(name: str, kind: str) -> Row:
    known = described(name, kind)
    return {} if known is None else {"title": known.title, "unit": known.unit}


def _change(first: Any, value: Any) -> float | None:
    if not (_is_number(first) and _is_number(value)) or first == 0:
        return None
    change: float | None = plain(100 * (value / first - 1))  # what overflows has no number
    return None if change is None else round(change, 2)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _largest_change(row: Row) -> float:
    return max((abs(item) for item in row["change_percent"] if item is not None), default=-1.0)
