"""AlphaKraken's instruments."""

import re
from pathlib import PurePosixPath
from typing import Any

from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.operations.alphakraken.notes import Section
from kraken_dagster.operations.alphakraken.places import inside, tell_of_mount

_ID = re.compile(r"[a-z0-9_]+")
_FLAGS = ("skip_processing", "skip_quanting")
_NUMBERS = {
    "min_free_space_gb": "min_free_space_gb",
    "min_file_age_days": "min_file_age_to_remove_in_days",
    "min_file_age_to_remove_in_days": "min_file_age_to_remove_in_days",
    "file_move_delay_m": "file_move_delay_m",
}


def instruments(file: Section, mounts: PurePosixPath) -> dict[str, dict[str, Any]]:
    """`instruments` of instruments.yaml; one that can't be taken is told and left out.

    Raises:
        ConfigError: there is no such section, or it is no mapping of mappings.
    """
    section = file.below("instruments")
    found: dict[str, dict[str, Any]] = {}
    for name in section:
        if _ID.fullmatch(name) is None:
            section.refuse(
                name,
                "the instrument is left out: an id is of a-z, 0-9 and _ here, and part of each "
                "backup's path; rename it in AlphaKraken first",
            )
            continue
        entry = _instrument(section.below(name), name, mounts)
        if entry is not None:
            found[name] = entry
    return found


def _instrument(section: Section, name: str, mounts: PurePosixPath) -> dict[str, Any] | None:
    vendor = section.text("type")
    if vendor not in {item.value for item in Vendor}:
        expected = ", ".join(item.value for item in Vendor)
        section.refuse("type", f"the instrument is left out: expected {expected}, found {vendor!r}")
        return None
    section.take("type", vendor or "")
    entry: dict[str, Any] = {"type": vendor}
    path = _folder(section, name, mounts)
    if path != mounts / "instruments" / name:
        entry["path"] = str(path)
    for key in _FLAGS:
        if (flag := section.flag(key)) is not None:
            entry["skip_processing"] = flag or entry.get("skip_processing", False)
            section.take(key, f"skip_processing: {str(flag).lower()}")
    for key, ours in _NUMBERS.items():
        if (number := section.number(key)) is not None:
            entry[ours] = number
            section.take(key, f"{ours}: {number:g}")
    if entry.get("min_file_age_to_remove_in_days", 0) < 0:
        age = entry.pop("min_file_age_to_remove_in_days")
        section.refuse("min_file_age_days", f"expected 0 or more days, found {age:g}")
    section.leave("password", "secrets are no part of instruments.yaml")
    section.end()
    return entry


def _folder(section: Section, name: str, mounts: PurePosixPath) -> PurePosixPath:
    """The instrument's folder on this machine."""
    usual = f"instruments/{name}"
    target = section.text("mount_target") or usual
    if not inside(target):
        section.refuse("mount_target", f"expected a folder below {mounts}, found {target!r}")
        target = usual
    elif target != usual:
        section.change("mount_target", f"path: {mounts / target}")
    source, user = section.text("mount_src"), section.text("username")
    tell_of_mount(source, user, mounts / target, section.notes)
    if source is not None:
        section.change("mount_src", "mounting is the host's: the folder stays where it is")
    return mounts / target
