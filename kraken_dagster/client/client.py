"""Files, metrics and traces of a laboratory as data frames."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from warnings import warn

import httpx
import pandas as pd

from kraken_dagster.client.asking import (
    Moment,
    Names,
    Row,
    columns_of,
    conditions_of,
    file_at,
    listed,
    told_by_all,
)
from kraken_dagster.client.connection import Connection
from kraken_dagster.client.errors import RestError, RestWarning
from kraken_dagster.client.frames import OF_FILES, OF_RESULTS, frame_of, frame_of_traces
from kraken_dagster.client.units import UNITS, units_of_files, units_of_results, units_of_traces

URL, TOKEN = "KRAKEN_URL", "KRAKEN_TOKEN"
_HERE = "http://127.0.0.1:8080"
_PAGE, _SMALL_PAGE = 1_000, 100  # files


class KrakenClient:
    """Asks the page of a laboratory (docs/rest.md), and changes nothing.

    `attrs["units"]` of each data frame has the unit of a column by its name; a column that isn't
    named there is a count, a ratio, or of a program that tells no unit. Dates are UTC; one that is
    given without a zone is taken as UTC.

    Args:
        url: the page's address; None: `KRAKEN_URL`, else that of a page on this machine.
        token: what `kraken token add` has printed; None: `KRAKEN_TOKEN`, else none is sent.
        timeout_s: how long to wait for a part of an answer.
        retries: how often to ask again when the page says "later" (429, 503).
        page_size: files of one answer, at most 1,000.

    Raises:
        RestError: with the words of Kraken's commands; so do all methods.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
        page_size: int = _PAGE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._page_size = page_size
        self._connection = Connection(
            url or os.environ.get(URL) or _HERE,
            token or os.environ.get(TOKEN),
            timeout_s=timeout_s,
            retries=retries,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"KrakenClient({self._connection!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def files(
        self,
        *,
        instrument: str | None = None,
        project: str | None = None,
        status: str | None = None,
        since: Moment = None,
        until: Moment = None,
        name_contains: str | None = None,
        filter: str = "",
        fields: Names = (),
        limit: int | None = None,
    ) -> pd.DataFrame:
        """A row for each file, those made last first. All conditions must hold.

        Args:
            status: such as `done` or `error`.
            since, until: when a file was made (`created_at`), both included.
            name_contains: a part of the file's id; needs `instrument`, `project` or `since`.
            filter: the page's (docs/page.md): `hela & !error & proteins=[1000,]`.
            fields: columns besides `id`, also metrics; none: all but metrics; `*`: everything.
            limit: the newest files only; None: all, page after page.
        """
        wanted = listed(fields)
        query = conditions_of(
            instrument=instrument,
            project=project,
            status=status,
            since=since,
            until=until,
            name_contains=name_contains,
            filter=filter,
            fields=",".join(wanted),
        )
        rows, warnings = self._rows("files", query, limit, key="id")
        for text in warnings:
            warn(text, RestWarning, stacklevel=2)
        frame = frame_of(rows, columns_of(rows, OF_FILES, wanted, key="id"))
        frame.attrs[UNITS] = units_of_files(frame)
        return frame

    def metrics(
        self,
        *,
        instrument: str | None = None,
        project: str | None = None,
        status: str | None = None,
        since: Moment = None,
        until: Moment = None,
        name_contains: str | None = None,
        filter: str = "",
        type: str | None = None,
        settings: str | None = None,
        metrics: Names = (),
        limit: int | None = None,
    ) -> pd.DataFrame:
        """A row for the newest complete result of each file, settings and type.

        Args:
            type: what has measured: `alphadia`, `diann`, `raw` (the raw file itself) ...
            settings: the name of the settings.
            metrics: names of metrics; none: all.
            limit: the newest files only that have such results; the rest is as for `files`.
        """
        wanted = listed(metrics)
        query = conditions_of(
            instrument=instrument,
            project=project,
            status=status,
            since=since,
            until=until,
            name_contains=name_contains,
            filter=filter,
            type=type,
            settings=settings,
            metrics=",".join(wanted),
        )
        rows, _ = self._rows("metrics", query, limit, key="raw_file")
        frame = frame_of(rows, columns_of(rows, OF_RESULTS, wanted))
        frame.attrs[UNITS] = units_of_results(frame, OF_RESULTS)
        return frame

    def traces(self, files: str | Iterable[str], names: Names = ()) -> pd.DataFrame:
        """A row for each value of each trace, such as a file's total ion current.

        Columns: `raw_file`, `trace` and `unit` (categories), `rt_min` (retention time in minutes)
        and `value`. Of several files, one without traces is left out with a warning; of one file
        that is an error.

        Args:
            files: an id, or several: `frame["id"]`, `frame["raw_file"]`.
            names: names of traces; none: all.
        """
        query = {"name": ",".join(listed(names)) or None}
        if isinstance(files, str):
            answers = [self._connection.get(f"{file_at(files)}/traces", query)]
        else:
            answers = []
            for file_id in dict.fromkeys(files):
                try:
                    answers.append(self._connection.get(f"{file_at(file_id)}/traces", query))
                except RestError as error:
                    if error.kind != "MissingOutputError":
                        raise
                    warn(str(error), RestWarning, stacklevel=2)
        frame = frame_of_traces(answers)
        frame.attrs[UNITS] = units_of_traces(frame)
        return frame

    def file(self, file_id: str) -> dict[str, Any]:
        """Everything that is known of one file: members, jobs, results with provenance, history."""
        found: dict[str, Any] = self._connection.get(file_at(file_id))
        return found

    def _rows(
        self, path: str, query: Mapping[str, Any], limit: int | None, *, key: str
    ) -> tuple[list[Row], list[str]]:
        """The rows of the first `limit` values of `key`, and what the pages warn of."""
        pages: list[dict[str, Any]] = []
        chosen: dict[str, None] = {}
        for page in self._pages(path, query, limit):
            pages.append(page)
            chosen |= dict.fromkeys(row[key] for row in page["data"])
            if limit is not None and len(chosen) >= limit:
                break
        kept = set(list(chosen)[:limit])
        rows = [row for page in pages for row in page["data"] if row[key] in kept]
        return rows, told_by_all(pages)

    def _pages(
        self, path: str, query: Mapping[str, Any], limit: int | None
    ) -> Iterator[dict[str, Any]]:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; expected 1 or more, or None for all")
        size = self._page_size if limit is None else min(self._page_size, max(limit, _SMALL_PAGE))
        cursor: str | None = None
        while True:
            page = self._connection.get(path, {**query, "limit": size, "cursor": cursor})
            yield page
            cursor = page["next"]
            if cursor is None:
                return
