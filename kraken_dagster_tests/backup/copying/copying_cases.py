"""Raw files on a disk, and copies of them, for the tests of copying; no tests in here."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kraken_dagster.backup.copier import copy_members
from kraken_dagster.backup.copying.plan import CopyPlan, CopyResult
from kraken_dagster.fs.copying.part_files import PART_PREFIX
from kraken_dagster.fs.digests import walk_members
from kraken_dagster.model.files.vendors import RULES, Vendor, backup_mapping
from kraken_dagster_tests.support.files import files_below

NAMES = {Vendor.THERMO: "x.raw", Vendor.BRUKER: "x.d", Vendor.SCIEX: "x.wiff"}
FILES = {
    Vendor.THERMO: {"x.raw": 300_000},
    Vendor.BRUKER: {"x.d/analysis.tdf_bin": 300_000, "x.d/analysis.tdf": 5_000, "x.d/1.m/a": 0},
    Vendor.SCIEX: {"x.wiff": 40_000, "x.wiff.scan": 300_000, "x.timeseries.data": 7, "y.wiff": 9},
}
# A program behind this may read no more than the rights on files say, even if root starts it.
BY_RIGHTS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
_MTIME_NS = 1_700_000_000_123_456_700
_CHILD = """
import os, signal, sys
from pathlib import Path
from kraken_dagster.fs.copying.copy_file import copy_file
from kraken_dagster.fs.copying.progress import Progress
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster_tests.backup.copying.copying_cases import Copying
case = Copying(Vendor(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Copying:
    """A raw file on an instrument, and the folder that its backup goes to."""

    vendor: Vendor
    source: Path
    target: Path
    own_name: str | None = None

    @property
    def name(self) -> str:
        return self.own_name or NAMES[self.vendor]

    @property
    def final(self) -> Path:
        return self.target / self.name

    def members(self) -> list[str]:
        if self.vendor is Vendor.SCIEX:
            return list(backup_mapping(self.vendor, self.name, self.name, os.listdir(self.source)))
        return walk_members(self.source, self.name)

    def plan(self) -> CopyPlan:
        mapping = backup_mapping(self.vendor, self.name, self.name, self.members())
        folder = RULES[self.vendor].is_folder
        return CopyPlan(self.source, self.target, mapping, self.name, folder, stall_s=60.0)

    def run(
        self,
        *,
        plan: CopyPlan | None = None,
        still_ours: Callable[[], bool] = lambda: True,
        list_members: Callable[[], list[str]] | None = None,
        **changes: object,
    ) -> CopyResult:
        """Copies; `changes` are fields of the plan."""
        return copy_members(
            replace(plan or self.plan(), **changes),
            list_members=list_members or self.members,
            still_ours=still_ours,
        )

    def in_a_child(self, script: str, *before: str) -> "subprocess.CompletedProcess[str]":
        """Runs `script`, which finds this as `case`, in a process of its own."""
        command = [*before, sys.executable, "-c", _CHILD + script]
        arguments = [self.vendor, str(self.source), str(self.target)]
        return subprocess.run([*command, *arguments], capture_output=True, text=True)


def make(folder: Path, vendor: Vendor) -> Copying:
    """An instrument's folder below `folder`, with a raw file in it, and an empty backup."""
    for seed, (path, size) in enumerate(FILES[vendor].items()):
        write(folder / "instrument" / path, size, seed)
    (folder / "backup").mkdir()
    return Copying(vendor, folder / "instrument", folder / "backup")


def write(path: Path, size: int, seed: int = 0) -> Path:
    """Bytes and an mtime in ns that only depend on `seed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(seed).randbytes(size))
    os.utime(path, ns=(_MTIME_NS + seed, _MTIME_NS + seed))
    return path


def content(path: Path) -> bytes | dict[str, bytes | None]:
    """A file's bytes, or everything below a folder, where a folder counts as None."""
    if path.is_file():
        return path.read_bytes()
    return {
        item.relative_to(path).as_posix(): item.read_bytes() if item.is_file() else None
        for item in path.rglob("*")
    }


def stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Inode and mtime in ns of everything below `folder`."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def md5sum(path: Path) -> str:
    """What the program says."""
    found = subprocess.run(["md5sum", "--", path], capture_output=True, check=True)
    return found.stdout.decode().lstrip("\\").split()[0]


def parts(folder: Path) -> list[Path]:
    """The temporary files that are left; a staging folder is none, but what is in it may be."""
    return [path for path in files_below(folder) if path.name.startswith(PART_PREFIX)]


def staging(case: Copying) -> Path:
    """The one staging folder that stands beside the backup."""
    (found,) = [path for path in case.target.glob(f"{PART_PREFIX}*") if path.is_dir()]
    return found


def unavailable(reason: str) -> None:
    """A loud skip on a laptop, a failure in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must be able to do this: {reason}")
    pytest.skip(reason)
