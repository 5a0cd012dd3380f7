"""`kraken files` and `kraken metrics`."""

import json
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click

from kraken_dagster.cli.common import as_text, json_option, open_services, print_json, reported, say
from kraken_dagster.cli.files.choose import Chosen, Found, choosing, gathered, newest
from kraken_dagster.cli.files.tables import day, is_for_people, print_files, print_metrics
from kraken_dagster.model.printable import printable_lines
from kraken_dagster.operations import file_report as reports
from kraken_dagster.runtime.services import Services

_SHOWN = 50
_BESIDE = ("instrument_id", "status", "created_at", "project_id", "settings", "size_gb")
wide_option = click.option(
    "--wide", is_flag=True, help="Everything in one line each, whole, however wide that is."
)


@click.command()
@choosing
@click.option("--limit", default=_SHOWN, show_default=True, type=click.IntRange(1))
@wide_option
@json_option
@click.pass_obj
@reported
def files(path: Path, *, chosen: Chosen, limit: int, wide: bool, as_json: bool) -> None:
    """List the newest raw files, newest first."""
    services = open_services(path)
    rows = reports.files(services, newest(services, chosen, limit))
    if as_json:
        print_json(rows)
    else:
        print_files(rows, wide=wide)


@click.command()
@choosing
@click.option(
    "--metric", "wanted", multiple=True, help="Only this one, or with * several; repeatable."
)
@click.option("--limit", type=click.IntRange(1), help="Files; default 50 in a table, else all.")
@wide_option
@click.option("--csv", "form", flag_value="csv", help="CSV on stdout, with exact values.")
@click.option("--parquet", "form", flag_value="parquet", help="Parquet on stdout.")
@click.option("--json", "form", flag_value="json", help="JSON on stdout.")
@click.option("--output", type=click.File("wb"), default="-", help="A file in place of stdout.")
@click.pass_obj
@reported
def metrics(
    path: Path,
    *,
    chosen: Chosen,
    wanted: tuple[str, ...],
    limit: int | None,
    wide: bool,
    form: str | None,
    output: IO[bytes],
) -> None:
    """Metrics of raw files, newest first: as a table, or all of them for another program."""
    is_terminal = output is sys.stdout.buffer and sys.stdout.isatty()
    if form == "parquet" and is_terminal:
        raise click.UsageError("--parquet is binary: name a file with --output")
    services = open_services(path)
    found = gathered(services, chosen, limit if form or limit else _SHOWN)
    names = _names(services, found, wanted)
    if form is None:
        _print(found, names, wide=wide)
    else:
        content = _content(found, names, form)
        if is_terminal:
            content = printable_lines(content.decode("utf-8", "replace")).encode()
        output.write(content)


def _names(services: Services, found: Found, wanted: Sequence[str]) -> list[str]:
    """The metrics that are asked for, in their order, or all, as the page has them.

    Raises:
        click.UsageError: none of them is there.
    """
    from kraken_dagster.web.column_config import columns_of, matches  # noqa: PLC0415
    from kraken_dagster.web.intake import BASIC  # noqa: PLC0415
    from kraken_dagster.web.views.files import names_of  # noqa: PLC0415

    there = names_of(found.table, columns_of(services.config))
    metrics = [name for name in there if name not in BASIC]
    chosen = [name for item in wanted for name in metrics if matches(item, name)]
    if wanted and not chosen and len(found.table):
        known = ", ".join(as_text(name) for name in metrics[:20]) or "none"
        raise click.UsageError(f"no chosen file has such a metric (there are: {known})")
    return list(dict.fromkeys(chosen)) if wanted else metrics


def _content(found: Found, names: Sequence[str], form: str) -> bytes:
    from kraken_dagster.web.table.exports import FORMS, values  # noqa: PLC0415

    shown = [*(name for name in _BESIDE if name in found.table.columns), *names]
    if form != "json":
        _, write = FORMS[form]
        return write(found.table, found.rows, shown)
    columns = {"raw_file": found.ids}
    columns |= {name: list(map(_plain, values(found.table, found.rows, name))) for name in shown}
    rows = [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]
    return (json.dumps(rows, indent=2) + "\n").encode()


def _plain(value: Any) -> Any:
    """JSON has neither dates nor infinity."""
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(found: Found, names: Sequence[str], *, wide: bool) -> None:
    from kraken_dagster.web.views.words import number  # noqa: PLC0415

    short = is_for_people(wide=wide)

    def cell(name: str, row: int) -> str:
        column = found.table.columns[name]
        is_number = column.numbers is not None and not column.is_time
        value = float(found.table.numbers(name)[row])
        if short and is_number and value == value:  # noqa: PLR0124 - NaN is nothing
            return number(value)
        return as_text(found.table.text(name, row) or None)

    def made(row: int) -> str:
        seconds = float(found.table.numbers("created_at")[row])
        if not short or seconds != seconds:  # noqa: PLR0124
            return as_text(found.table.text("created_at", row) or None)
        return day(datetime.fromtimestamp(seconds, UTC))

    def first(file_id: str, row: int) -> list[str]:
        state = cell("status", row) if "status" in found.table.columns else "-"
        return [as_text(file_id), *(() if short else (state,)), made(row)]

    cells = [
        first(file_id, row) + [cell(name, row) for name in names]
        for file_id, row in zip(found.ids, map(int, found.rows), strict=True)
    ]
    heads = ["file", *(() if short else ("status",)), "made (UTC)", *map(as_text, names)]
    hidden = print_metrics(heads, cells, wide=wide)
    if hidden:
        say(f"and {len(hidden)} more: {', '.join(hidden[:6])}{', ...' if len(hidden) > 6 else ''}")
        say("--metric NAME chooses; --wide shows all; --csv, --parquet and --json give all")
