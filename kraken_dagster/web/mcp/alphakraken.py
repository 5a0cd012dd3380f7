"""AlphaKraken's three tools, with its names, parameters and rows; and a bound of 200 rows.

What differs: of a file's metrics the newest complete result of each type is told, a row without a
gradient's length is left out by a filter on it, and a text that is more than a word is marked.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from mcp.types import CallToolResult
from pydantic import Field

from kraken_dagster.runtime.services import Services
from kraken_dagster.web.mcp.marking import answer_of_rows
from kraken_dagster.web.queries.files import FilesQuery, Found, Name
from kraken_dagster.web.queries.plain import plain
from kraken_dagster.web.queries.quality import known_instruments
from kraken_dagster.web.queries.results import newest_of_each

MOST = 200
_OF_FILE = ("instrument_id", "status", "status_details", "size", "created_at")
_NOT_TOLD = frozenset({"_id", "raw_file", "created_at_", "type", "provenance"})
_BASIC = ("proteins", "gradient_length")
_OLD_GRADIENT, _GRADIENT = "raw:gradient_length_m", "gradient_length"
_DIGITS = 5
_TOLERANCE = 0.05
_LONGEST_AGE = 36_500  # days

Row = dict[str, Any]


class AlphaKrakenTools:
    def __init__(self, services: Services) -> None:
        self._services = services

    def get_available_instruments(self) -> CallToolResult:
        """Retrieve a list of all available instruments, each with its `instrument_id`."""
        known = known_instruments(self._services)
        return answer_of_rows([{"instrument_id": name} for name in known[:MOST]], None)

    def get_raw_files_by_names(
        self,
        raw_file_names: Annotated[
            list[Name], Field(min_length=1, max_length=MOST, description="Ids of files, exactly.")
        ],
    ) -> CallToolResult:
        """Retrieve raw files by their names and their latest metrics. Names that no file has are
        left out."""
        names = list(dict.fromkeys(raw_file_names))
        documents = self._services.store.listing.documents(names)
        found = [documents[name] for name in names if name in documents]
        return answer_of_rows(list(self._rows(found, None, only_basic=False)), None)

    def get_raw_files_for_instrument(
        self,
        *,
        instrument_id: Name,
        name_search_string: Annotated[
            str, Field(max_length=300, description="A part of the name, in capitals or not.")
        ] = "",
        max_age_in_days: Annotated[int, Field(ge=0, le=_LONGEST_AGE)] = 30,
        gradient_length_filter: Annotated[
            float | None, Field(description="Minutes; files within 5 % of it.")
        ] = None,
        only_basic_metrics: Annotated[
            bool, Field(description="Only `proteins` and `gradient_length` of the metrics.")
        ] = True,
        cursor: Annotated[str | None, Field(description="`next` of the page before.")] = None,
    ) -> CallToolResult:
        """Retrieve raw files of an instrument and their latest metrics, the newest first, at most
        200. A page may have fewer rows and a `next`: there are more then."""
        query = FilesQuery(
            instrument=instrument_id,
            name_contains=name_search_string or None,
            since=self._services.now() - timedelta(days=max_age_in_days),
            limit=MOST,
            cursor=cursor,
        )
        found = Found(self._services, query, {})
        documents = [document for document, _ in found]
        rows = self._rows(documents, gradient_length_filter, only_basic=only_basic_metrics)
        return answer_of_rows(list(rows), found.next)

    def _rows(
        self, documents: Sequence[Row], gradient: float | None, *, only_basic: bool
    ) -> Iterator[Row]:
        results = self._services.store.changes.results([str(it["_id"]) for it in documents])
        for document in documents:
            file_id = str(document["_id"])
            metrics = _flat(results.get(file_id, ()))
            if gradient and not _is_near(metrics.get(_GRADIENT), gradient):
                continue
            told = {name: document[name] for name in _OF_FILE if document.get(name) is not None}
            yield {
                "raw_file": {**_short(told), "name": file_id},
                "metrics": _short(
                    {k: v for k, v in metrics.items() if k in _BASIC or not only_basic}
                ),
            }


def _flat(results: Sequence[Row]) -> Row:
    """Of each type the newest, in one; a name that was there already gets its type before it."""
    newest: dict[str, Row] = {}
    for result in sorted(newest_of_each(results), key=_measured_at, reverse=True):
        newest.setdefault(str(result.get("type", "default")), result)
    found: Row = {}
    for kind, result in newest.items():
        for key, value in result.items():
            if key not in _NOT_TOLD:
                found[f"{kind}_{key}" if key in found else key] = value
    if _OLD_GRADIENT in found:
        found[_GRADIENT] = found.pop(_OLD_GRADIENT)
    return found


def _measured_at(result: Row) -> float:
    at = result.get("created_at_")
    return at.timestamp() if isinstance(at, datetime) else 0.0


def _is_near(found: Any, wanted: float) -> bool:
    if not isinstance(found, int | float):
        return False
    return found * (1 - _TOLERANCE) <= wanted <= found * (1 + _TOLERANCE)


def _short(values: Mapping[str, Any]) -> Row:
    """Numbers with five digits, dates to the minute, as AlphaKraken writes them for models."""
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, datetime):
        utc = value.astimezone(UTC).replace(tzinfo=None)
        return utc.replace(second=0, microsecond=0).isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        known = plain(value)
        return None if known is None else type(value)(float(f"{value:.{_DIGITS}g}"))
    return plain(value)
