"""The command `kraken`, one module for each group of commands."""

import sys

INTERRUPTED = (
    "kraken: interrupted; what was done so far stays. Next: the same command does what is missing."
)


def run() -> None:
    """The program `kraken`. Loading its modules takes a second, in which Ctrl-C may come too."""
    try:
        from kraken_dagster.cli.main import main  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(f"\n{INTERRUPTED}")  # a terminal shows ^C in the line before
    main()
