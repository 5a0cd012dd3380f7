"""What people say of instruments and runs, from the command and from the page."""

import secrets
from collections.abc import Sequence
from datetime import datetime

from kraken_dagster.model.errors import InputRefused, UnknownRawFile
from kraken_dagster.model.quality import (
    Annotation,
    AnnotationKind,
    Exclusion,
    GuideSet,
    LeftOut,
    QcRun,
)
from kraken_dagster.quality.facts import Facts
from kraken_dagster.quality.guide_sets import by_hand, outliers
from kraken_dagster.quality.runs import runs_among
from kraken_dagster.runtime.services import Services


def annotate(
    services: Services,
    instrument_id: str,
    kind: AnnotationKind,
    text: str,
    *,
    begins_at: datetime | None = None,
    ends_at: datetime | None = None,
    new_guide_set: bool = False,
    by: str,
) -> Annotation:
    """Records what was done to an instrument; it begins now if nothing else is said.

    Raises:
        InputRefused: it ends before it begins.
    """
    begins = begins_at or services.now()
    if ends_at is not None and ends_at <= begins:
        raise InputRefused(
            "An annotation ends after it begins",
            expected=f"an end after {begins:%Y-%m-%d %H:%M} UTC",
            found=f"{ends_at:%Y-%m-%d %H:%M} UTC",
            next_step="give another time.",
        )
    item = Annotation(
        id=secrets.token_hex(6),
        instrument_id=instrument_id,
        kind=kind,
        text=text,
        begins_at=begins,
        ends_at=ends_at,
        new_guide_set=new_guide_set,
        by=by,
        at=services.now(),
    )
    services.store.quality.annotate(item)
    return item


def exclude(
    services: Services, raw_file: str, *, metric: str | None = None, why: str, by: str
) -> Exclusion | None:
    """Has a run, or one metric of it, count nowhere; None if it is excluded already.

    Raises:
        UnknownRawFile
    """
    services.store.raw_files.current(raw_file)
    item = Exclusion(
        id=secrets.token_hex(6), raw_file=raw_file, metric=metric, why=why, by=by, at=services.now()
    )
    return item if services.store.quality.exclude(item) else None


def withdraw(services: Services, document_id: str, *, by: str) -> str:
    """Takes back an annotation, an exclusion or a guide set; which of them it was.

    Raises:
        UnknownRawFile: there is none of this id that holds.
    """
    kind = services.store.quality.withdraw(document_id, by=by, now=services.now())
    if kind is None:
        raise UnknownRawFile(
            "There is no active annotation, exclusion or guide set with this id",
            file=document_id,
            next_step="`kraken quality annotations` and `kraken quality guide-set list` list them; "
            "`kraken quality show` names exclusions.",
        )
    return kind


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
            "The run is not a quality control run, or has no metrics yet",
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
