"""Which files a command is about: options, and the page's filter over MongoDB's documents."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from kraken_dagster.cli.common import chosen_instruments
from kraken_dagster.cli.shell.completion import complete_instruments
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.runtime.services import Services

if TYPE_CHECKING:
    from kraken_dagster.web.table.columns import Rows, Table

_AT_ONCE = 500
_SPAN = re.compile(r"(\d{1,5})\s*(min|h|d|w)")
_SECONDS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Chosen:
    """What the options say; None and empty: all."""

    instruments: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    project: str | None = None
    since: str | None = None
    settings: str | None = None
    filter: str | None = None

    @property
    def needs_all(self) -> bool:
        """Whether each file must be looked at to know which are meant."""
        return bool(self.settings or self.filter)

    def query(self, services: Services) -> dict[str, Any]:
        """What MongoDB is asked.

        Raises:
            click.UsageError
        """
        return {
            "instrument_ids": chosen_instruments(services, self.instruments),
            "statuses": [Status(item) for item in self.statuses] or list(Status),
            "project_id": self.project,
            "since": None if self.since is None else moment(self.since, services.now()),
        }


@dataclass(frozen=True)
class Found:
    """Files as columns; `rows` are those that are meant, in their order."""

    table: "Table"
    rows: "Rows"

    @property
    def ids(self) -> list[str]:
        return [self.table.ids[row] for row in self.rows]


def choosing(function: Callable[..., None]) -> Callable[..., None]:
    """The options by which files are chosen, given to the command as `chosen`."""

    @wraps(function)  # with the options that it has already
    def call(*args: Any, **values: Any) -> None:
        fields = {name: values.pop(name) for name in Chosen.__dataclass_fields__}
        function(*args, chosen=Chosen(**fields), **values)

    statuses = click.Choice([item.value for item in Status])
    options = [
        click.option(
            "--instrument",
            "instruments",
            multiple=True,
            shell_complete=complete_instruments,
            help="Only this one; repeatable.",
        ),
        click.option(
            "--status", "statuses", multiple=True, type=statuses, help="Only these; repeatable."
        ),
        click.option("--project", help="Only files of this project."),
        click.option("--since", help="Made since then: 2026-11-20, 12h, 7d, 2w. Times are UTC."),
        click.option(
            "--settings", metavar="NAME[:VERSION]", help="Only files with results of these."
        ),
        click.option("--filter", help="The page's filter: 'hela & !error & proteins=[5000,9000]'."),
    ]
    for option in reversed(options):
        call = option(call)
    return call


def moment(text: str, now: datetime) -> datetime:
    """A date, a time (UTC where it names no zone), or so long before `now`.

    Raises:
        click.UsageError
    """
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return now - timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.UsageError(
            f"--since is {text!r}, expected a date like 2026-11-20 or a span like 12h, 7d or 2w"
        ) from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def newest(services: Services, chosen: Chosen, limit: int) -> list[RawFile]:
    """The files that are meant, newest first, without their history.

    Raises:
        click.UsageError
        StoreError
    """
    if not chosen.needs_all:
        return services.store.raw_files.latest(**chosen.query(services), limit=limit)
    ids = gathered(services, chosen, limit).ids
    known = services.store.raw_files.many(ids)
    return [known[file_id] for file_id in ids if file_id in known]


def gathered(services: Services, chosen: Chosen, limit: int | None = None) -> Found:
    """The files that are meant with their metrics, newest first.

    Raises:
        click.UsageError
        StoreError
    """
    import numpy as np  # noqa: PLC0415 - takes a while, which other commands need not wait for

    from kraken_dagster.web.column_config import columns_of  # noqa: PLC0415
    from kraken_dagster.web.intake import rows_of  # noqa: PLC0415
    from kraken_dagster.web.table.columns import Table  # noqa: PLC0415

    table, names = Table(), columns_of(services.config).other_names
    ids = services.store.raw_files.ids(**chosen.query(services))
    if limit is not None and not chosen.needs_all:
        ids = ids[:limit]
    settings = None if chosen.settings is None else _reference(chosen.settings)
    for some in _batches(ids):
        for row in rows_of(services.store, some, names, settings=settings):
            if settings is None or row.has_results:
                table.put(row.id, row.cells)
    there = [row for file_id in ids if (row := table.row(file_id)) is not None]
    rows = np.array(there, dtype=np.int64)
    if chosen.filter:
        rows = rows[_mask(table, chosen.filter)[rows]]
    return Found(table, rows if limit is None else rows[:limit])


def _mask(table: "Table", text: str) -> Any:
    """Where the filter holds; on a page a term that isn't understood is ignored, here it would give
    files that nobody meant."""
    from kraken_dagster.web.table.selection import select  # noqa: PLC0415

    found = select(table, text)
    if found.warnings and len(table):
        raise click.UsageError(f"--filter: {' '.join(found.warnings)}")
    return found.mask


def _reference(text: str) -> tuple[str, int | None]:
    name, colon, version = text.rpartition(":")
    if not colon:
        return text, None
    if not (version.isascii() and version.isdecimal()):
        raise click.UsageError(f"--settings is {text!r}, expected NAME or NAME:VERSION")
    return name, int(version)


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
