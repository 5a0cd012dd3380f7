"""`kraken completion`: what a shell must know to complete commands, options and names."""

from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from kraken_dagster.config.loader import config_path, load_config
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.printable import printable

_VARIABLE = "_KRAKEN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and instruments.

    In bash: eval "$(kraken completion bash)", for all times in ~/.bashrc.
    """
    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "kraken", _VARIABLE).source())


def complete_instruments(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Those of instruments.yaml; none where it can't be read, as nobody reads an error here."""
    given = context.find_root().params.get("path")
    with suppress(KrakenError, OSError):
        config = load_config(Path(given) if given else config_path())
        return [
            CompletionItem(name, help=printable(item.type))
            for name, item in config.instruments.items()
            if name.startswith(incomplete)
        ]
    return []
