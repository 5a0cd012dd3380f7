"""Opens a file that somebody else wrote: no link, no pipe, no folder."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


class NoPlainFile(OSError):
    """What stands there is no plain file; a link is none, wherever it leads."""


def open_plain(path: Path) -> BinaryIO:
    """The file, for reading. Waits for nobody: a pipe without a writer would block.

    Raises:
        OSError: there is none (FileNotFoundError), it can't be opened, or NoPlainFile.
    """
    require_plain(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NoPlainFile(f"no plain file: {path.name}")
    return file


def require_plain(path: Path) -> os.stat_result:
    """What the file is.

    Raises:
        OSError: there is none (FileNotFoundError), or NoPlainFile.
    """
    facts = os.lstat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise NoPlainFile(f"no plain file: {path.name}")
    return facts
