"""Lists of raw files: found by exact values and the page's filter, page after page."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kraken_dagster.model.quality import Outcome
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.changes import FIELDS as OF_FILE
from kraken_dagster.web.intake import cells_of
from kraken_dagster.web.queries.conditions import Conditions, understood
from kraken_dagster.web.queries.period import Moment
from kraken_dagster.web.queries.plain import Place, cursor_of, place_of, plain
from kraken_dagster.web.table.cells import Cells
from kraken_dagster.web.table.columns import Table

MOST = 1_000  # files of one page
MOST_SCANNED = 5_000  # files that one question may look at
EVERYTHING = "*"
_BATCH = 500

Name = Annotated[str, Field(max_length=300)]
Document = dict[str, Any]


class FilesQuery(BaseModel):
    """What files are asked for; all conditions must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    instrument: Name | None = Field(None, description="The id of an instrument.")
    project: Name | None = Field(None, description="The id of a project.")
    status: Status | None = Field(None, description="What a file's status is.")
    since: Moment | None = Field(
        None, description="Files that were made then or later (`created_at`); UTC without a zone."
    )
    until: Moment | None = Field(None, description="Files that were made then or before.")
    name_contains: Annotated[str, Field(min_length=1, max_length=300)] | None = Field(
        None,
        description="A part of the file's id, in capitals or not; needs `instrument`, `project` or "
        "`since`.",
    )
    filter: str = Field(
        "",
        description="The page's filter: `hela & !error & proteins=[1000,9000]`. Terms other than "
        "`instrument_id=`, `status=` and `created_at=[,]` need a bound, as `name_contains` does.",
    )
    limit: int = Field(100, ge=1, le=MOST, description="Files of one page.")
    cursor: str | None = Field(None, description="`next` of the page before.")


class ListQuery(FilesQuery):
    """The same, with what is to be told of each file."""

    fields: str = Field(
        "",
        max_length=5_000,
        description="Names of fields and metrics, as the page's columns are called, with a comma "
        "between. None: all fields, no metrics. `*`: all of both.",
    )


def find_files(
    services: Services, query: ListQuery, names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Files, those made last first: `data`, `next` (null after the last page), `scanned` and
    `warnings`.

    A page may have fewer files than `limit`, or none, and a `next`: then as many were looked at as
    one question may look at.

    Args:
        names: other names of columns, as the page has them.

    Raises:
        InputRefused: a filter that can't be understood or has no bound, or no cursor of ours.
        StoreError
    """
    wanted = [name.strip() for name in query.fields.split(",") if name.strip()]
    found = Found(services, query, names or {}, with_cells=_needs_cells(wanted))
    rows = list(found)
    data = [_row(document, cells, wanted) for document, cells in rows]
    warnings = [f"no file that was looked at has a column {name!r}" for name in found.unseen]
    warnings += [
        f"no file of this page has {name!r}"
        for name in wanted
        if rows and name != EVERYTHING and all(item[name] is None for item in data)
    ]
    return {"data": data, "next": found.next, "scanned": found.scanned, "warnings": warnings}


class Found:
    """The files of one page, with their cells if a condition or `with_cells` asks for them.

    `next` and `scanned` are known when it has been gone through.
    """

    def __init__(
        self,
        services: Services,
        query: FilesQuery,
        names: Mapping[str, str],
        *,
        with_cells: bool = False,
    ) -> None:
        self.scanned, self.next = 0, None
        self._services, self._query, self._names = services, query, names
        self._with_cells = with_cells
        self._after = None if query.cursor is None else place_of(query.cursor)
        self._conditions = conditions_of(services, query)
        self._conditions.require_bound()

    @property
    def unseen(self) -> Sequence[str]:
        return self._conditions.unseen

    def __iter__(self) -> Iterator[tuple[Document, Cells]]:
        last: Place | None = None
        for count, (document, cells) in enumerate(self._matching()):
            if last is not None and count == self._query.limit:
                self.next = cursor_of(last)
                return
            if document is None:  # as many were looked at as one question may
                self.next = cursor_of(cells)
                return
            last = (document["created_at"], str(document["_id"]))
            yield document, cells

    def _matching(self) -> Iterator[Any]:
        """Documents with their cells; last None and a place, if there may be more."""
        exact = self._conditions.is_exact
        batches = self._services.store.listing.newest_first(
            self._conditions.query,
            fields=OF_FILE,
            after=self._after,
            batch=self._query.limit + 1 if exact else _BATCH,
            now=self._services.now(),
        )
        for documents in batches:
            self.scanned += len(documents)
            cells = self._cells(documents)
            if exact:
                yield from zip(documents, cells, strict=True)
                continue
            for row in np.flatnonzero(self._conditions.holds(_table(documents, cells))):
                yield documents[row], cells[row]
            if documents and self.scanned >= MOST_SCANNED:
                yield None, (documents[-1]["created_at"], str(documents[-1]["_id"]))

    def _cells(self, documents: Sequence[Document]) -> list[Cells]:
        needed = self._with_cells or self._conditions.needs_results
        ids = [str(item["_id"]) for item in documents] if needed else []
        results = self._services.store.changes.results(ids)
        outcomes = outcomes_of(self._services, ids)
        return [
            cells_of(item, results.get(key, ()), self._names, outcomes.get(key, ()))
            for item in documents
            for key in [str(item["_id"])]
        ]


def conditions_of(services: Services, query: FilesQuery) -> Conditions:
    """
    Raises:
        InputRefused: the filter can't be understood.
    """
    found = Conditions(name_contains=query.name_contains)
    if query.instrument is not None:
        found.query["instrument_id"] = {"$in": [query.instrument]}
    if query.project is not None:
        found.query["project_id"] = query.project
    if query.status is not None:
        found.query["status"] = {"$in": [query.status.value]}
    found.between(query.since, query.until)
    known: Collection[str] | None = None
    for term in understood(query.filter):
        if known is None:
            known = services.store.instruments.ids()
        found.take(term, known)
    return found


def outcomes_of(services: Services, ids: Sequence[str]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for (file_id, _, _), verdict in services.store.quality.latest(list(ids), in_short=True).items():
        found.setdefault(file_id, []).append(verdict.outcome)
    return found


def _table(documents: Sequence[Document], cells: Sequence[Cells]) -> Table:
    table = Table()
    for document, own in zip(documents, cells, strict=True):
        table.put(str(document["_id"]), own)
    return table


def _needs_cells(wanted: Sequence[str]) -> bool:
    return any(name not in (*OF_FILE, "id") for name in wanted)


def _row(document: Document, cells: Cells, wanted: Sequence[str]) -> dict[str, Any]:
    own = {name: plain(document.get(name)) for name in OF_FILE}
    row: dict[str, Any] = {"id": str(document["_id"])}
    if not wanted:
        return {**row, **own}
    if EVERYTHING in wanted:
        return {**plain(cells), **own, **row}
    for name in wanted:
        if name != "id":
            row[name] = own[name] if name in own else plain(cells.get(name))
    return row
