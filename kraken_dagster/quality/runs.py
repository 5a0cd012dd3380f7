"""The quality control runs of an instrument, as MongoDB has them: which files, which metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from kraken_dagster.config.quality_rules import QualityControl
from kraken_dagster.model.quality import QcRun, Series
from kraken_dagster.quality.facts import MOST_CHARTED
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.quant.metrics import current_results
from kraken_dagster.store.raw_files.documents import dated_id

FILES_LOOKED_BACK = 5_000  # all files of an instrument, among which quality control is looked for
_NEWEST = 200
GRADIENT = "gradient_length"  # minutes

Document = dict[str, Any]


class _File(NamedTuple):
    instrument_id: str
    sample_class: str
    acquired_at: datetime


def qc_runs(
    services: Services, instrument_id: str, *, everything: bool = False, also: Iterable[str] = ()
) -> list[QcRun]:
    """In order of acquisition, of all series: of the newest 500 quality control files among the
    newest 5,000, or of all; and of all guide sets.

    Args:
        also: metrics to be read besides those that runs are judged by.
    """
    qc = services.config.qc
    if not qc.classes:
        return []
    limit = None if everything else FILES_LOOKED_BACK
    found: dict[str, _File] = {}
    for document in services.store.quality.files(instrument_id, limit=limit):
        _take(qc, document, found)
        if len(found) == MOST_CHARTED and not everything:
            break
    guide_sets = services.store.quality.guide_sets(instrument_id)
    older = {name for item in guide_sets for name in item.runs} - found.keys()
    for document in services.store.quality.files_of(sorted(older)):
        _take(qc, document, found)
    return _runs_of(services, found, also)


def runs_among(services: Services, raw_files: Sequence[str]) -> list[QcRun]:
    """Those of these files that are quality control, one for each of their results."""
    found: dict[str, _File] = {}
    for document in services.store.quality.files_of(raw_files):
        _take(services.config.qc, document, found)
    return _runs_of(services, found)


def without_verdict(
    services: Services, instrument_id: str, *, since: datetime, of_raw_files: bool
) -> list[str]:
    """The quality control files that were acquired after that and have no verdict by metrics of
    the raw file, or of a search, newest first: they are still to come, or never will."""
    found: dict[str, _File] = {}
    for document in services.store.quality.files(instrument_id, limit=_NEWEST):
        _take(services.config.qc, document, found)
    newer = [name for name, file in found.items() if file.acquired_at > since]
    known = services.store.quality.latest(newer, in_short=True).values()
    judged = {it.raw_file for it in known if it.series.is_of_raw_files == of_raw_files}
    return [name for name in newer if name not in judged]


def _runs_of(
    services: Services, files: Mapping[str, _File], also: Iterable[str] = ()
) -> list[QcRun]:
    """The results of these files, each in its own series, in order."""
    names = {*services.config.qc.metric_names, GRADIENT, *also}
    results = services.store.quality.results(list(files), names)
    runs = []
    for raw_file, documents in results.items():
        file = files[raw_file]
        gradient = _gradient(documents)
        for document in current_results(documents):
            series = Series(
                instrument_id=file.instrument_id,
                sample_class=file.sample_class,
                settings_name=str(document.get("settings_name") or "n/a"),
                settings_version=int(document.get("settings_version") or 1),
            )
            metrics = _numbers(document, names)
            runs.append(QcRun(raw_file, series, file.acquired_at, gradient, metrics))
    return sorted(runs, key=lambda item: item.order)


def _take(qc: QualityControl, document: Document, found: dict[str, _File]) -> None:
    at, raw_file = dated_id(document)  # an instrument's clock may be wrong
    name = str(document.get("original_name") or raw_file)
    project, instrument = document.get("project_id"), str(document.get("instrument_id"))
    sample_class = qc.class_of(name, project_id=project, instrument_id=instrument)
    if sample_class is not None:
        found[raw_file] = _File(instrument, sample_class, at)


def _numbers(document: Document, names: Iterable[str]) -> dict[str, float]:
    found = {name: document.get(name) for name in names}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _gradient(documents: Iterable[Document]) -> float | None:
    """Of a file, by the first of its results that tells it."""
    in_order = sorted(documents, key=lambda item: str(item.get("settings_name")))
    found = (_numbers(item, (GRADIENT,)).get(GRADIENT) for item in in_order)
    return next((value for value in found if value is not None and value > 0), None)
