"""AlphaKraken's list of raw files, with its parameters and its answer, from the page's columns.

So neither a part of a name nor the total is looked for by MongoDB, which would go through all
files. It differs in one thing: of a file's metrics the newest of each settings and type are told,
where AlphaKraken tells the oldest of each type.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.period import AnyMoment
from kraken_dagster.web.queries.plain import plain
from kraken_dagster.web.queries.results import newest_of_each
from kraken_dagster.web.table.columns import Mask, Table

MOST = 1_000
# In AlphaKraken's order; the first ones are always there, the others where they have a value.
_ALWAYS = ("original_name", "instrument_id", "project_id", "status", "size", "created_at")
_ALWAYS += ("updated_at_",)
_OTHERS = ("status_details", "backup_status", "s3_upload_path", "instrument_file_status")
_OTHERS += ("collision_flag",)
_NOT_TOLD = ("_id", "raw_file", "created_at_", "settings_name", "settings_version", "provenance")
# As older versions have called them, and as AlphaKraken shows them.
_RENAMED = {
    "raw:gradient_length_m": "gradient_length",
    "msqc_evosep_pump_hp_pressure_max": "evosep_pump_hp_pressure_max",
}

Row = dict[str, Any]


class RawFilesQuery(BaseModel):
    """AlphaKraken's parameters; others are ignored, as there."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    instrument_id: str | None = Field(None, description="Filter by instrument ID (exact match)")
    name_contains: str | None = Field(
        None, description="Case-insensitive substring search on raw file ID"
    )
    project_id: str | None = Field(None, description="Filter by project ID (exact match)")
    date_from: AnyMoment | None = Field(
        None, description="Filter: created_at >= date_from (ISO 8601); UTC without a zone"
    )
    date_to: AnyMoment | None = Field(
        None, description="Filter: created_at <= date_to (ISO 8601); UTC without a zone"
    )
    limit: int = Field(100, ge=1, le=MOST, description="Number of results per page")
    offset: int = Field(0, ge=0, description="Number of results to skip")
    include_metrics: bool = Field(True, description="Include metrics for each raw file")
    include_file_info: bool = Field(
        False, description="Include file_info and backup_base_path for each raw file"
    )


def raw_files(services: Services, table: Table, query: RawFilesQuery) -> Row:
    """`total`, `offset`, `limit` and `data`, the files that were made last first.

    Raises:
        StoreError
    """
    with table.lock:
        mask = _mask(table, query)
        ids = _window(table, mask, query.offset, query.limit)
        total = int(np.count_nonzero(mask))
    documents = services.store.listing.documents(ids)
    results = services.store.changes.results(ids) if query.include_metrics else {}
    members = _members(services, ids) if query.include_file_info else {}
    data = [
        _row(
            documents[key],
            _metrics(results.get(key, ())) if query.include_metrics else None,
            members.get(key),
        )
        for key in ids
        if key in documents
    ]
    return {"total": total, "offset": query.offset, "limit": query.limit, "data": data}


def _mask(table: Table, query: RawFilesQuery) -> Mask:
    mask = np.ones(len(table), dtype=bool)
    for name in ("instrument_id", "project_id"):
        word = getattr(query, name)
        if word is not None:
            mask &= table.is_word(name, word)
    created = table.numbers("created_at")
    if query.date_from is not None:
        mask &= created >= query.date_from.timestamp()
    if query.date_to is not None:
        mask &= created <= query.date_to.timestamp()
    if query.name_contains is not None:
        wanted = query.name_contains.lower()
        mask &= np.array([wanted in file_id.lower() for file_id in table.ids], dtype=bool)
    return mask


def _window(table: Table, mask: Mask, offset: int, limit: int) -> list[str]:
    """The ids of a page, by date and id, greatest first; files without a date come last."""
    rows = np.flatnonzero(mask)
    if offset >= len(rows):
        return []
    dates = np.nan_to_num(table.numbers("created_at")[rows], nan=-np.inf)
    descending = -np.sort(-dates)
    first, last = descending[offset], descending[min(offset + limit, len(rows)) - 1]
    before = int(np.count_nonzero(dates > first))
    near = np.flatnonzero((dates <= first) & (dates >= last))
    page = sorted(((dates[item], table.ids[rows[item]]) for item in near), reverse=True)
    return [file_id for _, file_id in page[offset - before :][:limit]]


def _members(services: Services, ids: Sequence[str]) -> dict[str, Row]:
    return {
        key: {
            "file_info": {name: fact.to_record() for name, fact in item.file_info.items()},
            "backup_base_path": item.backup_base_path,
        }
        for key, item in services.store.raw_files.many(ids).items()
    }


def _row(document: Mapping[str, Any], metrics: list[Row] | None, members: Row | None) -> Row:
    row: Row = {"id": str(document["_id"])}
    row |= {name: _value(document.get(name)) for name in _ALWAYS}
    row["metrics"] = metrics
    row |= members or {"file_info": None, "backup_base_path": None}
    others = {name: _value(document.get(name)) for name in _OTHERS}
    return {**row, **{name: value for name, value in others.items() if value is not None}}


def _metrics(results: Sequence[Row]) -> list[Row]:
    """Oldest first: who makes a dictionary by `type` of them keeps the newest."""
    return [
        {
            _RENAMED.get(key, key): _value(item)
            for key, item in result.items()
            if key not in _NOT_TOLD
        }
        for result in sorted(newest_of_each(results), key=_measured_at)
    ]


def _measured_at(result: Row) -> float:
    at = result.get("created_at_")
    return at.timestamp() if isinstance(at, datetime) else 0.0


def _value(value: Any) -> Any:
    """As AlphaKraken writes it: a date is in UTC, and doesn't say so."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat()
    return plain(value)
