"""`kraken env`: what a shell must know for Dagster's own commands to find this laboratory."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from kraken_dagster.cli.common import reported
from kraken_dagster.config.loader import CONFIG_VARIABLE, load_config
from kraken_dagster.operations.dagster_home import prepare_dagster
from kraken_dagster.runtime.homes import DAGSTER_HOME, dagster_home, other_kraken, require_own_homes


@click.command()
@click.pass_obj
@reported
def env(path: Path) -> None:
    """Print what `dagster ...` needs in this shell; use: eval "$(kraken env)".

    Dagster's home is made if it is not there.
    """
    config = load_config(path)
    named = os.environ.get(DAGSTER_HOME)
    if named and other_kraken(Path(named), config.home) is not None:
        del os.environ[DAGSTER_HOME]  # this shell was another laboratory's until now
    require_own_homes(config, path)
    home = dagster_home(config)
    prepare_dagster(home, config, path)
    click.echo(f"export {DAGSTER_HOME}={shlex.quote(str(home))}")
    click.echo(f"export {CONFIG_VARIABLE}={shlex.quote(str(path))}")
    program = Path(sys.executable).with_name("dagster")
    if program.exists() and shutil.which("dagster") != str(program):
        # As after an installation by pipx, which shows the programs of one package alone.
        click.echo(f'export PATH={shlex.quote(str(program.parent))}:"$PATH"')
    click.echo('# In bash, zsh or sh: eval "$(kraken env)"')
