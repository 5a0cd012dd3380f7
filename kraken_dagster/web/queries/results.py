"""Metrics of files as rows, one for each result that counts: as JSON, CSV or Parquet."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.quant.metrics import current_results
from kraken_dagster.web.queries.files import FilesQuery, Found, Name
from kraken_dagster.web.queries.plain import utc_text

# Of every row; then come the metrics, by name.
BASIC = ("raw_file", "instrument_id", "project_id", "created_at", "type")
BASIC += ("settings_name", "settings_version", "measured_at")
_PLACED = frozenset((*RESERVED_NAMES, *BASIC))

Row = dict[str, Any]


class MetricsQuery(FilesQuery):
    """The results of the files that are asked for."""

    type: Name | None = Field(
        None, description="What has measured: `alphadia`, `diann`, `raw` (the raw file itself) ..."
    )
    settings: Name | None = Field(None, description="The name of the settings.")
    metrics: str = Field(
        "", max_length=5_000, description="Names of metrics with a comma between; none: all."
    )


class MetricsDownload(MetricsQuery):
    """The same, with the form of the answer."""

    format: Literal["json", "csv", "parquet"] = Field("json", description="The form of the answer.")


def find_metrics(
    services: Services, query: MetricsQuery, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Rows of the newest complete result of each file, settings and type: `data`, `next`,
    `scanned`. `limit` and `next` count files. Values are as measured; dates are `datetime`.

    Raises:
        InputRefused: a filter that can't be understood or has no bound, or no cursor of ours.
        StoreError
    """
    found = Found(services, query, names or {})
    files = {str(document["_id"]): document for document, _ in found}
    results = services.store.changes.results(list(files))
    wanted = [name.strip() for name in query.metrics.split(",") if name.strip()]
    rows = [
        _row(document, result, names or {}, wanted)
        for file_id, document in files.items()
        for result in newest_of_each(results.get(file_id, ()))
        if query.type in (None, result.get("type"))
        and query.settings in (None, result.get("settings_name"))
    ]
    return {"data": rows, "next": found.next, "scanned": found.scanned}


def newest_of_each(results: Sequence[Row]) -> list[Row]:
    """Of each settings and type the newest complete result, else the newest.

    Args:
        results: of one file, newest first.
    """
    types = dict.fromkeys(str(item.get("type")) for item in results)
    return [
        result
        for kind in types
        for result in current_results([it for it in results if str(it.get("type")) == kind])
    ]


def _row(
    document: Mapping[str, Any],
    result: Mapping[str, Any],
    names: Mapping[str, str],
    wanted: Sequence[str],
) -> Row:
    basic = {
        "raw_file": str(document["_id"]),
        "instrument_id": document.get("instrument_id"),
        "project_id": document.get("project_id"),
        "created_at": document.get("created_at"),
        "type": result.get("type"),
        "settings_name": result.get("settings_name"),
        "settings_version": result.get("settings_version"),
        "measured_at": result.get("created_at_"),
    }
    metrics = {
        names.get(key, key): value for key, value in result.items() if key not in RESERVED_NAMES
    }
    if wanted:
        return {**basic, **{name: metrics.get(name) for name in wanted if name not in _PLACED}}
    return {**metrics, **basic}


def columns_of(rows: Sequence[Row]) -> list[str]:
    """`BASIC`, then the metrics by name."""
    known = {name for row in rows for name in row}
    return [*BASIC, *sorted(known - set(BASIC), key=str.lower)]


def as_csv(rows: Sequence[Row]) -> bytes:
    """UTF-8, a comma between, CR LF; nothing where there is no value."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = columns_of(rows)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in names])
    return text.getvalue().encode("utf-8", "replace")


def as_parquet(rows: Sequence[Row]) -> bytes:
    """Whole numbers as int64 where all of a column are, others as float64; dates in UTC; a column
    with a text in it is all text."""
    import pyarrow as pa  # noqa: PLC0415 - takes a while
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns = {}
    for name in columns_of(rows):
        values, kind = _typed([row.get(name) for row in rows])
        types = {
            "bool": pa.bool_(),
            "int": pa.int64(),
            "float": pa.float64(),
            "time": pa.timestamp("ms", tz="UTC"),
            "text": pa.string(),
        }
        columns[name] = pa.array(values, type=types[kind])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _typed(values: Sequence[Any]) -> tuple[list[Any], str]:
    """The values of a column and the one type that holds all of them."""
    kinds = {_kind(value) for value in values if value is not None}
    if not kinds:
        return list(values), "float"
    if len(kinds) == 1 and kinds != {"text"}:
        return list(values), kinds.pop()
    if kinds == {"int", "float"}:
        return [None if value is None else float(value) for value in values], "float"
    return [None if value is None else _text(value) for value in values], "text"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "time" if isinstance(value, datetime) else "text"


def _text(value: object) -> str:
    text = utc_text(value) if isinstance(value, datetime) else str(value)
    return text.encode("utf-8", "replace").decode()


def _csv_cell(value: object) -> object:
    return utc_text(value) if isinstance(value, datetime) else value
