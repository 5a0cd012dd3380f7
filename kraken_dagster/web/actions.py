"""What an operator may have done from the page: the same steps as the commands take."""

import logging
import os
import secrets
import socket
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.backup.verify import verify_backup
from kraken_dagster.config.schema import OutputExistsMode
from kraken_dagster.dagit.guard import Caller
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.operations.retry import retry
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.rendering import render

_LONGEST_BODY = 10_000
_MOST_WAITING = 20
_MODES = {item.value: item for item in OutputExistsMode if item is not OutputExistsMode.RAISE}
_log = logging.getLogger("kraken.page")


class Verifications:
    """Backups that are read again, one after the other, while people go on. `said`: by file."""

    def __init__(self, feed: Feed) -> None:
        self.said: OrderedDict[str, str] = OrderedDict()
        self._feed = feed
        self._lock = threading.Lock()
        self._waiting = 0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify")

    def begin(self, file_id: str, *, by: str) -> bool:
        """False if too many wait already."""
        with self._lock:
            if self._waiting >= _MOST_WAITING:
                return False
            self._waiting += 1
        self._say(file_id, "its backup waits to be read again")
        self._pool.submit(self._verify, file_id, by)
        return True

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, file_id: str, by: str) -> None:
        self._say(file_id, "its backup is being read again")
        try:
            found = verify_backup(
                self._feed.services, file_id, run_id=_run_id(by), rate_limit=RateLimit()
            )
            self._say(file_id, f"backup {found.verdict}: {found.reason}")
        except KrakenError as error:
            self._say(file_id, f"the backup could not be verified: {error}")
        except Exception as error:  # noqa: BLE001 - told to who has asked
            _log.exception("a backup could not be verified")
            self._say(file_id, f"the backup could not be verified: {type(error).__name__}")
        finally:
            with self._lock:
                self._waiting -= 1

    def _say(self, file_id: str, text: str) -> None:
        with self._lock:
            self.said[file_id] = text
            self._feed.stamp += 1  # open pages show it
            while len(self.said) > 100:
                self.said.popitem(last=False)


async def retry_file(request: Request) -> Response:
    """Has the failed step of a file done again, or with a mode all of its processing."""
    return await _with_form(request, _retry)


async def verify_file(request: Request) -> Response:
    """Has a file's backup read again; the file's page says what was found."""
    return await _with_form(request, _verify)


async def _with_form(request: Request, action: object) -> Response:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_BODY:
            return _answer(request, "", "This is too long for a form", status=413)
    form = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
    return await run_in_threadpool(action, request, form)  # type: ignore[arg-type]


def _retry(request: Request, form: dict[str, str]) -> Response:
    feed: Feed = request.app.state.feed
    file_id, mode = request.query_params.get("id", ""), form.get("mode")
    if mode and mode not in _MODES:
        return _answer(request, file_id, f"There is no mode {mode!r}", status=400)
    wanted = _MODES[mode] if mode else None
    try:
        _, follows = retry(feed.services, file_id, asked_by=_name(request), mode=wanted)
    except KrakenError as error:
        return _answer(request, file_id, str(error), status=409)
    return _answer(request, file_id, f"Asked for: {follows}.")


def _verify(request: Request, _form: dict[str, str]) -> Response:
    feed: Feed = request.app.state.feed
    verifications: Verifications = request.app.state.verifications
    file_id = request.query_params.get("id", "")
    try:
        feed.services.store.raw_files.current(file_id)
    except KrakenError as error:
        return _answer(request, file_id, str(error), status=409)
    if not verifications.begin(file_id, by=_name(request)):
        text = f"{_MOST_WAITING} backups wait to be read already. Ask again later."
        return _answer(request, file_id, text, status=503)
    return _answer(request, file_id, "Its backup is read again; its page says what was found.")


def _name(request: Request) -> str:
    caller: Caller = request.scope["caller"]
    return f"{caller.name} on the page"


def _run_id(by: str) -> str:
    """What stands in leases and histories in place of a run of Dagster."""
    process = f"process {os.getpid()}, {secrets.token_hex(4)}"
    return f"kraken web for {by} on {socket.gethostname()}, {process}"


def _answer(request: Request, file_id: str, text: str, *, status: int = 200) -> Response:
    return render(request, "answer.html", status=status, file_id=file_id, text=text)
