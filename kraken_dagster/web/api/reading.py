"""What is answered to who reads: each a question to `web.queries`."""

from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import RedirectResponse, Response

from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.web.api.endpoint import Asked
from kraken_dagster.web.api.problems import Json
from kraken_dagster.web.queries import alphakraken, laboratory, one_file, results
from kraken_dagster.web.queries.files import find_files
from kraken_dagster.web.queries.plain import plain

NEXT = "X-Next-Cursor"
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"


class TracesQuery(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(
        "", max_length=1_000, description="Names of traces with a comma between; none: all."
    )


class Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def health(_asked: Asked) -> Any:
    return {"status": "ok"}


def raw_files(asked: Asked) -> Any:
    feed = asked.feed
    if not feed.is_loaded:
        raise StoreUnavailable(
            "The page has not read all files yet",
            found=feed.problem,
            next_step="ask again in some seconds.",
        )
    return alphakraken.raw_files(asked.services, feed.table, asked.query)


def raw_file_faults(faults: list[dict[str, Any]]) -> Response:
    """Wrong parameters in the form of AlphaKraken's server."""
    names = ("type", "loc", "msg", "input", "ctx")
    return Json({"detail": [{k: plain(it[k]) for k in names if k in it} for it in faults]}, 422)


def with_slash(asked: Asked) -> Any:
    return _redirected(asked, "raw_files/")


def without_slash(asked: Asked) -> Any:
    return _redirected(asked, "../health")


def _redirected(asked: Asked, to: str) -> Response:
    """Relative, so that a proxy's name and path stay."""
    query = asked.request.query_params.multi_items()
    return RedirectResponse(to + (f"?{urlencode(query)}" if query else ""), 307)


def files(asked: Asked) -> Any:
    return find_files(asked.services, asked.query, asked.feed.names)


def file(asked: Asked) -> Any:
    found = one_file.one_file(asked.services, asked.id)
    return {**found, "errand": asked.request.app.state.errands.said.get(asked.id)}


def traces(asked: Asked) -> Any:
    names = [name.strip() for name in asked.query.name.split(",") if name.strip()]
    return one_file.traces_of(asked.services, asked.id, names)


def metrics(asked: Asked) -> Any:
    found = results.find_metrics(asked.services, asked.query, asked.feed.names)
    rows = found["data"]
    headers = {NEXT: found["next"]} if found["next"] else {}
    if asked.query.format == "csv":
        return Response(results.as_csv(rows), headers=headers, media_type=CSV)
    if asked.query.format == "parquet":
        return Response(results.as_parquet(rows), headers=headers, media_type=PARQUET)
    return {**found, "data": plain(rows)}


def status(asked: Asked) -> Any:
    return laboratory.status_of(asked.feed.report)


def instruments(asked: Asked) -> Any:
    return {"data": laboratory.instruments_of(asked.feed.report)}


def projects(asked: Asked) -> Any:
    return {"data": laboratory.projects_of(asked.services)}


def settings(asked: Asked) -> Any:
    return {"data": laboratory.settings_of(asked.services)}


def alerts(asked: Asked) -> Any:
    return {"data": laboratory.alerts_of(asked.services, asked.query)}


def verdicts(asked: Asked) -> Any:
    return {"data": laboratory.verdicts_of(asked.services, asked.query)}
