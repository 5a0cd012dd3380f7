"""Kraken's own tools: each a question to `web.queries`, with a bound of 200."""

from typing import Annotated, Any

from pydantic import Field

from kraken_dagster.metrics.catalogue import catalogue, described
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.report import status
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.comparison import MOST_FILES, compare
from kraken_dagster.web.queries.explain import explain
from kraken_dagster.web.queries.files import EVERYTHING, ListQuery, Name, find_files
from kraken_dagster.web.queries.laboratory import AlertsQuery, alerts_of, projects_of
from kraken_dagster.web.queries.period import Moment
from kraken_dagster.web.queries.plain import plain
from kraken_dagster.web.queries.quality import MOST_RUNS, quality_of
from kraken_dagster.web.queries.results import MetricsQuery, find_metrics
from kraken_dagster.web.queries.thinned import MOST_POINTS, thinned

MOST = 200
_MOST_WITH_ALL = 20  # files of a page that tells every metric

Row = dict[str, Any]
Limit = Annotated[int, Field(ge=1, le=MOST, description="Files of a page.")]
Cursor = Annotated[str | None, Field(description="`next` of the page before.")]
Instrument = Annotated[Name | None, Field(description="The id of an instrument.")]
Project = Annotated[Name | None, Field(description="The id of a project.")]
Since = Annotated[Moment | None, Field(description="Made then or later; UTC without a zone.")]
Until = Annotated[Moment | None, Field(description="Made then or before.")]
Part = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=300,
        description="A part of the file's id; needs `instrument`, `project` or `since`.",
    ),
]
Filter = Annotated[
    str,
    Field(
        description="The page's filter, like `hela & !blank & proteins=[1000,9000]`; it needs "
        "`instrument`, `project` or `since`."
    ),
]
Names = Annotated[list[Name], Field(max_length=MOST)]


class Tools:
    """Each method is a tool; its text and its parameters' are what a model reads."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def find_files(
        self,
        *,
        instrument: Instrument = None,
        project: Project = None,
        status: Status | None = None,
        since: Since = None,
        until: Until = None,
        name_contains: Part = None,
        filter: Filter = "",
        fields: Annotated[
            str,
            Field(
                max_length=5_000,
                description="Fields and metrics to tell of each file, with a comma between, like "
                "`status,proteins`; none: all fields, no metrics; `*`: all of both.",
            ),
        ] = "",
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Row:
        """Find raw files, those made last first. A page may have fewer files than `limit`, or
        none, and a `next`: ask with it as `cursor` for the rest."""
        _require_readable(fields, limit)
        query = ListQuery(
            instrument=instrument,
            project=project,
            status=status,
            since=since,
            until=until,
            name_contains=name_contains,
            filter=filter,
            fields=fields,
            limit=limit,
            cursor=cursor,
        )
        return find_files(self._services, query)

    def find_metrics(
        self,
        *,
        metrics: Annotated[
            str,
            Field(
                min_length=1,
                max_length=5_000,
                description="Names of metrics with a comma between, like `proteins,precursors`.",
            ),
        ],
        instrument: Instrument = None,
        project: Project = None,
        since: Since = None,
        until: Until = None,
        name_contains: Part = None,
        filter: Filter = "",
        type: Annotated[
            Name | None, Field(description="`alphadia`, `diann`, `raw` (the raw file itself) ...")
        ] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Row:
        """The newest metrics of files over time: a row for each file, settings and type, those
        made last first. `describe_metrics` tells units."""
        query = MetricsQuery(
            metrics=metrics,
            instrument=instrument,
            project=project,
            since=since,
            until=until,
            name_contains=name_contains,
            filter=filter,
            type=type,
            limit=limit,
            cursor=cursor,
        )
        found: Row = plain(find_metrics(self._services, query))
        return found

    def explain_file(self, file: Name) -> Row:
        """What state a file is in: what it waits for or why it failed, the next step for a person,
        its jobs with the end of their logs, results, verdicts and history."""
        return explain(self._services, file)

    def compare_runs(
        self,
        files: Annotated[list[Name], Field(min_length=2, max_length=MOST_FILES)],
        metrics: Annotated[Names, Field(description="Only these; none: all.")] = [],  # noqa: B006
    ) -> Row:
        """Metrics of runs side by side, with the change from the first file in percent, what
        differs most first."""
        return compare(self._services, files, metrics)

    def quality_of_instrument(
        self,
        instrument: Name,
        sample_class: Annotated[Name | None, Field(description="Of the runs, like `hela`.")] = None,
        runs: Annotated[int, Field(ge=1, le=MOST_RUNS, description="The newest ones.")] = 30,
    ) -> Row:
        """How an instrument's quality control runs were judged: the newest verdict in words, what
        was out most often, the runs, and what people noted (a new column, a calibration)."""
        return quality_of(self._services, instrument, sample_class=sample_class, runs=runs)

    def what_is_wrong(self) -> Row:
        """What is wrong in the laboratory now, each line with its next step; open alerts; how
        every instrument is."""
        report = plain(status(self._services))
        alerts = alerts_of(self._services, AlertsQuery(limit=MOST))
        of_instrument = ("id", "type", "status", "details", "looked_at", "free_space_gb", "files")
        return {
            "wrong": report["wrong"][:MOST],
            "wrong_left_out": max(0, len(report["wrong"]) - MOST),
            "alerts": alerts,
            "instruments": [
                {name: item[name] for name in of_instrument}
                for item in report["instruments"][:MOST]
            ],
        }

    def trace_of_file(
        self,
        file: Name,
        name: Annotated[str, Field(max_length=100, description="`tic`, a pump's ...")] = "tic",
        points: Annotated[int, Field(ge=10, le=MOST_POINTS)] = 100,
    ) -> Row:
        """A trace of a raw file over retention time, such as its total ion current (`tic`) or a
        pump's pressure, thinned: of each stretch of time its highest value."""
        return thinned(self._services, file, name, points)

    def list_projects(self) -> Row:
        """Projects with the settings that their files are processed with."""
        found = projects_of(self._services)
        return {"data": found[:MOST], "left_out": max(0, len(found) - MOST)}

    def describe_metrics(
        self,
        names: Annotated[Names, Field(description="Of metrics; none: all that are known.")] = [],  # noqa: B006
    ) -> Row:
        """Title, unit and definition of metrics."""
        found = [described(name) for name in names] if names else list(catalogue())
        rows = [
            {"name": it.name, "title": it.title, "unit": it.unit, "definition": it.definition}
            for it in found
            if it is not None
        ]
        unknown = [name for name, it in zip(names, found, strict=False) if it is None]
        return {"data": rows[:MOST], "left_out": max(0, len(rows) - MOST), "unknown": unknown}


def _require_readable(fields: str, limit: int) -> None:
    if EVERYTHING in fields and limit > _MOST_WITH_ALL:
        raise InputRefused(
            "That would be too much to read",
            expected=f"at most {_MOST_WITH_ALL} files with `*`",
            found=f"limit {limit}",
            next_step="name the fields, or take a smaller limit.",
        )
