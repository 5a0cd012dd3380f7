"""Runs one of Dagster's programs, given as a path with its arguments, without colours in its logs.

Its own options have colours or JSON only, whoever reads them.
"""

import logging
import runpy
import sys
from importlib import import_module
from typing import Any


class _Plain(logging.Formatter):
    """In place of a formatter that takes colours, too."""

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, **_: Any) -> None:
        super().__init__(fmt, datefmt)


def main() -> None:
    import_module("coloredlogs").ColoredFormatter = _Plain  # type: ignore[attr-defined]
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
