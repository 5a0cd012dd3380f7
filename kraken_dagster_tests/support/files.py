"""Looks at folders in which something is at work."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder; `Path.rglob` of Python 3.11 fails when a folder goes meanwhile."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
