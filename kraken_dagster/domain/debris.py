"""What systems and programs leave beside data: never an acquisition, and never a member of one.

The one place that knows. It is neither copied nor compared nor deleted, wherever it lies.
"""

import re

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
