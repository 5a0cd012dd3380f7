"""The one error of the client, and the one warning."""

from collections.abc import Mapping
from typing import Any

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.printable import printable_lines

_PARTS = ("file", "expected", "found", "next_step")
_PREFIX = "urn:kraken:"


class RestWarning(UserWarning):
    """There is an answer, and something of it is not what one would expect."""


class RestError(KrakenError):
    """The page refused, could not be reached, or its answer is none of Kraken's.

    `str()` of one that the page told is what a command would print; its parts are `what`, `file`,
    `expected`, `found` and `next_step`.

    Args:
        status: of HTTP; None: there was no answer.
        kind: the name of the error's class in Kraken (`UnknownRawFile`), empty for others.
        detail: the whole message, where there is one already.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int | None = None,
        kind: str = "",
        detail: str = "",
        **parts: Any,
    ) -> None:
        self.status, self.kind = status, kind
        self._detail = printable_lines(detail)
        super().__init__(what, **parts)

    def _message(self) -> str:
        return self._detail or super()._message()


def of_problem(status: int, problem: Mapping[str, Any]) -> RestError:
    """Problem details (RFC 9457) as the error that they were made of."""
    title, detail = str(problem.get("title", "")), str(problem.get("detail", ""))
    kind = str(problem.get("type", ""))
    error = RestError(
        title,
        status=status,
        kind=kind.removeprefix(_PREFIX) if kind.startswith(_PREFIX) else "",
        detail=detail if detail.startswith(title.rstrip(".")) else f"{title}: {detail}",
        **{name: problem.get(name) for name in _PARTS},
    )
    error.transient = bool(problem.get("transient", status in (429, 503)))
    return error
