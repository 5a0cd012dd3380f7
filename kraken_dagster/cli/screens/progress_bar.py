"""A progress bar of files or bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def progress_bar(what: str, *, total: int, unit_is_files: bool) -> Iterator[tuple[Any, Any]]:
    """A progress bar on stderr, where that is a terminal: what advances it by one, and by bytes."""
    columns = (
        (MofNCompleteColumn(), TextColumn("files, {task.fields[read]} MB read"))
        if unit_is_files
        else (DownloadColumn(), TransferSpeedColumn())
    )
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(what, total=total, read=0)
        read = [0]

        def advance() -> None:
            progress.advance(task, 1)

        def count(size: int) -> None:
            read[0] += size
            if unit_is_files:
                progress.update(task, read=read[0] // 1_000_000)
            else:
                progress.advance(task, size)

        yield advance, count
