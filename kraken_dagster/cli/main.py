"""The `kraken` command. Exit codes: 0 fine, 1 found something wrong, 2 wrong use."""

import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click

from kraken_dagster.cli.alerts import alerts
from kraken_dagster.cli.common import (
    PORT,
    Commands,
    as_text,
    errors_of_the_system,
    json_option,
    open_services,
    own_config,
    print_json,
    print_table,
    reported,
    say,
    user_name,
)
from kraken_dagster.cli.completion import completion
from kraken_dagster.cli.compose import compose, dagit
from kraken_dagster.cli.demo import command as demo_module
from kraken_dagster.cli.env import env
from kraken_dagster.cli.files.command import files, metrics
from kraken_dagster.cli.files.show import show
from kraken_dagster.cli.instrument import instrument
from kraken_dagster.cli.login import login
from kraken_dagster.cli.project import project
from kraken_dagster.cli.quality import quality
from kraken_dagster.cli.rebuild import rebuild
from kraken_dagster.cli.retention import purge, restore, verify
from kraken_dagster.cli.screens import status_watch as watching
from kraken_dagster.cli.sensors import sensors
from kraken_dagster.cli.settings import settings
from kraken_dagster.cli.store import init_store
from kraken_dagster.cli.web import page_of, web
from kraken_dagster.config.dagit import LOOPBACK
from kraken_dagster.config.loader import config_path, load_config
from kraken_dagster.config.schema import OutputExistsMode
from kraken_dagster.fs.private import be_private, site_umask
from kraken_dagster.model.errors import ConfigError, KrakenError
from kraken_dagster.monitoring.loaded import told_without_configuration
from kraken_dagster.operations import report as reports
from kraken_dagster.operations import site_files
from kraken_dagster.operations.doctor import checks as doctor_module
from kraken_dagster.operations.doctor import offline as doctor_offline
from kraken_dagster.operations.doctor import standby as doctor_standby
from kraken_dagster.operations.doctor.readers import compare_readers
from kraken_dagster.operations.doctor.rights import examine_rights
from kraken_dagster.operations.retry import retry as retry_step
from kraken_dagster.operations.supervisor import Supervisor, run_until_stopped


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="instruments.yaml; else KRAKEN_CONFIG, else the one in the working directory.",
)
@click.version_option(package_name="kraken-dagster")
@click.pass_context
def main(context: click.Context, path: Path | None) -> None:
    """From a mass spectrometer's disk to a verified backup and quality metrics."""
    be_private()
    context.obj = (path or config_path()).absolute()


main.add_command(alerts)
main.add_command(compose)
main.add_command(dagit)
main.add_command(instrument)
main.add_command(project)
main.add_command(quality)
main.add_command(verify)
main.add_command(restore)
main.add_command(purge)
main.add_command(rebuild)
main.add_command(settings)
main.add_command(init_store)
main.add_command(env)
main.add_command(login)
main.add_command(web)
main.add_command(files)
main.add_command(metrics)
main.add_command(show)
main.add_command(completion)
main.add_command(sensors)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@reported
def init(folder: Path) -> None:
    """Write a commented instruments.yaml, Dagster's files and a unit of systemd into FOLDER."""
    os.umask(site_umask())  # they are the site's, and Kraken may run as another user
    for path in site_files.init(folder):
        say(f"wrote {as_text(path)}")
    config = as_text(shlex.quote(str(folder / "instruments.yaml")))
    say("Next: put your instruments and folders into instruments.yaml; then")
    for command, what in (
        ("doctor", "what is wrong, and how to correct it"),
        ("init-store --empty", "makes new, empty folders the backup store and the output"),
        ("up", "starts Kraken"),
    ):
        say(f"  kraken --config {config} {command}    # {what}")


@main.command()
@click.option(
    "--port", default=3000, show_default=True, type=PORT, help="Dagit's port on this machine."
)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="The address that Dagit listens on; another needs `dagit` in instruments.yaml.",
)
@click.option("--web-port", type=int, help="The page's port: 8080, if it is free. 0: no page.")
@click.option(
    "--web-host", default=LOOPBACK, show_default=True, help="The same as --host, for the page."
)
@click.option("--verbose", is_flag=True, help="Also what the daemon does at every tick.")
@click.pass_obj
@reported
def up(
    path: Path, *, port: int, host: str, web_port: int | None, web_host: str, verbose: bool
) -> None:
    """Start MongoDB if none is configured, Dagit, the page and the daemon; end them with Ctrl-C."""
    config = own_config(path)
    page = partial(page_of, config, path, web_host, web_port)
    with errors_of_the_system(config.home):
        supervisor = Supervisor(
            config, path, port=port, host=host, find_programs=page, is_verbose=verbose
        )
        run_until_stopped(supervisor)


@main.command()
@click.option("--once", is_flag=True, help="Process one batch, print a table, and exit.")
@click.option(
    "--port", default=3000, show_default=True, type=PORT, help="Dagit's port; not with --once."
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".kraken-demo"),
    show_default=True,
    help="Where the simulated laboratory lives.",
)
@click.option("--files", "count", default=4, show_default=True, help="Files per instrument.")
@click.option("--speed", default=400.0, show_default=True, help="Laboratory s per real second.")
@click.option(
    "--beside",
    is_flag=True,
    help="Kraken runs already with the configuration of --config, as in containers: play the "
    "laboratory that it watches in --home, and judge as --once does.",
)
@click.pass_obj
@reported
def demo(
    path: Path, *, once: bool, port: int, home: Path, count: int, speed: float, beside: bool
) -> None:
    """Run Kraken on a SIMULATED laboratory: three instruments that write files of their vendors.

    With --once the exit code is 0 only if every file ended as it should.
    """
    laboratory = demo_module.Demo(home.absolute(), files=count, speed=speed)
    if not (once or beside):
        laboratory.serve(port)
        return
    rows, problems = laboratory.run_beside(own_config(path)) if beside else laboratory.run_once()
    print_table(rows, ["instrument", "file", "status", "expected", "size_bytes", "reason"])
    for problem in problems:
        say(f"kraken: {problem}", err=True)
    for line in () if beside else laboratory.farewell():
        say(line)
    sys.exit(1 if problems else 0)


@main.command()
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
        watching.watch(services.store, list(services.config.instruments), every_s=every)
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


def _print_left(left: list[dict[str, Any]]) -> None:
    """The instruments that are not in instruments.yaml, where there are any."""
    if left:
        say("NOT IN instruments.yaml:")
        columns = ["id", "state", "files", "unfinished", "errors", "backups", "open_jobs", "path"]
        print_table(left, columns)


@main.command()
@click.argument("raw_file_ids", nargs=-1, required=True)
@click.option(
    "--output-exists-mode",
    "mode",
    type=click.Choice(
        [item.value for item in OutputExistsMode if item is not OutputExistsMode.RAISE]
    ),
    help="Process them once more, also where they have ended well; this is done with results "
    "that are there.",
)
@click.pass_obj
@reported
def retry(path: Path, raw_file_ids: tuple[str, ...], mode: str | None) -> None:
    """Do the failed step of these raw files again, at the sensors' next tick."""
    wanted = None if mode is None else OutputExistsMode(mode)
    services, failed = open_services(path), False
    for raw_file_id in raw_file_ids:
        try:
            _, what_follows = retry_step(services, raw_file_id, asked_by=user_name(), mode=wanted)
        except KrakenError as error:
            say(f"kraken: {error}", err=True)
            failed = True
        else:
            say(f"{as_text(raw_file_id)}: {what_follows}")
    sys.exit(1 if failed else 0)


@main.command()
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
@json_option
@click.pass_obj
@reported
def doctor(
    path: Path,
    *,
    offline: bool,
    stand_in: bool,
    exported: BinaryIO | None,
    raw: Path | None,
    as_json: bool,
) -> None:
    """Check configuration, mounts, rights, MongoDB, clocks: what is wrong, how to mend it."""
    if exported is not None and not stand_in:
        raise click.UsageError("--settings only with --stand-in")
    if offline and stand_in:
        raise click.UsageError("--offline and --stand-in exclude each other: that asks MongoDB")
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
    if as_json:
        print_json([vars(item) for item in findings])
    else:
        print_table([vars(item) for item in findings], ["level", "what", "found"])
    sys.exit(1 if any(item.level == "error" for item in findings) else 0)
