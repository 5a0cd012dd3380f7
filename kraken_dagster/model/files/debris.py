"""What systems and programs leave beside data: never an acquisition, and never a member of one.

The one place that knows. It is neither copied nor compared nor deleted, wherever it lies.
"""

import re
from collections.abc import Container, Mapping
from typing import TypeVar

T = TypeVar("T")

_DEBRIS = re.compile(
    r"""
    \._.*                # macOS: what a file system without resource forks can't hold
    | \.DS_Store         # macOS: how a folder was shown
    | Thumbs\.db         # Windows: previews
    | desktop\.ini       # Windows: how a folder was shown
    | ~\$.*              # Office: who has the document open
    | \.smbdelete.*      # SMB: deleted while it was open
    | \.nfs.*            # NFS: deleted while it was open
    | \.fuse_hidden.*    # FUSE: deleted while it was open
    | .*\.(tmp|partial|filepart|crdownload)  # copies and downloads that are not done
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def is_debris(path: str) -> bool:
    """Whether the last part of a path is such a name; a folder's name says nothing of its files."""
    return _DEBRIS.fullmatch(path.rpartition("/")[2]) is not None


def without_gone_debris(recorded: Mapping[str, T], found: Container[str]) -> dict[str, T]:
    """What is recorded, but for debris that an earlier version took for members and is not found.

    It is copied no more, and nothing is lost with it.
    """
    return {path: fact for path, fact in recorded.items() if path in found or not is_debris(path)}
