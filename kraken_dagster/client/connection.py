"""Requests to the page: the token, waiting when the page asks for it, errors in one form."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from kraken_dagster.client.errors import RestError, of_problem

LONGEST_WAIT_S = 120.0
_CONNECT_S = 10.0
_LATER = (429, 503)
_ROOT = "/api"
_PROBLEM = "application/problem+json"


class Connection:
    """Asks one page, with one token.

    Args:
        retries: how often it asks again after 429 and 503; it waits as long as `Retry-After` says,
            or twice as long each time. It doesn't wait longer than `LONGEST_WAIT_S`.

    Raises:
        RestError: the address or the token can't be one.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout_s: float,
        retries: int,
        wait: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.strip().rstrip("/").removesuffix(_ROOT)
        self._retries, self._wait = retries, wait
        try:
            self._http = httpx.Client(
                base_url=f"{self._url}{_ROOT}/v1/",
                headers=_headers(token),
                timeout=httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise self._not_reached(error) from None

    def __repr__(self) -> str:
        return self._url

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON.

        Args:
            path: below `/api/v1/`, quoted.
            query: parameters that are None are left out.

        Raises:
            RestError
        """
        known = {name: value for name, value in (query or {}).items() if value is not None}
        for attempt in range(self._retries + 1):
            answer = self._asked(path, known)
            if answer.status_code not in _LATER or attempt == self._retries:
                break
            wait_s = wait_of(answer.headers.get("Retry-After"), attempt, now=datetime.now(UTC))
            if wait_s > LONGEST_WAIT_S:
                break
            self._wait(wait_s)
        return _content_of(answer)

    def _asked(self, path: str, query: Mapping[str, Any]) -> httpx.Response:
        try:
            return self._http.get(path, params=query)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._not_reached(error) from error

    def _not_reached(self, error: Exception) -> RestError:
        found = RestError(
            "The page can't be reached",
            file=self._url,
            expected="the address that `kraken web` prints",
            found=f"{type(error).__name__}: {error}",
            next_step="check that it runs, and that this machine reaches it.",
        )
        found.transient = isinstance(error, httpx.TransportError)
        return found


def wait_of(header: str | None, attempt: int, *, now: datetime) -> float:
    """Seconds until one may ask again, by `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).

    Args:
        attempt: from 0; what to wait by where the header says nothing.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return float(2**attempt)
    return max(0.0, (at - now).total_seconds()) if at.tzinfo else float(2**attempt)


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Accept": f"application/json, {_PROBLEM}", "User-Agent": "kraken-client"}
    token = (token or "").strip()
    if not token:
        return headers
    if not (token.isascii() and token.isprintable()):  # the token itself is told nobody
        raise RestError(
            "This is not a token of Kraken",
            expected="what `kraken token add` has printed: `kraken_` and letters, digits, `-`, `_`",
            next_step="copy it again, or make another by `kraken token add`.",
        )
    return {**headers, "Authorization": f"Bearer {token}"}


def _content_of(answer: httpx.Response) -> Any:
    try:
        content = answer.json()
    except ValueError:
        content = None
    if answer.status_code == httpx.codes.OK and isinstance(content, dict):
        return content
    if answer.headers.get("Content-Type", "").startswith(_PROBLEM) and isinstance(content, dict):
        raise of_problem(answer.status_code, content)
    where = answer.headers.get("Location")
    raise RestError(
        "The address does not answer as Kraken's page",
        status=answer.status_code,
        file=answer.url.copy_with(query=None),
        expected="JSON",
        found=f"{answer.status_code} {answer.reason_phrase}, "
        + (f"which leads to {where}" if where else answer.headers.get("Content-Type", "no type")),
        next_step="check that the address is the page's; a proxy in front of it must pass the "
        "header `Authorization`.",
    )
