"""`/alerts`: what is open stands first, then what is over, of all or of one instrument."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.alerts import actions
from kraken_dagster.model.alerts.alert import State
from kraken_dagster.model.errors import InputRefused, KrakenError, StoreError
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.operate.forms import Form, asked_by, with_form
from kraken_dagster.web.rendering import render

_MOST = 200
_LONGEST_HOURS = 24 * 90


def alerts(request: Request) -> Response:
    return _page(request, request.query_params.get("instrument", ""))


async def acknowledge(request: Request) -> Response:
    return await with_form(request, _acknowledge)


async def silence(request: Request) -> Response:
    return await with_form(request, _silence)


def _acknowledge(request: Request, form: Form) -> Response:
    feed: Feed = request.app.state.feed
    try:
        made = actions.acknowledge(feed.services, form.get("id", ""), by=asked_by(request))
    except KrakenError as error:
        return _page(request, said=str(error), status=409)
    feed.refresh_alerts()
    return _page(request, said=f"Acknowledged: {made.summary}. Nobody is reminded of it any more.")


def _silence(request: Request, form: Form) -> Response:
    """Of one alert: of its kind and subject."""
    feed: Feed = request.app.state.feed
    try:
        alert = feed.services.store.alerts.get(form.get("id", ""))
        if alert is None:
            raise InputRefused("There is no such alert", next_step="look at the list again.")
        made = actions.silence(
            feed.services,
            kind=alert.kind,
            subject=alert.subject,
            instrument=alert.instrument,
            until=feed.services.now() + timedelta(hours=_hours(form)),
            reason=form.get("reason", ""),
            by=asked_by(request),
        )
    except KrakenError as error:
        return _page(request, said=str(error), status=409)
    return _page(request, said=f"Silenced until {made.until:%Y-%m-%d %H:%M} UTC: {alert.summary}.")


def _hours(form: Form) -> int:
    text = form.get("hours", "")
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) <= _LONGEST_HOURS):
        raise InputRefused(
            "A silence has an end",
            expected=f"1 to {_LONGEST_HOURS} hours",
            found=text or "nothing",
            next_step="give whole hours.",
        )
    return int(text)


def _page(
    request: Request, instrument: str = "", *, said: str | None = None, status: int = 200
) -> Response:
    feed: Feed = request.app.state.feed
    try:
        found = feed.services.store.alerts.latest(instrument=instrument or None, limit=_MOST)
        current = feed.services.store.alerts.current()
        silences = feed.services.store.alerts.silences(now=feed.services.now())
    except StoreError as error:
        title = "MongoDB can't be asked"
        return render(request, "message.html", status=503, title=title, text=str(error))
    return render(
        request,
        "alerts/list.html",
        status=status,
        said=said,
        instrument=instrument,
        known=[str(item["id"]) for item in feed.report.get("instruments", ())],
        open_ones=[item for item in current if not instrument or item.instrument == instrument],
        over=[item for item in found if item.state is State.RESOLVED],
        silences=silences,
    )
