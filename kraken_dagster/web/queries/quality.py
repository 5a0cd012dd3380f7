"""How well an instrument measures: verdicts of its quality control runs, in short."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kraken_dagster.config.quality_rules import QcHint
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.quality import Outcome, Verdict
from kraken_dagster.quality.hints import hints_of
from kraken_dagster.quality.history import History, histories, most_often_out
from kraken_dagster.quality.reported import compared_with, limits_in_words
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.plain import plain

MOST_RUNS = 200
_MOST_CAUSES, _MOST_ANNOTATIONS = 10, 10

Row = dict[str, Any]


def known_instruments(services: Services) -> list[str]:
    """The ids of all instruments that have files or are configured."""
    return sorted({*services.store.instruments.ids(), *services.config.whole.instruments})


def quality_of(
    services: Services, instrument_id: str, *, sample_class: str | None, runs: int
) -> Row:
    """Each series of comparable runs with its newest verdict, what was out most often, and its
    runs, newest first; what people noted of the instrument.

    Args:
        runs: how many of the newest runs are looked at.

    Raises:
        InputRefused: there is no such instrument.
        StoreError
    """
    known = known_instruments(services)
    if instrument_id not in known:
        raise InputRefused(
            "There is no such instrument",
            file=instrument_id,
            expected=f"one of {', '.join(known)}",
            next_step="name one of these.",
        )
    quality = services.store.quality
    found = quality.newest(instrument_id, sample_class=sample_class, limit=runs)
    notes = [item for item in quality.annotations(instrument_id) if item.withdrawn_at is None]
    notes.sort(key=lambda item: item.begins_at, reverse=True)
    return {
        "instrument": instrument_id,
        "series": [_series(services, item) for item in histories(found, runs=runs)],
        "annotations": [
            {"kind": item.kind.value, "text": item.text, "at": plain(item.begins_at), "by": item.by}
            for item in notes[:_MOST_ANNOTATIONS]
        ],
    }


def _series(services: Services, history: History) -> Row:
    newest, hints = history.newest, services.config.qc.hints
    return {
        "sample_class": history.series.sample_class,
        "settings_name": history.series.settings_name,
        "settings_version": history.series.settings_version,
        "newest": {
            **_run(newest, hints),
            "compared_with": compared_with(newest),
            "metrics": {
                item.name: limits_in_words(item)
                for item in newest.metrics
                if item.outcome in (Outcome.OUT_OF_CONTROL, Outcome.LOOK)
            },
        },
        "verdicts": dict(Counter(item.outcome.value for item in history.verdicts)),
        "most_often_out": [
            {"metric": item.name, "out_of_control": item.out_of_control, "look": item.look}
            for item in most_often_out(history)[:_MOST_CAUSES]
        ],
        "runs": [_run(item, hints) for item in reversed(history.verdicts)],
    }


def _run(verdict: Verdict, hints: Sequence[QcHint]) -> Row:
    return {
        "file": verdict.raw_file,
        "acquired_at": plain(verdict.acquired_at),
        "verdict": verdict.outcome.value,
        "reason": verdict.reason,
        "points_to": hints_of(verdict, hints),
    }
