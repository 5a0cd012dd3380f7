"""`kraken reload`: the code server of `kraken up` takes up what has changed."""

from pathlib import Path

import click

from kraken_dagster.cli.common import own_config, reported, say


@click.command()
@click.pass_obj
@reported
def reload(path: Path) -> None:
    """Have `kraken up` load instruments.yaml and the code anew; runs at work go on."""
    from kraken_dagster.operations.code_server import reload as code_server  # noqa: PLC0415

    say(code_server.reload(own_config(path)))
