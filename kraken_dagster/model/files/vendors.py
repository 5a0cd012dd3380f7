"""What the files of Thermo, Bruker and Sciex instruments are called and which belong together.

The *raw file* is what the instrument's software names: `x.raw`, the folder `x.d`, `x.wiff`. The
*main file* is the one physical file whose growth tells that the instrument is still writing. The
*members* are all physical files of the raw file. Names of the vendors' are compared without case,
because the instruments' own file systems are.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from kraken_dagster.model.errors import UnsafePath, WrongExtension
from kraken_dagster.model.files.debris import is_debris

BACKUP_FOLDER_NAME = "Backup"
DELETEME_ENDING = ".deleteme"
MAX_NAME_BYTES = 255


class Vendor(StrEnum):
    THERMO = "thermo"
    BRUKER = "bruker"
    SCIEX = "sciex"


@dataclass(frozen=True)
class VendorRules:
    """How one vendor's software lays its files out.

    Args:
        extensions: of the raw file, the usual one first. Where two raw files differ in nothing
            else, that with the earlier one is the acquisition, and the other a member of it.
        main_files: where the raw file is a folder, what its main file may be called; the usual
            name first, and the first of those that are there is it.
        companions: endings of the usual files beside the main file that belong to it, the longest
            first; further files whose names begin with its stem do, too.
        scan_ending, complete_scan_bytes: of the companion that is longer than this only once the
            acquisition has ended well.
        failed_suffix: what the software puts behind the stem of a failed acquisition.
    """

    vendor: Vendor
    extensions: tuple[str, ...]
    main_files: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    scan_ending: str | None = None
    complete_scan_bytes: int = 0
    failed_suffix: str | None = None

    @property
    def extension(self) -> str:
        return self.extensions[0]

    @property
    def main_file_in_folder(self) -> str | None:
        return self.main_files[0] if self.main_files else None

    @property
    def is_folder(self) -> bool:
        return bool(self.main_files)

    @property
    def has_companions(self) -> bool:
        return bool(self.companions)

    def is_complete_scan(self, size_bytes: int | None) -> bool:
        """Whether the file that completes an acquisition is; of vendors without one, always."""
        return self.scan_ending is None or (size_bytes or 0) > self.complete_scan_bytes

    def matches(self, name: str) -> bool:
        """Whether it ends like a raw file of this vendor; debris never does."""
        return name.lower().endswith(self.extensions) and not is_debris(name)

    def stem(self, name: str) -> str:
        """`name` without its extension; WrongExtension if it isn't a name of this vendor."""
        lower = name.lower()
        found = next((item for item in self.extensions if lower.endswith(item)), None)
        if found is None:
            raise WrongExtension(
                f"Not a raw file of a {self.vendor} instrument",
                file=name,
                expected=f"a name that ends in {' or '.join(self.extensions)}",
                next_step="check the instrument's `type` in instruments.yaml.",
            )
        return name[: -len(found)]

    def main_file(self, original_name: str) -> str:
        """The usual path of the main file, relative to the instrument's folder."""
        if self.main_file_in_folder is None:
            return original_name
        return f"{original_name}/{self.main_file_in_folder}"

    def main_file_among(self, original_name: str, paths: Iterable[str]) -> str | None:
        """The path of the main file among those of a raw file's members; None if it isn't there."""
        if not self.is_folder:
            return original_name if original_name in paths else None
        below = {path.lower(): path for path in paths if path.startswith(f"{original_name}/")}
        lower = (f"{original_name}/{name}".lower() for name in self.main_files)
        return next((below[name] for name in lower if name in below), None)

    def members(self, original_name: str, paths: Iterable[str]) -> list[str]:
        """The members of a raw file, sorted, among `paths`; see `members`."""
        stem, paths = self.stem(original_name), list(paths)
        if self.is_folder:
            return sorted(path for path in paths if path.startswith(f"{original_name}/"))
        if not self.has_companions:
            return [path for path in paths if path == original_name]
        stems = {self.stem(path) for path in paths if self.matches(path)} | {stem}
        beside = (path for path in paths if "/" not in path)
        return sorted(path for path in beside if self.owner_stem(path, stems) == stem)

    def owner_stem(self, name: str, main_stems: Collection[str]) -> str | None:
        """The stem of the acquisition to which a file in its folder belongs, None if to none.

        The ending of a usual companion names the stem; else the longest stem of a raw file in the
        folder that leads `name` owns it. `s.1.wiff.scan` thus belongs to `s.1` even while there is
        no `s.1.wiff`: it may be on its way. What was renamed for somebody to delete belongs to
        none.
        """
        if is_deleteme(name):
            return None
        for ending in self.companions:
            if name.lower().endswith(ending):
                return name[: -len(ending)]
        stem = name
        while "." in stem:
            stem = stem.rpartition(".")[0]
            if stem in main_stems:
                return stem
        return None

    def main_file_display_name(self, original_name: str) -> str:
        return self.main_file_in_folder or original_name


RULES: Mapping[Vendor, VendorRules] = {
    Vendor.THERMO: VendorRules(Vendor.THERMO, (".raw",), failed_suffix="_CORRUPTED"),
    Vendor.BRUKER: VendorRules(
        Vendor.BRUKER, (".d",), ("analysis.tdf_bin", "analysis.tsf_bin", "analysis.baf")
    ),
    Vendor.SCIEX: VendorRules(
        Vendor.SCIEX,
        (".wiff", ".wiff2"),
        companions=(".wiff2.scan", ".wiff.scan", ".timeseries.data", ".wiff2", ".wiff"),
        scan_ending=".scan",
        complete_scan_bytes=144,
    ),
}


def elder_names(vendor: Vendor, name: str) -> list[str]:
    """What an acquisition of which `name` is but a member may be called: `x.wiff` for `x.wiff2`.

    In either case of its letters, because only a look at the folder tells which it is.
    """
    extensions, lower = RULES[vendor].extensions, name.lower()
    mine = next((item for item in extensions if lower.endswith(item)), extensions[0])
    elder = extensions[: extensions.index(mine)]
    stem = RULES[vendor].stem(name)
    return [stem + spelt for item in elder for spelt in (item, item.upper())]


def younger_names(vendor: Vendor, name: str) -> list[str]:
    """The other way round: `x.wiff2` for `x.wiff`."""
    extensions, stem = RULES[vendor].extensions, RULES[vendor].stem(name)
    mine = next((item for item in extensions if name.lower().endswith(item)), extensions[0])
    younger = extensions[extensions.index(mine) + 1 :]
    return [stem + spelt for item in younger for spelt in (item, item.upper())]


def corrupted_name(vendor: Vendor, original_name: str) -> str | None:
    """What the instrument's software renames a failed acquisition to; None where it never does."""
    rules = RULES[vendor]
    if rules.failed_suffix is None:
        return None
    stem = rules.stem(original_name)
    return f"{stem}{rules.failed_suffix}{original_name[len(stem) :]}"


def is_corrupted_name(vendor: Vendor, name: str) -> bool:
    rules = RULES[vendor]
    return (
        rules.failed_suffix is not None
        and rules.matches(name)
        and rules.stem(name).endswith(rules.failed_suffix)
    )


def is_deleteme(name: str) -> bool:
    """Whether Kraken gave it this name: a second copy, left for a person to delete."""
    return re.search(rf"{re.escape(DELETEME_ENDING)}(\.[0-9]+)?$", name) is not None


def deleteme_name(name: str, number: int) -> str:
    """`name.deleteme`, then `name.deleteme.2`, ...; cut where no file system would take it."""
    ending = DELETEME_ENDING + ("" if number == 1 else f".{number}")
    room = MAX_NAME_BYTES - len(ending)
    return name.encode()[:room].decode(errors="ignore") + ending


def members(vendor: Vendor, original_name: str, paths: Iterable[str]) -> list[str]:
    """The members of a raw file, sorted, among `paths` relative to the instrument's folder.

    Raises:
        WrongExtension: `original_name` isn't a name of this vendor.
    """
    clean = (path for path in paths if not is_debris(path))
    return recorded_members(vendor, original_name, clean)


def recorded_members(vendor: Vendor, original_name: str, paths: Iterable[str]) -> list[str]:
    """The same among what was recorded: earlier versions took debris for members, and proved it."""
    return RULES[vendor].members(original_name, paths)


def safe_relative(path: str) -> PurePosixPath:
    """`path` if it stays below whatever it is joined to; UnsafePath otherwise."""
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise UnsafePath("A path that would lead out of its folder", file=path)
    return PurePosixPath(path)


def target_name(vendor: Vendor, raw_file_id: str, original_name: str, member: str) -> str:
    """Where a member goes below the folder that keeps the raw file under its id.

    The raw file's own name gives way to its id; what follows the name or its stem is kept.
    """
    rules = RULES[vendor]
    stem, target_stem = rules.stem(original_name), rules.stem(raw_file_id)
    if rules.is_folder:
        target = raw_file_id + member[len(original_name) :]
    elif member == original_name:
        target = raw_file_id
    else:
        target = target_stem + member[len(stem) :]
    return str(safe_relative(target))


def backup_mapping(
    vendor: Vendor, raw_file_id: str, original_name: str, paths: Iterable[str]
) -> dict[str, str]:
    """Every member, relative to the instrument's folder, to its place in the backup's folder."""
    return {
        member: target_name(vendor, raw_file_id, original_name, member)
        for member in members(vendor, original_name, paths)
    }


def move_mapping(
    vendor: Vendor, raw_file_id: str, original_name: str, paths: Iterable[str]
) -> dict[str, str]:
    """What is renamed when a raw file is archived; both relative to the instrument's folder.

    A folder is renamed as a whole, the files of other vendors one by one.
    """
    rules = RULES[vendor]
    found = members(vendor, original_name, paths)
    if rules.is_folder:
        safe_relative(raw_file_id)
        return {original_name: f"{BACKUP_FOLDER_NAME}/{raw_file_id}"} if found else {}
    return {
        member: f"{BACKUP_FOLDER_NAME}/{target_name(vendor, raw_file_id, original_name, member)}"
        for member in found
    }
