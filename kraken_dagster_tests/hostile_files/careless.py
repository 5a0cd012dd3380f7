"""A reader that a file can bring to anything."""

from pathlib import Path


def read_bruker_metadata(raw: Path) -> dict[str, str]:
    while raw:
        pass
    return {}
