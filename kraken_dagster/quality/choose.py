"""A guide set that a person chooses from recorded runs."""

from collections.abc import Sequence
from datetime import datetime

from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.quality import GuideSet, LeftOut, QcRun
from kraken_dagster.quality.facts import Facts
from kraken_dagster.quality.guide_sets import by_hand, outliers
from kraken_dagster.quality.runs import runs_among
from kraken_dagster.runtime.services import Services


def choose_guide_set(
    services: Services,
    raw_files: Sequence[str],
    *,
    settings: str | None = None,
    valid_from: datetime | None = None,
    why: str,
    by: str,
) -> tuple[GuideSet, list[LeftOut]]:
    """Makes and records a guide set; the values in it that look like outliers, which are kept.

    Args:
        settings: `NAME:VERSION`, where the runs have several results.

    Raises:
        InputRefused: runs that can't be compared, or of which one is no quality control.
    """
    runs = [_of(services, name, settings) for name in dict.fromkeys(raw_files)]
    made = by_hand(runs, valid_from=valid_from, why=why, by=by, now=services.now())
    services.store.quality.add_guide_set(made)
    exclusions = services.store.quality.exclusions(raw_files)
    metrics = services.config.qc.metrics_of(made.series.sample_class)
    return made, outliers(runs, Facts(runs, exclusions=exclusions), metrics)


def _of(services: Services, raw_file: str, settings: str | None) -> QcRun:
    services.store.raw_files.current(raw_file)
    found = runs_among(services, [raw_file])
    titles = {f"{it.series.settings_name}:{it.series.settings_version}": it for it in found}
    if not titles:
        raise InputRefused(
            "The run is no quality control, or has no metrics yet",
            file=raw_file,
            next_step="see `qc.classes` in instruments.yaml and `kraken show`.",
        )
    chosen = titles.get(settings or "") or (next(iter(titles.values())) if not settings else None)
    if chosen is None or (settings is None and len(titles) > 1):
        raise InputRefused(
            "Which result of the run is meant is not clear",
            file=raw_file,
            expected=f"one of {', '.join(sorted(titles))}",
            found=settings or "none named",
            next_step="name it by --settings.",
        )
    return chosen
