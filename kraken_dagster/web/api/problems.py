"""Problem details (RFC 9457): an error over HTTP, in the words in which commands print it."""

import json
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse

from kraken_dagster.model import errors
from kraken_dagster.model.errors import KrakenError

MEDIA_TYPE = "application/problem+json"
_ABOUT_NOTHING = "about:blank"
# The first that fits counts.
_STATUSES: Sequence[tuple[type[KrakenError], int]] = (
    (errors.UnknownRawFile, 404),
    (errors.UnknownProject, 404),
    (errors.UnknownAlert, 404),
    (errors.UnknownSettings, 404),
    (errors.MetricsError, 404),
    (errors.StatusConflict, 409),
    (errors.LeaseHeld, 409),
    (errors.InputRefused, 400),
    (errors.RecordRefused, 400),
    (errors.CatalogError, 409),
    (errors.StoreError, 503),
    (errors.StoreAway, 503),
    (errors.OutputUnreadable, 503),
    (errors.ConfigError, 503),
)
_LATER_S = 5


class Json(JSONResponse):
    """In ASCII, which holds whatever a name holds."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Problem(Json):
    """An answer that says what is wrong; `title` is the kind, `detail` is for people."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        kind: str = _ABOUT_NOTHING,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        content = {"type": kind, "title": title, "status": status, "detail": detail, **more}
        super().__init__(content, status, headers)


def status_of(error: KrakenError) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 409)


def of_error(error: KrakenError) -> Problem:
    """`detail` is what a command would print; the parts of it stand beside."""
    parts = {name: getattr(error, name) for name in ("file", "expected", "found", "next_step")}
    status = status_of(error)
    return Problem(
        status,
        error.what,
        str(error),
        kind=f"urn:kraken:{type(error).__name__}",
        headers={"Retry-After": str(_LATER_S)} if status == 503 else None,
        transient=error.transient,
        **{name: value for name, value in parts.items() if value is not None},
    )


def of_parameters(faults: Sequence[dict[str, Any]]) -> Problem:
    """Parameters or a body that are not what a route takes.

    Args:
        faults: pydantic's.
    """
    parts = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in faults]
    shown = [{key: item[key] for key in ("loc", "msg", "type")} for item in faults]
    return Problem(
        422,
        "A parameter is not what this route takes",
        "; ".join(parts),
        kind="urn:kraken:parameters",
        errors=shown,
    )
