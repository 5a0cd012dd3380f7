"""What an operator may have done from the page: the same steps as the commands take."""

from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.backup.restore import restore
from kraken_dagster.backup.verify import verify_backup
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.operations.retry import retry
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.operate.errands import MOST_WAITING, Errands, run_id_of
from kraken_dagster.web.operate.forms import Form, asked_by, with_form
from kraken_dagster.web.rendering import render

MODES = {item.value: item for item in OutputExistsMode if item is not OutputExistsMode.RAISE}
VERIFIED = "its backup is read again"


async def retry_file(request: Request) -> Response:
    """Has the failed step of a file done again, or with a mode all of its processing."""
    return await with_form(request, _retry)


async def verify_file(request: Request) -> Response:
    """Has a file's backup read again; the file's page says what was found."""
    return await with_form(request, _verify)


async def restore_file(request: Request) -> Response:
    """Has a file's backup copied into one of the configured folders."""
    return await with_form(request, _restore)


def _retry(request: Request, form: Form) -> Response:
    feed: Feed = request.app.state.feed
    file_id, mode = request.query_params.get("id", ""), form.get("mode")
    if mode and mode not in MODES:
        return _answer(request, file_id, f"There is no mode {mode!r}", status=400)
    wanted = MODES[mode] if mode else None
    try:
        _, follows = retry(feed.services, file_id, asked_by=asked_by(request), mode=wanted)
    except KrakenError as error:
        return _answer(request, file_id, str(error), status=409)
    return _answer(request, file_id, f"Asked for: {follows}.")


def _verify(request: Request, _form: Form) -> Response:
    services: Services = request.app.state.feed.services
    file_id, by = request.query_params.get("id", ""), asked_by(request)
    try:
        services.store.raw_files.current(file_id)
    except KrakenError as error:
        return _answer(request, file_id, str(error), status=409)
    return _begun(request, file_id, VERIFIED, lambda: verified(services, file_id, by))


def verified(services: Services, file_id: str, by: str) -> str:
    """Reads a backup again; what was found."""
    found = verify_backup(services, file_id, run_id=run_id_of(by), rate_limit=RateLimit())
    return f"Backup {found.verdict}: {found.reason}"


def _restore(request: Request, form: Form) -> Response:
    services: Services = request.app.state.feed.services
    file_id, by = request.query_params.get("id", ""), asked_by(request)
    folders = {str(item): item for item in services.config.page.restore_folders}
    folder = folders.get(form.get("folder", ""))
    if folder is None:
        text = "That folder is not one of page.restore_folders in instruments.yaml."
        return _answer(request, file_id, text, status=400)
    try:
        services.store.raw_files.current(file_id)
    except KrakenError as error:
        return _answer(request, file_id, str(error), status=409)
    what = f"its backup is copied into {folder}, and the copy proven"
    return _begun(request, file_id, what, lambda: _copied_out(services, file_id, folder, by))


def _copied_out(services: Services, file_id: str, folder: Path, by: str) -> str:
    restore(services, file_id, folder)
    done = f"copied out to {folder}, and proven there"
    services.store.raw_files.update(
        services.store.raw_files.current(file_id),
        {},
        now=services.now(),
        note=f"{done}; asked for by {by}",
        run_id=run_id_of(by),
    )
    return f"Its backup was {done}."


def _begun(request: Request, file_id: str, what: str, do: Callable[[], str]) -> Response:
    errands: Errands = request.app.state.errands
    if not errands.begin(file_id, what, do):
        text = f"{MOST_WAITING} errands wait already. Ask again later."
        return _answer(request, file_id, text, status=503)
    return _answer(request, file_id, f"Soon {what}; its page says what was found.")


def _answer(request: Request, file_id: str, text: str, *, status: int = 200) -> Response:
    return render(request, "answer.html", status=status, file_id=file_id, text=text)
