"""What the modules of the `kraken` command share: how they open the services, print, and end."""

import errno
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kraken_dagster.cli import INTERRUPTED
from kraken_dagster.config.loader import load_config
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.factory import make_engines
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.errors.kinds import Kind, kind_of
from kraken_dagster.model.printable import printable, printable_lines
from kraken_dagster.runtime.homes import require_own_homes
from kraken_dagster.runtime.logs import print_uncaught_quoted, quote_log_records
from kraken_dagster.runtime.open_store import open_store
from kraken_dagster.runtime.services import Services

_WIDTH_WITHOUT_TERMINAL = 10_000  # nobody reads there, and no name may be cut
_OF_THE_SYSTEM = {
    Kind.ACCESS: (
        "Your user is not allowed to do this",
        "run the command as the user whose Kraken this is, or have the right given.",
    ),
    Kind.MISSING: ("A file or a folder is not there", "make it, or name another one."),
    Kind.TAKEN: ("Something else stands under that name", "see what it is, or name another."),
    Kind.FULL: ("No space, or no quota, is left", "free some, and run the command again."),
}
_READ_ONLY = (
    "Nothing can be written on this file system",
    "mount it so that it may be written to, or name a folder elsewhere.",
)
_COLORS = {
    **dict.fromkeys(("ok", "done", "in_control", "on", "active"), "green"),
    **dict.fromkeys(("error", "quanting_failed", "acquisition_failed", "out_of_control"), "red"),
    **dict.fromkeys(("warning", "look", "off"), "yellow"),
    **dict.fromkeys(("queued_for_monitoring", "monitoring_acquisition", "monitoring_done"), "cyan"),
    **dict.fromkeys(("checksumming", "checksumming_done", "copying", "copying_done"), "cyan"),
    **dict.fromkeys(("queued_for_quanting", "quanting"), "cyan"),
    **dict.fromkeys(("done_not_quanted", "ignored", "inactive"), "dim"),
}


def reported(function: Callable[..., None]) -> Callable[..., None]:
    """Prints the project's errors as they are, and exits with 1."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KrakenError as error:
            click.echo(f"kraken: {error}", err=True)
            sys.exit(1)

    return call


class Commands(click.Group):
    """A group of commands that end in one sentence on stderr, and not in a traceback.

    Exit codes: 1 what a command tells of, 2 wrong use. A fault in Kraken still is a traceback.
    """

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        quote_log_records()
        print_uncaught_quoted()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a terminal may be unable to show all letters
                stream.reconfigure(errors="backslashreplace")
        try:
            with errors_of_the_system(), _flushed():
                code = super().main(args, standalone_mode=False, **extra)
        except KrakenError as error:
            _end(f"kraken: {error}")
        except click.ClickException as error:
            _end_of_wrong_use(error)
        except (click.Abort, KeyboardInterrupt):
            _end(INTERRUPTED)
        except BrokenPipeError:  # whoever read the output, like `head`, has enough
            _end()
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def errors_of_the_system(where: Path | None = None) -> Iterator[None]:
    """An error of the operating system, in a sentence; that of a reader who left stays itself.

    Args:
        where: what to name if the error names no file, as that of a full disk.

    Raises:
        KrakenError
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        kind = kind_of(error) or Kind.DEVICE
        meaning, next_step = _OF_THE_SYSTEM.get(kind, (kind.meaning, "mend it, and try again."))
        if error.errno == errno.EROFS:  # no right would help
            meaning, next_step = _READ_ONLY
        raise KrakenError(
            meaning,
            file=where if error.filename is None else error.filename,
            found=error.strerror or error,
            next_step=next_step,
        ) from error


@contextmanager
def _flushed() -> Iterator[None]:
    """What was printed is written before the command ends well, also where it ends by `sys.exit`.

    At Python's own end an error would be a traceback.
    """
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _end(message: str | None = None, code: int = 1) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:  # it would be tried again, and complained of, at Python's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if message is not None:
        with suppress(OSError):
            click.echo(printable_lines(message), err=True)
    sys.exit(code)


def _end_of_wrong_use(error: click.ClickException) -> NoReturn:
    if isinstance(error, NoArgsIsHelpError):  # its message is the help, and no mistake
        _end(error.format_message(), error.exit_code)
    context = getattr(error, "ctx", None)
    lines = "" if context is None else f"{context.get_usage()}\n"
    if context is not None:
        lines += f"Try '{context.command_path} --help' for help.\n\n"
    _end(f"{lines}Error: {printable(error.format_message())}", error.exit_code)


PORT = click.IntRange(1, 65535)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


def own_config(path: Path) -> KrakenConfig:
    """The configuration of a command, whose homes are no other's.

    Raises:
        ConfigError
    """
    config = load_config(path)
    require_own_homes(config, path)
    return config


def not_blank(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    """A callback of click's, for what people should read later."""
    if not value.strip():
        raise click.BadParameter("it is empty: say what was done, or why", param=parameter)
    return value


def chosen_instruments(services: Services, named: tuple[str, ...]) -> list[str]:
    """Those that are named, else all that are configured; another name is wrong use."""
    if unknown := sorted(set(named) - set(services.config.instruments)):
        known = ", ".join(services.config.instruments)
        raise click.UsageError(f"no such instrument: {', '.join(unknown)} (known: {known})")
    return list(named or services.config.instruments)


def open_services(path: Path) -> Services:
    """
    Raises:
        KrakenError
    """
    with errors_of_the_system():
        config = own_config(path)
    with errors_of_the_system(config.home):
        store = open_store(config.home, config.mongodb.uri)
        engines = make_engines(config.engines, config.home)
    return Services(config=config, store=store, engines=engines)


def print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    console.print(table)


def _cell(value: Any) -> Text:
    text = as_text(value)
    return Text(text, style=style_of(text))


def style_of(text: str) -> str:
    """The colour of a status: green has ended well, cyan is on its way, red needs somebody."""
    return _COLORS.get(text, "")


def user_name() -> str:
    """Who runs the command, for histories; nobody gave every number a name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def as_text(value: Any) -> str:
    """A value as a table or a line has it; nothing is `-`."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return printable(value)


def say(text: str = "", *, err: bool = False) -> None:
    """Writes one line, quoted: the one way by which a command prints what isn't a table or JSON."""
    click.echo(printable(text), err=err)


def print_json(value: Any) -> None:
    """Exact data: JSON escapes control characters by itself."""

    def plain(item: Any) -> str:
        return item.isoformat() if isinstance(item, datetime) else str(item)

    click.echo(json.dumps(value, default=plain, indent=2))
