"""All routes of REST, each with its description."""

from starlette.routing import Route

from kraken_dagster.web.api import acting, changes, examples, reading
from kraken_dagster.web.api.endpoint import JSON, Asked, Endpoint
from kraken_dagster.web.api.openapi import describe
from kraken_dagster.web.queries.alphakraken import RawFilesQuery
from kraken_dagster.web.queries.files import ListQuery
from kraken_dagster.web.queries.laboratory import AlertsQuery, VerdictsQuery
from kraken_dagster.web.queries.results import MetricsDownload

_FILE = "/v1/files/{id:any}"


def _openapi(_asked: Asked) -> object:
    return describe(ENDPOINTS)


_READING = (
    Endpoint("/health", reading.health, "Whether the server lives", {"status": "ok"}),
    Endpoint("/health/", reading.without_slash, "The same", None, status=307),
    Endpoint(
        "/raw_files/",
        reading.raw_files,
        "AlphaKraken's list of raw files with their newest metrics",
        examples.RAW_FILES,
        query=RawFilesQuery,
        query_example={"instrument_id": "astral1", "date_from": "2026-01-01", "limit": 10},
        faults=reading.raw_file_faults,
        fault_example=examples.RAW_FILES_FAULT,
    ),
    Endpoint("/raw_files", reading.with_slash, "The same", None, status=307),
    Endpoint(
        "/v1/files",
        reading.files,
        "Files, those made last first",
        examples.FILES,
        query=ListQuery,
        query_example={"instrument": "astral1", "filter": "hela & !error", "limit": 100},
    ),
    Endpoint(
        f"{_FILE}/traces",
        reading.traces,
        "The traces of a file, such as its total ion current",
        examples.TRACES,
        query=reading.TracesQuery,
        query_example={"name": "tic"},
        path_example=examples.FILE_ID,
        errors=(404, 409),
    ),
    Endpoint(
        _FILE,
        reading.file,
        "Everything that is known of a file: members, jobs, results with provenance, history",
        examples.FILE,
        path_example=examples.FILE_ID,
        errors=(404,),
    ),
    Endpoint(
        "/v1/metrics",
        reading.metrics,
        "The newest metrics of files, a row for each settings and type",
        examples.METRICS,
        query=MetricsDownload,
        query_example={"instrument": "astral1", "metrics": "precursors,proteins"},
        media_types=(JSON, reading.CSV, reading.PARQUET),
    ),
    Endpoint("/v1/status", reading.status, "What is wrong, and what is known", examples.STATUS),
    Endpoint(
        "/v1/instruments",
        reading.instruments,
        "The instruments, and how they are",
        examples.INSTRUMENTS,
    ),
    Endpoint("/v1/projects", reading.projects, "Projects with their settings", examples.PROJECTS),
    Endpoint("/v1/settings", reading.settings, "Every version of all settings", examples.SETTINGS),
    Endpoint(
        "/v1/alerts",
        reading.alerts,
        "Alerts, the newest first",
        examples.ALERTS,
        query=AlertsQuery,
    ),
    Endpoint(
        "/v1/quality/verdicts",
        reading.verdicts,
        "How quality control runs were judged",
        examples.VERDICTS,
        query=VerdictsQuery,
        query_example={"instrument": "astral1"},
        errors=(404,),
    ),
    Endpoint(
        "/v1/events",
        changes.events,
        "Server-sent events: which files have changed",
        None,
        media_types=(changes.EVENTS,),
    ),
    Endpoint("/openapi.json", _openapi, "This description", {"openapi": "3.1.0"}),
)
_ACTING = (
    Endpoint(
        f"{_FILE}/retry",
        acting.retry,
        "Have the failed step of a file done again, or the file processed with chosen settings",
        examples.ASKED_FOR,
        method="POST",
        body=acting.Retry,
        body_example={"mode": "add", "settings": ["dia:1"]},
        path_example=examples.FILE_ID,
        errors=(404, 409),
    ),
    Endpoint(
        f"{_FILE}/verify",
        acting.verify,
        "Have the backup of a file read again",
        examples.ASKED_FOR,
        method="POST",
        body=acting.Nothing,
        status=202,
        path_example=examples.FILE_ID,
        errors=(404, 409),
    ),
    Endpoint(
        "/v1/quality/annotations",
        acting.annotate,
        "Note what was done to an instrument",
        examples.ANNOTATION,
        method="POST",
        body=acting.Annotate,
        body_example=examples.ANNOTATE,
        status=201,
    ),
    Endpoint(
        "/v1/alerts/{id:any}/acknowledge",
        acting.acknowledge,
        "Say that an alert was seen",
        examples.ACKNOWLEDGED,
        method="POST",
        body=acting.Nothing,
        path_example="ab12cd34",
        errors=(404,),
    ),
)
ENDPOINTS = (*_READING, *_ACTING)


def routes() -> list[Route]:
    return [item.route() for item in ENDPOINTS]
