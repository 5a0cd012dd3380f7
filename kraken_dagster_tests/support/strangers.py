"""Programs that are run as another user of this machine, who has no rights of his own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
# The packages may stand where a stranger can't go: all is imported before he is one.
_BECOME = """
import os, sys, pymongo, pathlib
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
"""


def as_stranger(program: str, *arguments: str | Path) -> str:
    """What a program prints that a user runs who owns nothing and is in no group."""
    done = subprocess.run(
        [sys.executable, "-c", _BECOME.format(uid=NOBODY) + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


_LOOK_AROUND = """
import stat
for top in sys.argv[1:]:
    for parent, folders, files in os.walk(top, onerror=lambda error: None):
        for path in [parent, *(os.path.join(parent, name) for name in files)]:
            if os.access(path, os.R_OK) or os.access(path, os.W_OK):
                print(path)
"""


def readable_to_strangers(*tops: Path) -> list[str]:
    """The folders and files that a stranger may list, read or write to."""
    return as_stranger(_LOOK_AROUND, *tops).splitlines()


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that strangers may enter, which they may not those of pytest."""
    with tempfile.TemporaryDirectory(prefix="kraken-test-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def open_to_others(*tops: Path) -> list[str]:
    """What is there and in there, to which others than the owner have any right."""
    found = [path for top in tops for path in (top, *top.rglob("*")) if not path.is_symlink()]
    return [str(path) for path in found if path.lstat().st_mode & 0o077]
