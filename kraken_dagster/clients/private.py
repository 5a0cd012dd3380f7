"""What is nobody's but Kraken's: its home, and all that its processes write there."""

import os
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE_UMASK = 0o077
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def make_private(folder: Path) -> None:
    """Takes all rights of others from a folder and all that is in it; a link is left alone.

    The folder itself comes last: one that is private was done to its end, and is not walked again.
    """
    with suppress(FileNotFoundError):
        if not folder.stat().st_mode & _OTHERS:
            return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            _close(Path(parent, name))
    _close(folder)


def _close(path: Path) -> None:
    with suppress(OSError):  # another user's, or gone meanwhile
        handle = os.open(path, _NO_LINK)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if mode & _OTHERS:
                os.fchmod(handle, mode & ~_OTHERS)
        finally:
            os.close(handle)
