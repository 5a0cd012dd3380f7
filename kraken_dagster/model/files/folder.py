"""What stands in an instrument's folder: acquisitions, what is left alone, what is new."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from kraken_dagster.model.files.acquisition import FolderEntry
from kraken_dagster.model.files.dates import plausible
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.files.marks import is_written_later
from kraken_dagster.model.files.vendors import RULES, Vendor, VendorRules
from kraken_dagster.model.raw_file import InstrumentFileStatus

_MOST_BYTES = 2**63 - 1  # that MongoDB can hold as a number; sparse files have any size


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    OTHER = "special file"
    DAMAGED = "damaged entry"


class Entry(NamedTuple):
    """One entry of a folder as a look at it shows it. Sizes in bytes, times as UTC epoch seconds.

    The `main_` values are those of the main file within a Bruker folder, None without one.
    `problem` is what the system said in place of a look at the entry, or at its main file: then
    nothing is known of it but its name.
    """

    name: str
    kind: Kind
    size: int
    mtime: float
    ctime: float
    main_size: int | None = None
    main_mtime: float | None = None
    main_ctime: float | None = None
    problem: str | None = None

    @property
    def changed_at(self) -> float:
        """The latest of its times."""
        times = (self.mtime, self.ctime, self.main_mtime, self.main_ctime)
        return max(time for time in times if time is not None)


@dataclass(frozen=True)
class Listing:
    """One look at an instrument's folder, and the space in bytes of its disk.

    `stamp` changes when a name comes or goes: the folder's device, inode, mtime and ctime in ns.
    """

    entries: tuple[Entry, ...]
    free_bytes: int
    total_bytes: int = 0
    stamp: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LeftAlone:
    """An entry that looks like a raw file, but is none that Kraken may touch."""

    name: str
    reason: str


def sort_out(
    vendor: Vendor, entries: Sequence[Entry]
) -> tuple[dict[str, FolderEntry], list[LeftAlone]]:
    """The acquisitions among the entries, by name, and what is left alone and why.

    Entries with another extension, and debris, are none of our business and in neither; nor is
    one that couldn't be looked at, unless it is known to be a folder.
    """
    rules = RULES[vendor]
    standing, left_alone = {}, []
    companions = _companions(rules, entries) if rules.has_companions else {}
    elder = _elder(rules, entries)
    for entry in entries:
        if not rules.matches(entry.name) or _cant_know(entry):
            continue
        if reason := _why_leave(rules, entry):
            left_alone.append(LeftAlone(entry.name, reason))
        elif elder.get(stem := rules.stem(entry.name), entry.name) == entry.name:
            standing[entry.name] = _standing(rules, entry, companions.get(stem, ()))
    return standing, left_alone


def left_alone_in_words(left_alone: Sequence[LeftAlone]) -> str:
    """`; 6 left alone, 'x.raw': why`, to go after other words; nothing where there is none."""
    if not left_alone:
        return ""
    first = left_alone[0]
    return f"; {len(left_alone)} left alone, {first.name!a}: {first.reason}"


def cant_know(vendor: Vendor, entries: Sequence[Entry]) -> dict[str, str]:
    """The acquisitions of which the folder has the name, and of which no more can be known."""
    rules = RULES[vendor]
    return {
        entry.name: entry.problem
        for entry in entries
        if entry.problem is not None and rules.matches(entry.name)
    }


def _cant_know(entry: Entry) -> bool:
    return entry.kind is Kind.DAMAGED and entry.problem is not None


def _elder(rules: VendorRules, entries: Sequence[Entry]) -> dict[str, str]:
    """By stem, the name under which an acquisition goes, where it may go under several."""
    if len(rules.extensions) == 1:
        return {}
    found: dict[str, str] = {}
    for extension in reversed(rules.extensions):
        for entry in entries:
            may_be_one = entry.kind is Kind.FILE or _cant_know(entry)
            if may_be_one and rules.matches(entry.name) and entry.name.lower().endswith(extension):
                found[rules.stem(entry.name)] = entry.name
    return found


def _why_leave(rules: VendorRules, entry: Entry) -> str | None:
    if rules.stem(entry.name) == "":
        return "the name is nothing but the extension; give it a name on the instrument"
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "the name is not valid UTF-8; rename it on the instrument"
    if entry.kind is Kind.LINK:
        return "a symbolic link is never followed; put the data itself here"
    wanted = Kind.FOLDER if rules.is_folder else Kind.FILE
    if entry.kind is not wanted:
        return f"a {entry.kind} stands where a {wanted} is expected"
    return None


def _standing(rules: VendorRules, entry: Entry, companions: Sequence[Entry]) -> FolderEntry:
    if rules.is_folder:
        times = [entry.main_mtime, entry.main_ctime]
        known = [time for time in times if time is not None]
        created = min(known) if known else min(entry.mtime, entry.ctime)
        size = entry.main_size
        return FolderEntry(
            entry.name, created, size, size or 0, None, entry.problem, entry.main_mtime
        )
    created = min(entry.mtime, entry.ctime)
    if not companions:
        return FolderEntry(entry.name, created, entry.size, entry.size, None, None, entry.mtime)
    ending = rules.scan_ending
    scans = [item.size for item in companions if ending and item.name.lower().endswith(ending)]
    total = min(sum(other.size for other in companions), _MOST_BYTES)
    scan = max(scans, default=None)
    return FolderEntry(entry.name, created, entry.size, total, scan, None, entry.mtime)


def _companions(rules: VendorRules, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The files of a folder by the stem of the acquisition that they belong to."""
    files = [entry for entry in entries if entry.kind is Kind.FILE and not is_debris(entry.name)]
    stems = {rules.stem(entry.name) for entry in files if rules.matches(entry.name)}
    owned: dict[str, list[Entry]] = {}
    for entry in files:
        if owner := rules.owner_stem(entry.name, stems):
            owned.setdefault(owner, []).append(entry)
    return owned


def is_collision(
    *, main_file_exists: bool, current_size: int | None, sizes_in_db: Sequence[int | None]
) -> bool:
    """Whether a file on the instrument is another acquisition under a known name.

    Args:
        current_size: bytes of the main file on the instrument.
        sizes_in_db: recorded sizes of all raw files of that name; None where none is known yet
            (that file is still being handled, and may be this one), -1 where the file has left
            under another name or to another place.
    """
    if not main_file_exists or not sizes_in_db or None in sizes_in_db:
        return False
    return current_size not in sizes_in_db


def new_acquisitions(
    vendor: Vendor,
    standing: Mapping[str, FolderEntry],
    known: Mapping[str, Sequence[KnownFile]],
    *,
    now: datetime,
) -> list[tuple[FolderEntry, bool]]:
    """What is to be registered, oldest first, each with whether its name is known already."""
    rules = RULES[vendor]
    new = []
    for name, found in standing.items():
        records = known.get(name, ())
        if not records:
            new.append((found, False))
        elif is_collision(
            main_file_exists=found.main_size_bytes is not None,
            current_size=found.main_size_bytes,
            sizes_in_db=[record.main_file_size(rules) for record in records],
        ):
            new.append((found, True))
    return oldest_first(new, now=now)


def written_since(
    standing: Mapping[str, FolderEntry], known: Mapping[str, Sequence[KnownFile]]
) -> list[KnownFile]:
    """Backed up files whose main file has been written to since, by its time.

    Of several of one name the newest is the one that stands there.
    """
    found = []
    for name, item in standing.items():
        if not (records := known.get(name)):
            continue
        newest = records[0] if len(records) == 1 else max(records, key=lambda it: it.created_at_)
        if (
            is_written_later(newest.source_mtime, item.main_mtime)
            and newest.instrument_file_status is InstrumentFileStatus.INITIAL
            and not newest.is_gone
            and not newest.is_to_compare
        ):
            found.append(newest)
    return found


def oldest_first(
    found: Sequence[tuple[FolderEntry, bool]], *, now: datetime
) -> list[tuple[FolderEntry, bool]]:
    """In the order of their dates, where a date that can't be comes last."""

    def place(item: tuple[FolderEntry, bool]) -> tuple[datetime, str]:
        return plausible(item[0].created_at_epoch, first_seen=now), item[0].name

    return sorted(found, key=place)
