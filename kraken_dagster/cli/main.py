"""The `kraken` command. Exit codes: 0 fine, 1 found something wrong, 2 wrong use."""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from kraken_dagster.cli.common import Commands
from kraken_dagster.config.loader import config_path
from kraken_dagster.fs.private import be_private

# Where each command stands, below this package; it is called there as here, with `_` for `-`.
_MODULES: Final = {
    "alerts": "alerts",
    "completion": "shell.completion",
    "compose": "operations.compose",
    "dagit": "operations.compose",
    "demo": "demo.demo",
    "doctor": "operations.doctor",
    "env": "shell.env",
    "files": "files.command",
    "import-alphakraken": "operations.import_alphakraken",
    "init": "operations.init",
    "init-store": "operations.store",
    "instrument": "instrument",
    "login": "shell.login",
    "mcp": "operations.mcp",
    "metrics": "files.command",
    "project": "project",
    "purge": "retention",
    "quality": "quality",
    "rebuild": "rebuild",
    "reload": "operations.reload",
    "restore": "restore",
    "retry": "operations.retry",
    "sensors": "sensors",
    "settings": "settings",
    "show": "files.show",
    "status": "operations.status",
    "token": "token",
    "up": "operations.up",
    "verify": "retention",
    "web": "web",
}


class _Late(MutableMapping[str, click.Command]):
    """The commands by name; one is imported when it is asked for, as Dagster takes seconds."""

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"kraken_dagster.cli.{_MODULES[name]}")
        command = getattr(module, name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise NotImplementedError(f"{name}: a command is added to the table above")

    def __delitem__(self, name: str) -> None:
        raise NotImplementedError(f"{name}: a command is removed from the table above")

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


@click.group(
    cls=Commands, commands=_Late(), context_settings={"help_option_names": ["-h", "--help"]}
)
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
