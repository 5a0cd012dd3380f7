"""`kraken status`: how everything is, from MongoDB alone.

Neither Dagster nor pyarrow is imported: people and programs ask often, and wait for the answer.
"""

import sys
from pathlib import Path
from typing import Any

import click

from kraken_dagster.cli.common import (
    as_text,
    json_option,
    open_services,
    print_json,
    print_table,
    reported,
    say,
)
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.monitoring.loaded import told_without_configuration
from kraken_dagster.operations import report as reports


@click.command()
@json_option
@click.option("--watch", is_flag=True, help="Counts and files a minute, refreshed; ends by Ctrl-C.")
@click.option(
    "--every", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Seconds, --watch."
)
@click.pass_obj
@reported
def status(path: Path, as_json: bool, watch: bool, every: float) -> None:
    """How the instruments are and what their files are doing; 1 if something is wrong."""
    try:
        services = open_services(path)
    except ConfigError:
        for line in told_without_configuration(path):
            say(as_text(line), err=True)
        raise
    if watch:
        from kraken_dagster.cli.screens.status_watch import watch as watch_counts  # noqa: PLC0415

        watch_counts(services.store, list(services.config.instruments), every_s=every)
        return
    found = reports.status(services)
    if as_json:
        print_json(found)
    else:
        if found["simulation"]:
            say("SIMULATION: these instruments are not real")
        rows = [
            {**item, "files": ", ".join(f"{count} {name}" for name, count in item["files"].items())}
            for item in found["instruments"]
        ]
        columns = ["id", "type", "status", "looked_at", "free_space_gb", "files", "details"]
        print_table(rows, columns)
        columns = ["id", "type", "status", "asked_at", "open_jobs", "details"]
        print_table(found["engines"], columns)
        columns = ["id", "path", "status", "looked_at", "free_space_gb", "total_space_gb"]
        print_table(found["file_systems"], columns)
        _print_processes(found["processes"])
        _print_locations(found["locations"])
        _print_ticks(found["ticks"])
        _print_left(found["left"])
        for problem in found["wrong"]:
            say(f"WRONG: {as_text(problem)}")
    sys.exit(1 if found["wrong"] else 0)


def _print_processes(rows: list[dict[str, Any]]) -> None:
    if rows:
        columns = ["process", "host", "configuration", "file_time", "since", "state"]
        print_table(rows, columns)


def _print_locations(rows: list[dict[str, Any]]) -> None:
    if rows:
        rows = [{**item, "instruments": ", ".join(item["instruments"])} for item in rows]
        print_table(rows, ["location", "host", "instruments", "since", "seen_at", "lives"])


def _print_ticks(rows: list[dict[str, Any]]) -> None:
    """The sensors and schedules, where something is to be done about one."""
    if rows := [item for item in rows if item["told"] is not None]:
        say("SENSORS AND SCHEDULES that don't tick, or fail:")
        print_table(rows, ["name", "state", "last_tick", "details", "told"])


def _print_left(left: list[dict[str, Any]]) -> None:
    """The instruments that are not in instruments.yaml, where there are any."""
    if left:
        say("NOT IN instruments.yaml:")
        columns = ["id", "state", "files", "unfinished", "errors", "backups", "open_jobs", "path"]
        print_table(left, columns)
