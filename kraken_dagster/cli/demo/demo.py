"""`kraken demo`: Kraken on a simulated laboratory."""

import sys
from pathlib import Path

import click

from kraken_dagster.cli.common import PORT, own_config, print_table, reported, say
from kraken_dagster.cli.demo import command as demo_module


@click.command()
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
