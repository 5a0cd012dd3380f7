"""Documents of MongoDB into the cells of a row; whatever stands in a document, it has cells."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kraken_dagster.model.files.dates import dated
from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.model.quality import Outcome
from kraken_dagster.model.raw_file import AFTER_BACKUP, BACKED_UP
from kraken_dagster.store.connection import Store
from kraken_dagster.store.quant.metrics import current_results
from kraken_dagster.web.table.cells import Cell, Cells

GB = 1024**3
QUALITY = "quality"
_FROM_GOOD_TO_BAD = (Outcome.NOT_JUDGED, Outcome.IN_CONTROL, Outcome.LOOK, Outcome.OUT_OF_CONTROL)
# Columns of every file, in the order in which they are shown.
BASIC = (
    "instrument_id",
    "status",
    "created_at",
    QUALITY,
    "project_id",
    "size_gb",
    "status_details",
    "settings",
    "backup_status",
    "instrument_file_status",
    "verified_at",
    "updated_at_",
    "created_at_",
    "original_name",
)
BACKED = "is_backed_up"  # yes or no; not shown, since `backup_status` is
FOLDER = "backup_base_path"  # shown as the path of a file
_DATES = ("created_at", "created_at_", "updated_at_", "verified_at")
_TEXTS = (
    "instrument_id",
    "status",
    "project_id",
    "status_details",
    "backup_status",
    "instrument_file_status",
    FOLDER,
)
_LONGEST_TEXT = 1_000


@dataclass(frozen=True)
class Row:
    """What a table has of a file; `updated_at` as its document says."""

    id: str
    cells: Cells
    updated_at: datetime | None
    has_results: bool


def rows_of(
    store: Store,
    ids: Collection[str],
    names: Mapping[str, str],
    *,
    settings: tuple[str, int | None] | None = None,
) -> Iterator[Row]:
    """The rows of these raw files, in no order.

    Args:
        settings: name and version (None: any) of those whose results are looked at; None: all.

    Raises:
        StoreError
    """
    results = store.changes.results(ids)
    outcomes: dict[str, list[Outcome]] = {}
    for (file_id, _, _), verdict in store.quality.latest(list(ids)).items():
        outcomes.setdefault(file_id, []).append(verdict.outcome)
    for document in store.changes.files(ids):
        file_id, updated_at = str(document["_id"]), document.get("updated_at_")
        own = [item for item in results.get(file_id, ()) if _is_of(item, settings)]
        cells = cells_of(document, own, names, outcomes.get(file_id, ()))
        at = updated_at if isinstance(updated_at, datetime) else None
        yield Row(file_id, cells, at, bool(own))


def _is_of(result: Mapping[str, Any], settings: tuple[str, int | None] | None) -> bool:
    if settings is None:
        return True
    name, version = settings
    same_version = version in (None, result.get("settings_version", 1))
    return result.get("settings_name") == name and same_version


def cells_of(
    document: Mapping[str, Any],
    results: Sequence[dict[str, Any]],
    names: Mapping[str, str],
    outcomes: Collection[Outcome] = (),
) -> Cells:
    """The cells of a raw file.

    Args:
        results: of the file, newest first. Where those of several types have a metric of one name,
            that of the newest has it, and the others get their type behind it.
        names: other names of columns, and what they are shown as.
        outcomes: of the file's verdicts, one for each settings; the worst is shown.
    """
    cells: dict[str, Cell] = {name: _text(document.get(name)) for name in _TEXTS}
    cells |= {name: _date(document.get(name)) for name in _DATES}
    cells["created_at"] = _made(document)
    size = document.get("size")
    if isinstance(size, int | float) and not isinstance(size, bool):
        cells["size_gb"] = size / GB
    if document.get("original_name") != document.get("_id"):
        cells["original_name"] = _text(document.get("original_name"))
    cells[BACKED] = "yes" if _is_backed_up(document) else "no"
    if outcomes:
        cells[QUALITY] = max(outcomes, key=_FROM_GOOD_TO_BAD.index)
    cells |= _metrics(results, names, taken=cells.keys())
    return {name: value for name, value in cells.items() if value is not None}


def _metrics(
    results: Sequence[dict[str, Any]], names: Mapping[str, str], *, taken: Any
) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    settings = []
    for result in current_results(results):
        name, version = result.get("settings_name"), result.get("settings_version", 1)
        if name is not None:
            settings.append(f"{name} v{version}")
        for key, value in result.items():
            if key in RESERVED_NAMES:
                continue
            shown = names.get(key, key)
            if shown in found or shown in taken:
                shown = f"{shown}_{result.get('type')}"
            cell = _cell(value)
            if cell is not None and shown not in found:
                found[shown] = cell
    elapsed = found.get("quanting_time_elapsed")
    if isinstance(elapsed, int | float) and not isinstance(elapsed, bool):
        found["quanting_time_minutes"] = elapsed / 60
    if settings:
        found["settings"] = ", ".join(settings)[:_LONGEST_TEXT]
    return found


def _is_backed_up(document: Mapping[str, Any]) -> bool:
    status = document.get("backup_status")
    if status is None:  # AlphaKraken's older documents
        return document.get("status") in AFTER_BACKUP
    return status in BACKED_UP


def _cell(value: Any) -> Cell:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool | int | float | datetime):
        return value
    return None  # lists and the like are shown with the file


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:_LONGEST_TEXT]


def _made(document: Mapping[str, Any]) -> datetime | None:
    """By a date that can be: other programs keep what an instrument's clock said, be it 2050."""
    made, seen = _date(document.get("created_at")), _date(document.get("created_at_"))
    return made if made is None or seen is None else dated(made, first_seen=seen)


def _date(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) else None
