"""What an operator says of runs on the page: the same as `kraken quality` takes."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import InputRefused, KrakenError
from kraken_dagster.model.quality import AnnotationKind
from kraken_dagster.quality import statements
from kraken_dagster.quality.evaluate import evaluate
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.operate.forms import Fields, asked_by, with_fields
from kraken_dagster.web.rendering import render

_AGAIN = "What was judged stays as it is until it is judged anew."


async def annotate(request: Request) -> Response:
    return await with_fields(request, _answering(_annotate))


async def exclude(request: Request) -> Response:
    return await with_fields(request, _answering(_exclude))


async def make_guide_set(request: Request) -> Response:
    return await with_fields(request, _answering(_make_guide_set))


async def withdraw(request: Request) -> Response:
    return await with_fields(request, _answering(_withdraw))


async def judge_anew(request: Request) -> Response:
    return await with_fields(request, _answering(_judge_anew))


Action = Callable[[Services, Fields, str], str]


def _answering(action: Action) -> Callable[[Request, Fields], Response]:
    """What was done, or why not, on a page that leads back."""

    def answer(request: Request, form: Fields) -> Response:
        feed: Feed = request.app.state.feed
        back = _one(form, "back")
        try:
            text, status = action(feed.services, form, asked_by(request)), 200
        except KrakenError as error:
            text, status = str(error), 409
        feed.stamp += 1  # open pages show it
        safe = back if back.startswith("/quality") else "/quality"
        return render(request, "quality/answer.html", status=status, text=text, back=safe)

    return answer


def _annotate(services: Services, form: Fields, by: str) -> str:
    kind = _one(form, "kind")
    if kind not in set(AnnotationKind):
        raise _refused("There is no such annotation", ", ".join(AnnotationKind), kind)
    item = statements.annotate(
        services,
        _instrument(services.config, form),
        AnnotationKind(kind),
        _required(form, "text"),
        begins_at=_time(form, "begins_at"),
        ends_at=_time(form, "ends_at"),
        new_guide_set="new_guide_set" in form,
        by=by,
    )
    return (
        f"Noted of {item.instrument_id}: {item.kind}, {item.begins_at:%Y-%m-%d %H:%M} UTC. {_AGAIN}"
    )


def _exclude(services: Services, form: Fields, by: str) -> str:
    metric = _one(form, "metric") or None
    raw_file = _one(form, "run")
    why = _required(form, "why")
    item = statements.exclude(services, raw_file, metric=metric, why=why, by=by)
    what = raw_file if metric is None else f"{metric} of {raw_file}"
    return f"{what} is excluded{' already' if item is None else ''}. {_AGAIN}"


def _make_guide_set(services: Services, form: Fields, by: str) -> str:
    made, outliers = statements.choose_guide_set(
        services,
        form.get("run", []),
        settings=_one(form, "settings") or None,
        valid_from=_time(form, "valid_from"),
        why=_required(form, "why"),
        by=by,
    )
    text = f"Guide set {made.id}: {len(made.runs)} runs of {made.series.in_words()}. {_AGAIN}"
    if outliers:
        named = ", ".join(f"{item.metric} of {item.raw_file}" for item in outliers[:5])
        text += f" Looks like an outlier: {named}."
    return text


def _withdraw(services: Services, form: Fields, by: str) -> str:
    kind = statements.withdraw(services, _one(form, "id"), by=by)
    return f"The {kind} is withdrawn. {_AGAIN}"


def _judge_anew(services: Services, form: Fields, by: str) -> str:
    found = evaluate(services, _instrument(services.config, form), by=by)
    return f"{len(found)} verdicts changed; the old ones are kept."


def _instrument(config: KrakenConfig, form: Fields) -> str:
    found = _one(form, "instrument")
    if found not in config.whole.instruments:
        raise _refused("There is no such instrument", ", ".join(config.whole.instruments), found)
    return found


def _time(form: Fields, name: str) -> datetime | None:
    """As a browser's field of date and time has it; UTC."""
    text = _one(form, name)
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise _refused(f"{name} is no time", "a time like 2026-03-01T12:00, in UTC", text) from None


def _required(form: Fields, name: str) -> str:
    found = _one(form, name).strip()
    if not found:
        raise _refused(f"The field {name} is empty", "some words for people", "none")
    return found


def _one(form: Mapping[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]


def _refused(what: str, expected: str, found: str) -> InputRefused:
    return InputRefused(what, expected=expected, found=found, next_step="go back and correct it.")
