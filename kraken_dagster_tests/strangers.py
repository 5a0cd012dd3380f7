"""Programs that are run as another user of this machine, who has no rights of his own."""

import os
import subprocess
import sys
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
