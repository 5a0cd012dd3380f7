"""How a store is known: by a line of text in a file in its root, whose id MongoDB has recorded.

A mount point without its file system is an empty folder like any other. What tells the store from
it is something that stands in the store, and nowhere else.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

MARKER_NAME = ".kraken-store"
MARKER_BYTES = 4096  # of a marker; what is longer is none
_LINE = re.compile(r"kraken-store 1 (backup|output) ([0-9a-f]{8,64})")


class Role(StrEnum):
    """The roots that Kraken writes to, by their names in `locations`."""

    BACKUP = "backup"
    OUTPUT = "output"


@dataclass(frozen=True)
class StoreRecord:
    """A store as MongoDB has it. Paths are where it was when it was last initialised."""

    id: str
    role: Role
    path: str
    cluster_path: str


def marker_line(role: Role, store_id: str) -> str:
    """One line, which `grep -x` finds too."""
    return f"kraken-store 1 {role} {store_id}"


def parse_marker(text: str) -> dict[Role, str]:
    """The ids in a marker by role: backup and output may be one folder. Other lines are comments.

    Two different ids of one role are none.
    """
    found: dict[Role, set[str]] = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            found.setdefault(Role(match[1]), set()).add(match[2])
    return {role: ids.pop() for role, ids in found.items() if len(ids) == 1}
