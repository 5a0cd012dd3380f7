"""`kraken quality`: how quality control runs were judged, and what people say of them."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from kraken_dagster.cli.common import (
    as_text,
    chosen_instruments,
    json_option,
    not_blank,
    open_services,
    print_json,
    print_table,
    reported,
    say,
    user_name,
)
from kraken_dagster.config.quality_rules import QcHint
from kraken_dagster.model.quality import AnnotationKind, Outcome, Verdict
from kraken_dagster.quality import evaluate as evaluate_step
from kraken_dagster.quality import reported as told_of
from kraken_dagster.quality import statements
from kraken_dagster.quality.hints import in_words
from kraken_dagster.quality.mzqc_export import mzqc_of_sets
from kraken_dagster.runtime.services import Services

_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])
_instruments = click.option("--instrument", "instruments", multiple=True, help="Repeatable.")
_class = click.option("--class", "sample_class", help="Only this sample class.")
_why = click.option("--why", required=True, callback=not_blank, help="For people.")


@click.group()
def quality() -> None:
    """Quality control runs: verdicts, guide sets, annotations, exclusions."""


@quality.command()
@_instruments
@_class
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1), help="Runs.")
@json_option
@click.pass_obj
@reported
def verdicts(
    path: Path, instruments: tuple[str, ...], sample_class: str | None, limit: int, as_json: bool
) -> None:
    """How the newest runs were judged; exit code 1 if the last one of a kind is out of control."""
    services = open_services(path)
    rows: list[dict[str, Any]] = []
    bad = False
    for instrument_id in _chosen(services, instruments, sample_class):
        found = services.store.quality.newest(instrument_id, sample_class=sample_class, limit=limit)
        newest = evaluate_step.newest_of_each_class(found)
        bad = bad or any(item.outcome is Outcome.OUT_OF_CONTROL for item in newest)
        rows += [told_of.verdict_row(item, services.config.qc.hints) for item in found]
    if as_json:
        print_json(rows)
    else:
        columns = ["acquired_at", "instrument", "class", "settings", "file", "verdict", "reason"]
        print_table(rows, columns)
    sys.exit(1 if bad else 0)


@quality.command()
@click.argument("raw_file_id")
@json_option
@click.pass_obj
@reported
def show(path: Path, raw_file_id: str, as_json: bool) -> None:
    """Every verdict of a run, with the limits of its moment, oldest first."""
    services = open_services(path)
    services.store.raw_files.current(raw_file_id)
    found = services.store.quality.verdicts_of(raw_file_id)
    if as_json:
        print_json([item.model_dump(mode="json") for item in found])
        return
    if not found:
        say(f"{as_text(raw_file_id)} was not judged: `qc.classes` makes it no quality control")
    for item in found:
        _print_verdict(item, services.config.qc.hints)


def _print_verdict(item: Verdict, hints: Sequence[QcHint]) -> None:
    say(f"{item.at:%Y-%m-%d %H:%M} UTC, by {as_text(item.by)}: {item.outcome}")
    if out := in_words(item, hints):
        say(f"  {as_text(out)}")
    say(f"  {as_text(item.reason)}")
    say(f"  {as_text(told_of.compared_with(item))}")
    print_table(
        [told_of.metric_row(part) for part in item.metrics],
        ["metric", "value", "lower", "centre", "upper", "runs", "z", "verdict", "charts"],
    )


@quality.command()
@_instruments
@_class
@click.pass_obj
@reported
def evaluate(path: Path, instruments: tuple[str, ...], sample_class: str | None) -> None:
    """Judge all runs anew, by the guide sets of now; older verdicts are kept."""
    services = open_services(path)
    for instrument_id in _chosen(services, instruments, sample_class):
        found = evaluate_step.evaluate(
            services, instrument_id, by=user_name(), sample_class=sample_class
        )
        for item in found:
            before = "-" if item.before is None else item.before.outcome
            say(f"{as_text(item.verdict.raw_file)}: {before} -> {item.verdict.outcome}")
        say(f"{instrument_id}: {len(found)} verdicts recorded")


@quality.command()
@_instruments
@_class
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1), help="Runs.")
@click.pass_obj
@reported
def export(path: Path, instruments: tuple[str, ...], sample_class: str | None, limit: int) -> None:
    """The newest runs' verdicts and limits as mzQC on stdout, a set for each series."""
    services = open_services(path)
    chosen = _chosen(services, instruments, sample_class)
    print_json(mzqc_of_sets(services, chosen, sample_class=sample_class, limit=limit))


@quality.group("guide-set")
def guide_set() -> None:
    """The runs that others are compared with."""


@guide_set.command("list")
@_instruments
@json_option
@click.pass_obj
@reported
def list_guide_sets(path: Path, instruments: tuple[str, ...], as_json: bool) -> None:
    """Every guide set that was made, oldest first."""
    services = open_services(path)
    found = [
        item
        for instrument_id in chosen_instruments(services, instruments)
        for item in services.store.quality.guide_sets(instrument_id)
    ]
    if as_json:
        print_json([item.model_dump(mode="json") for item in found])
        return
    columns = ["id", "instrument", "class", "settings", "gradient_min", "runs", "left_out"]
    columns += ["valid_from", "by", "why", "withdrawn_at"]
    print_table([told_of.guide_set_row(item) for item in found], columns)


@guide_set.command("add")
@click.argument("raw_file_ids", nargs=-1, required=True)
@click.option("--settings", metavar="NAME:VERSION", help="Where the runs have several results.")
@click.option("--from", "valid_from", type=_TIME, help="UTC; default: the first of the runs.")
@_why
@click.pass_obj
@reported
def add_guide_set(
    path: Path,
    raw_file_ids: tuple[str, ...],
    settings: str | None,
    valid_from: datetime | None,
    why: str,
) -> None:
    """Make a guide set of these runs; `kraken quality evaluate` judges by it what was judged."""
    services = open_services(path)
    made, outliers = statements.choose_guide_set(
        services,
        raw_file_ids,
        settings=settings,
        valid_from=_utc(valid_from),
        why=why,
        by=user_name(),
    )
    say(f"guide set {made.id}: {len(made.runs)} runs of {as_text(made.series.in_words())}")
    for item in outliers:
        say(f"  looks like an outlier: {as_text(item.metric)} of {as_text(item.raw_file)}")


@quality.command()
@click.argument("instrument_id", metavar="INSTRUMENT")
@click.argument("kind", type=click.Choice([item.value for item in AnnotationKind]))
@click.argument("text", callback=not_blank)
@click.option("--at", "begins_at", type=_TIME, help="UTC; default: now.")
@click.option("--until", "ends_at", type=_TIME, help="UTC; runs in between are not judged.")
@click.option("--new-guide-set", is_flag=True, help="The first good runs after it make one.")
@click.pass_obj
@reported
def annotate(
    path: Path,
    instrument_id: str,
    kind: str,
    text: str,
    *,
    begins_at: datetime | None,
    ends_at: datetime | None,
    new_guide_set: bool,
) -> None:
    """Note what was done to an instrument: CUSUM starts anew after it."""
    services = open_services(path)
    chosen_instruments(services, (instrument_id,))
    item = statements.annotate(
        services,
        instrument_id,
        AnnotationKind(kind),
        text,
        begins_at=_utc(begins_at),
        ends_at=_utc(ends_at),
        new_guide_set=new_guide_set,
        by=user_name(),
    )
    say(f"annotation {item.id}: {instrument_id} {kind}, {item.begins_at:%Y-%m-%d %H:%M} UTC")


@quality.command()
@_instruments
@json_option
@click.pass_obj
@reported
def annotations(path: Path, instruments: tuple[str, ...], as_json: bool) -> None:
    """What was done to the instruments, oldest first."""
    services = open_services(path)
    found = [
        item.model_dump(mode="json")
        for instrument_id in chosen_instruments(services, instruments)
        for item in services.store.quality.annotations(instrument_id)
    ]
    if as_json:
        print_json(found)
        return
    columns = ["id", "instrument_id", "kind", "begins_at", "ends_at", "new_guide_set", "by", "text"]
    print_table(found, columns)


@quality.command()
@click.argument("raw_file_id")
@click.option("--metric", help="Only this metric of the run.")
@_why
@click.pass_obj
@reported
def exclude(path: Path, raw_file_id: str, metric: str | None, why: str) -> None:
    """Have a run, or one metric of it, count nowhere."""
    services = open_services(path)
    item = statements.exclude(services, raw_file_id, metric=metric, why=why, by=user_name())
    what = as_text(raw_file_id if metric is None else f"{metric} of {raw_file_id}")
    if item is not None:
        say(f"exclusion {item.id}: {what}; `kraken quality evaluate` judges anew")
    else:
        say(f"{what} is excluded already")


@quality.command()
@click.argument("document_id", metavar="ID")
@click.pass_obj
@reported
def withdraw(path: Path, document_id: str) -> None:
    """Take back an annotation, an exclusion or a guide set, by its id."""
    services = open_services(path)
    kind = statements.withdraw(services, document_id, by=user_name())
    say(f"{kind} {as_text(document_id)} withdrawn; `kraken quality evaluate` judges anew")


def _chosen(
    services: Services, instruments: tuple[str, ...], sample_class: str | None
) -> list[str]:
    """The instruments; a class that was taken out of instruments.yaml still has its verdicts."""
    known = services.config.qc.classes
    is_known = sample_class is None or sample_class in known
    if not is_known and not services.store.quality.has_class(str(sample_class)):
        names = ", ".join(known) or "none, as `qc.classes` in instruments.yaml is empty"
        raise click.UsageError(f"no such sample class: {sample_class} (known: {names})")
    return chosen_instruments(services, instruments)


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)
