"""Mounts a folder with the ways of a foreign file system; no tests in here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.support.helpers import wait_until


@contextmanager
def foreign(folder: Path, ways: str) -> Iterator[Path]:
    """`folder` gets these ways while the block runs; yields where its files really are.

    A skip, or a failure in CI, where there can be no such mount.
    """
    if not os.path.exists("/dev/fuse") or shutil.which("fusermount3") is None:
        unavailable("no FUSE: /dev/fuse or fusermount3 is missing")
    real = folder.with_name(f"{folder.name}.real")
    folder.rename(real)
    folder.mkdir()
    program = [sys.executable, "-m", "kraken_dagster_tests.file_systems.foreign_folder"]
    server = subprocess.Popen([*program, real, folder, ways])
    try:
        wait_until(lambda: os.path.ismount(folder) or server.poll() is not None, "the mount")
        if server.poll() is not None:
            unavailable("FUSE can't mount")
        yield real
    finally:
        subprocess.run(["fusermount3", "-u", "-z", folder], capture_output=True)
        server.terminate()
        server.wait()
        folder.rmdir()
        real.rename(folder)
