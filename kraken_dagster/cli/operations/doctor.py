"""`kraken doctor`: what is wrong, and how to mend it."""

import sys
from pathlib import Path
from typing import BinaryIO

import click

from kraken_dagster.cli.common import (
    json_option,
    open_services,
    own_config,
    print_json,
    print_table,
    reported,
)
from kraken_dagster.config.loader import load_config
from kraken_dagster.operations.doctor import checks as doctor_module
from kraken_dagster.operations.doctor import offline as doctor_offline
from kraken_dagster.operations.doctor import standby as doctor_standby
from kraken_dagster.operations.doctor import uploads as doctor_uploads
from kraken_dagster.operations.doctor.readers import compare_readers
from kraken_dagster.operations.doctor.rights import examine_rights


@click.command()
@click.option("--offline", is_flag=True, help="Ask no mount, MongoDB or cluster: for CI.")
@click.option("--stand-in", is_flag=True, help="Also: can it stand in for another instance?")
@click.option(
    "--settings",
    "exported",
    type=click.File("rb"),
    help="With --stand-in: what `kraken settings export` wrote on the other instance.",
)
@click.option(
    "--compare-readers",
    "raw",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only this: a Thermo raw file as two readers read it.",
)
@click.option("--try-uploads", is_flag=True, help="Also: write a few bytes to the S3 server.")
@json_option
@click.pass_obj
@reported
def doctor(
    path: Path,
    *,
    offline: bool,
    stand_in: bool,
    try_uploads: bool,
    exported: BinaryIO | None,
    raw: Path | None,
    as_json: bool,
) -> None:
    """Check configuration, mounts, rights, MongoDB, clocks: what is wrong, how to mend it."""
    if exported is not None and not stand_in:
        raise click.UsageError("--settings only with --stand-in")
    if offline and stand_in:
        raise click.UsageError("--offline and --stand-in exclude each other: that asks MongoDB")
    if offline and try_uploads:
        raise click.UsageError("--offline and --try-uploads exclude each other: that asks a server")
    config = load_config(path) if offline or raw else own_config(path)
    findings = [] if raw else doctor_offline.examine_offline(config, path)
    if raw is not None:
        findings = compare_readers(raw, config.reading_limits)
    elif offline:
        findings.append(doctor_offline.left_out(config))
    else:
        findings.extend(examine_rights(config, path))
        findings.extend(doctor_module.examine(config, lambda: open_services(path)))
    if stand_in and raw is None:
        content = None if exported is None else exported.read()
        findings.extend(doctor_standby.examine_standby(lambda: open_services(path), content))
    if try_uploads and raw is None:
        findings.extend(doctor_uploads.try_uploads(lambda: open_services(path)))
    if as_json:
        print_json([vars(item) for item in findings])
    else:
        print_table([vars(item) for item in findings], ["level", "what", "found"])
    sys.exit(1 if any(item.level == "error" for item in findings) else 0)
