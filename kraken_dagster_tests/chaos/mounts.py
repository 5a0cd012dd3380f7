"""Disks that are files with a file system of their own, and what is mounted where of them.

Nobody needs to have tidied up after an earlier run: `clear` ends and unmounts whatever is left of
it below the folder, as `/proc` shows it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kraken_dagster_tests.support.helpers import wait_until


def run(*command: object) -> None:
    """Raises with what the program said."""
    done = subprocess.run([str(item) for item in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


@dataclass
class Disk:
    """An ext4 of its own at `root`, shown to Kraken at `mountpoint`, there perhaps through FUSE."""

    image: Path
    root: Path
    mountpoint: Path
    through_fuse: bool = False
    size_mb: int = 1024
    server: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def control(self) -> Path:
        return self.image.with_suffix(".control")

    def make(self) -> None:
        for folder in (self.image.parent, self.root, self.mountpoint):
            folder.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(self.size_mb * 1024 * 1024)
        run("mkfs.ext4", "-q", "-m", "0", self.image)
        run("mount", "-o", "loop", self.image, self.root)
        (self.root / "lost+found").rmdir()

    def show(self) -> None:
        """Mounts it where Kraken looks."""
        if not self.through_fuse:
            run("mount", "--bind", self.root, self.mountpoint)
            return
        program = [sys.executable, "-m", "kraken_dagster_tests.chaos.fuse_through"]
        with self.image.with_suffix(".log").open("ab") as log:
            self.server = subprocess.Popen(
                [*program, str(self.root), str(self.mountpoint), str(self.control)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: os.path.ismount(self.mountpoint), f"{self.mountpoint} is mounted")

    def hide(self) -> None:
        """Takes it away at once, whoever uses it; the mount point stays."""
        run("umount", "-l", self.mountpoint)
        self._end_server()

    def cover(self, kind: str, options: str) -> None:
        run("mount", "-t", kind, "-o", options, "chaos", self.mountpoint)

    def uncover(self) -> None:
        run("umount", "-l", self.mountpoint)

    def signal_server(self, number: signal.Signals) -> None:
        if self.server is not None:
            self.server.send_signal(number)

    def _end_server(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                self.server.wait(5)
            self.server.kill()
            self.server.wait()
            self.server = None


def clear(folder: Path) -> None:
    """Ends what runs, unmounts what is mounted, and gives back what is attached below `folder`."""
    for number in (signal.SIGCONT, signal.SIGKILL):
        for pid in processes_below(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.2)
    for _ in range(3):  # one may be mounted over another
        for mountpoint in mounted_below(folder):
            subprocess.run(["umount", "-l", str(mountpoint)], capture_output=True)
    wait_until(lambda: not mounted_below(folder), "nothing is mounted any more", timeout_s=30)
    answer = subprocess.run(["losetup", "-J", "-l"], capture_output=True, text=True).stdout
    for device in json.loads(answer or "{}").get("loopdevices", []):
        if Path(device["back-file"].removesuffix(" (deleted)")).is_relative_to(folder):
            subprocess.run(["losetup", "-d", device["name"]], capture_output=True)


def mounted_below(folder: Path) -> list[Path]:
    """Mount points below the folder, the innermost first."""
    with open("/proc/self/mountinfo", "rb") as table:
        points = [os.fsdecode(line.split()[4]).encode().decode("unicode_escape") for line in table]
    return [Path(item) for item in reversed(points) if Path(item).is_relative_to(folder)]


def processes_below(folder: Path) -> Iterator[int]:
    """Processes whose command line or environment names the folder, without this one's own."""
    own, needle = _ancestors(), os.fsencode(folder) + b"/"
    for item in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            text = (item / "cmdline").read_bytes() + (item / "environ").read_bytes()
            if needle in text and int(item.name) not in own:
                yield int(item.name)


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    return found
