"""Sees files go from the instruments' disks, and looks at the backup at that very moment."""

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from kraken_dagster_tests.chaos.facts import (
    Acquired,
    Content,
    acquired_of,
    content_of,
    is_ours,
    stem_of,
)
from kraken_dagster_tests.chaos.judging.gather import BACKUP_FOLDER
from kraken_dagster_tests.chaos.notes import Notebook

LOOK_EVERY_S = 0.5
Inodes = Mapping[tuple[str, int], str]  # (instrument, inode) to the path in its folder


class Witness:
    """Knows what instruments noted; asks neither Kraken nor its mounts."""

    def __init__(self, disks: Path, instruments: tuple[str, ...], notes: Notebook) -> None:
        self.disks, self.instruments, self.notes = disks, instruments, notes
        self._stopping = threading.Event()

    def watch(self) -> None:
        before = self._scan()
        while not self._stopping.wait(LOOK_EVERY_S):
            now = self._scan()
            for key in before.keys() - now.keys():
                self._gone(key[0], before[key])
            before = now

    def stop(self) -> None:
        self._stopping.set()

    def _scan(self) -> dict[tuple[str, int], str]:
        return {
            (name, inode): path
            for name in self.instruments
            for path, inode in _files(self.disks / name)
        }

    def _gone(self, instrument: str, path: str) -> None:
        """Only what stood in `Backup/`: from elsewhere Kraken deletes nothing."""
        head, _, rest = path.partition("/")
        if head != BACKUP_FOLDER:
            return
        for item, tail in self._owners(instrument, rest):
            if not item.removed:
                versions = [members[tail] for members in item.contents if tail in members]
                whole = any(in_backup(self.disks, instrument, one) for one in versions)
                self.notes.write("vanished", instrument=instrument, name=path, whole=whole)
                return

    def _owners(self, instrument: str, name: str) -> Iterator[tuple[Acquired, str]]:
        for item in acquired_of(self.notes.read()):
            if item.instrument == instrument:
                for known in item.names:
                    for tail in item.final:
                        if name.endswith(stem_of(known) + tail):
                            yield item, tail


def in_backup(disks: Path, instrument: str, content: Content) -> bool:
    """Whether a file of the backup holds just that, by its disk and not by Kraken's mount."""
    root = disks / "backup" / instrument
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                if is_ours(str(path.relative_to(root.parent))):
                    continue
                if path.lstat().st_size == content.size and content_of(path) == content:
                    return True
            except FileNotFoundError:
                continue
    return False


def _files(root: Path) -> Iterator[tuple[str, int]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                yield str(path.relative_to(root)), path.lstat().st_ino
            except FileNotFoundError:
                continue
