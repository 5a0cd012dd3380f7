"""`/quality`: instruments at a glance, one or two of them closely; `/quality/chart`: one metric."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from kraken_dagster.model.errors import KrakenError, StoreError
from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.model.quality import AnnotationKind, Series
from kraken_dagster.quality.history import histories
from kraken_dagster.quality.metric_chart import MetricChart, metric_chart
from kraken_dagster.quality.mzqc_export import mzqc_of_sets
from kraken_dagster.quality.reported import compared_with
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.downloads import as_json
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.quality.chart_view import (
    HEIGHT,
    SUMS_HEIGHT,
    WIDTH,
    chart_view,
    guide_set_of,
)
from kraken_dagster.web.quality.glance import HEAT_RUNS, SeriesGlance, glance
from kraken_dagster.web.rendering import render

_CLOSELY = 2  # instruments beside each other
_LOOKED_AT = 4 * HEAT_RUNS  # runs of all series of an instrument
_CHARTED = (30, 100, 500)


def quality(request: Request) -> Response:
    """All instruments with their sparklines; one or two that are named, with all else."""
    feed: Feed = request.app.state.feed
    known = [str(item["id"]) for item in feed.report.get("instruments", ())]
    wanted = [name for name in request.query_params.getlist("instrument") if name][:_CLOSELY]
    try:
        found = {name: _glances(feed.services, name, len(wanted)) for name in wanted or known}
    except StoreError as error:
        return _unreachable(request, error)
    return render(
        request,
        "quality/glance.html",
        known=known,
        wanted=wanted,
        found=found,
        has_classes=bool(feed.services.config.qc.classes),
        kinds=[item.value for item in AnnotationKind],
    )


def chart(request: Request) -> Response:
    """A metric of a series, with what people said of it, and what they may say."""
    feed: Feed = request.app.state.feed
    query = request.query_params
    series = series_of(query.get("instrument", ""), query.get("class", ""), query.get("settings"))
    wanted = query.get("runs", "")
    runs = int(wanted) if wanted in {str(item) for item in _CHARTED} else _CHARTED[1]
    try:
        names = _metric_names(feed.services, series)
        metric = query.get("metric", "")
        if series is None or metric not in names:
            title = "There is no such metric of quality control"
            text = "Choose one of an instrument's last runs."
            return render(request, "message.html", status=404, title=title, text=text)
        found = metric_chart(feed.services, series, metric, runs=runs)
    except StoreError as error:
        return _unreachable(request, error)
    return render(
        request,
        "quality/chart.html",
        chart=found,
        view=chart_view(found),
        guide_set=guide_set_of(found),
        compared=None if found.newest is None else compared_with(found.newest),
        size=(WIDTH, HEIGHT, SUMS_HEIGHT),
        names=names,
        runs=runs,
        choices=_CHARTED,
        kinds=[item.value for item in AnnotationKind],
        sums=_has_sums(found),
    )


def mzqc(request: Request) -> Response:
    """The newest judged runs of the instruments that are named as mzQC, a set for each series."""
    feed: Feed = request.app.state.feed
    named = [name for name in request.query_params.getlist("instrument") if name]
    try:
        found = mzqc_of_sets(feed.services, named, limit=HEAT_RUNS)
    except KrakenError as error:
        title = "No mzQC can be made of these runs"
        return render(request, "message.html", status=404, title=title, text=str(error))
    return as_json(found, "quality.mzQC")


def series_of(instrument: str, sample_class: str, settings: str | None) -> Series | None:
    """From a page's address; `settings` is `NAME:VERSION`."""
    name, _, version = (settings or "").rpartition(":")
    if not (name and version.isascii() and version.isdecimal() and len(version) < 10):
        return None
    return Series(
        instrument_id=instrument,
        sample_class=sample_class,
        settings_name=name,
        settings_version=int(version),
    )


def _glances(services: Services, instrument_id: str, wanted: int) -> list[SeriesGlance]:
    """`wanted`: how many instruments are looked at closely, beside each other."""
    verdicts = services.store.quality.newest(instrument_id, limit=_LOOKED_AT)
    qc = services.config.qc
    return [
        glance(item, qc, closely=wanted > 0, beside=wanted > 1)
        for item in histories(verdicts, runs=HEAT_RUNS)
    ]


def _metric_names(services: Services, series: Series | None) -> list[str]:
    """The numbers that the newest judged run of the series has."""
    if series is None:
        return []
    newest = services.store.quality.newest(
        series.instrument_id, sample_class=series.sample_class, limit=_LOOKED_AT
    )
    own = [item.raw_file for item in newest if item.series == series][:1]
    results = services.store.quality.results(own)
    settings = series.settings_name, series.settings_version
    names: set[str] = set()
    for document in (item for items in results.values() for item in items):
        if (document.get("settings_name"), document.get("settings_version") or 1) == settings:
            names |= {name for name, value in document.items() if _is_number(name, value)}
    return sorted(names)


def _is_number(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and name not in RESERVED_NAMES


def _has_sums(chart: MetricChart) -> bool:
    return any(item.up is not None for item in chart.points)


def _unreachable(request: Request, error: StoreError) -> Response:
    title = "MongoDB can't be asked"
    return render(request, "message.html", status=503, title=title, text=str(error))
