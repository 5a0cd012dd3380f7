"""`kraken show`: one raw file, in an order for people, or with every field."""

from pathlib import Path
from typing import Any

import click

from kraken_dagster.cli.common import json_option, open_services, print_json, reported
from kraken_dagster.cli.files.show_all import print_all
from kraken_dagster.cli.files.show_short import print_short
from kraken_dagster.operations import file_report as reports


@click.command()
@click.argument("raw_file_id")
@click.option("--all", "everything", is_flag=True, help="Every field that is recorded, as it is.")
@click.option("--tic", is_flag=True, help="Draw its total ion current instead.")
@json_option
@click.option("--mzqc", is_flag=True, help="Its metrics as mzQC on stdout, and nothing else.")
@click.pass_obj
@reported
def show(
    path: Path, raw_file_id: str, *, everything: bool, tic: bool, as_json: bool, mzqc: bool
) -> None:
    """What is known of one raw file: what it waits for, its backup, jobs, metrics, history."""
    services = open_services(path)
    if mzqc:
        from kraken_dagster.quality.mzqc_export import mzqc_of_run  # noqa: PLC0415

        print_json(mzqc_of_run(services, raw_file_id))
        return
    if tic:
        from kraken_dagster.cli.screens.tic import show_tic  # noqa: PLC0415

        show_tic(services, raw_file_id, as_json=as_json)
        return
    found: dict[str, Any] = reports.show(services, raw_file_id)
    if as_json:
        print_json(found)
    elif everything:
        print_all(found)
    else:
        print_short(found, now=services.now())
