"""A run's results, and the verdicts of many runs, as mzQC."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from kraken_dagster.metrics.mzqc.document import (
    JudgedSet,
    run_document,
    set_document,
)
from kraken_dagster.metrics.mzqc.results import raw_input, result_of
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.quality import Series, Verdict
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.quant.metrics import current_results

Document = dict[str, Any]


def mzqc_of_run(services: Services, raw_file_id: str) -> Document:
    """All of a raw file's results, each as a `runQuality` of its own.

    Raises:
        UnknownRawFile
        InputRefused: no metric of it has a term.
    """
    services.store.raw_files.get(raw_file_id)
    return mzqc_of_runs(services, [raw_file_id])


def mzqc_of_runs(services: Services, ids: Sequence[str]) -> Document:
    """All results of these raw files; those that MongoDB has no more are left out.

    Raises:
        InputRefused: no metric of them has a term.
    """
    files = services.store.raw_files.many(ids)
    results = services.store.quality.results(ids)
    verdicts = services.store.quality.latest(ids)
    output = services.config.locations.output.cluster_path
    found = []
    for file_id in [item for item in ids if item in files]:
        for document in current_results(results.get(file_id, [])):
            settings = str(document.get("settings_name"))
            version_of_them = int(document.get("settings_version") or 1)
            verdict = verdicts.get((file_id, settings, version_of_them))
            reported = None if verdict is None else verdict.outcome.value
            found.append(result_of(files[file_id], document, output=output, verdict=reported))
    written = run_document(found, kraken=version("kraken-dagster"), now=services.now())
    if written is None:
        raise InputRefused(
            "There is no metric that mzQC has a term for",
            file=", ".join(ids[:3]),
            found=f"{len(found)} results",
            next_step="see `kraken show` for its results, and docs/mzqc.md for the terms.",
        )
    return written


def mzqc_of_sets(
    services: Services, instruments: Sequence[str], *, sample_class: str | None = None, limit: int
) -> Document:
    """The newest judged runs of these instruments, a `setQuality` for each series.

    Raises:
        InputRefused: no run of theirs was judged.
    """
    series: dict[Series, list[Verdict]] = {}
    for instrument_id in instruments:
        for item in services.store.quality.newest(
            instrument_id, sample_class=sample_class, limit=limit
        ):
            series.setdefault(item.series, []).append(item)
    ids = sorted({item.raw_file for items in series.values() for item in items})
    files = services.store.raw_files.many(ids)
    sets = [
        JudgedSet(
            label=key.in_words(),
            inputs=[raw_input(files[item.raw_file]) for item in items if item.raw_file in files],
            verdicts=_verdicts(items),
            limits=_limits(items[0]),
        )
        for key, items in series.items()
    ]
    written = set_document(sets, kraken=version("kraken-dagster"), now=services.now())
    if written is None:
        raise InputRefused(
            "No run of quality control was judged there",
            next_step="see `qc.classes` in instruments.yaml, and `kraken quality verdicts`.",
        )
    return written


def _verdicts(verdicts: Sequence[Verdict]) -> dict[str, list[Any]]:
    return {
        "name": [item.raw_file for item in verdicts],
        "acquired at": [item.acquired_at.isoformat() for item in verdicts],
        "verdict": [item.outcome.value for item in verdicts],
        "reason": [item.reason for item in verdicts],
    }


def _limits(verdict: Verdict) -> dict[str, list[Any]]:
    known = [item for item in verdict.metrics if item.n]
    if not known:
        return {}
    return {
        "metric": [item.name for item in known],
        "centre": [item.centre for item in known],
        "lower": [item.lower for item in known],
        "upper": [item.upper for item in known],
        "runs": [item.n for item in known],
    }
