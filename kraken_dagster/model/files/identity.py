"""What is recorded of an instrument itself, and how a folder is known to be another's.

A folder is known by the files in it: by name, size and time, and by their share of what stands
there, since names like `blank.raw` come on every instrument.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from kraken_dagster.model.files.acquisition import FolderEntry
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.files.vendors import VendorRules

MOST_COMPARED = 100  # what one query asks for
_FEW = 3
# Times of several file systems, and clocks that are a moment apart.
_SAME_TIME = timedelta(seconds=2)
_LONGEST_ACQUISITION = timedelta(hours=24)


class Identity(BaseModel):
    """A document of the collection `instrument` (ours).

    `type` and `path` are those of the last look that was certain; `renaming_from` is set while a
    rename into this id is under way, `renamed_to` once this id was given up for another.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    id: str = Field(alias="_id")
    type: str | None = None
    path: str | None = None
    seen_at: AwareDatetime | None = None
    accepted: dict[str, str] | None = None  # another type and path, as a person has accepted them
    renaming_from: str | None = None
    renamed_to: str | None = None
    retired_at: AwareDatetime | None = None
    retired_by: str | None = None


class Elsewhere(NamedTuple):
    """A file of another instrument, by what its disk showed."""

    instrument_id: str
    created_at_epoch: float  # as its disk said
    known: KnownFile
    seen_size: int | None  # while it is being acquired


@dataclass(frozen=True)
class Claim:
    """That `matches` of `of` files in a folder are recorded as another instrument's."""

    instrument_id: str
    matches: int
    of: int
    example: str


def compared(new: Sequence[FolderEntry]) -> list[FolderEntry]:
    """As many as one query asks for, evenly out of all."""
    step = max(1, -(-len(new) // MOST_COMPARED))
    return list(new[::step])


def claims(
    rules: VendorRules,
    asked: Sequence[FolderEntry],
    elsewhere: Mapping[str, Elsewhere],
    *,
    standing: int,
) -> list[Claim]:
    """Which other instruments' files stand in a folder, those with the most first.

    Args:
        asked: what stands there under names that are not known to be the instrument's own.
        elsewhere: by name, what other instruments have recorded of that name.
        standing: how many stand there; of those that are known already none is another's.
    """
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for item in asked:
        other = elsewhere.get(item.name)
        if other is not None and is_same_file(rules, item, other):
            found[other.instrument_id] += 1
            examples.setdefault(other.instrument_id, item.name)
    return [
        Claim(instrument_id, count, standing, examples[instrument_id])
        for instrument_id, count in found.most_common()
    ]


def is_anothers(
    claim: Claim, *, asked: int, new: int, served: bool, same_folder: bool, moved: bool
) -> bool:
    """Whether so many files say that a folder is another instrument's.

    Args:
        asked: of how many of the `new` files it was found out.
        served: the other instrument is configured, here or on a host that lives.
        same_folder: it was last seen in this very folder.
        moved: this instrument was last seen in another folder.
    """
    is_fresh = new == claim.of
    if same_folder and not served and is_fresh:
        return True
    of_all = claim.matches / max(1, asked) * new / max(1, claim.of)
    enough = claim.matches >= _FEW or moved or (not served and is_fresh)
    return enough and of_all >= 0.5


def is_same_file(rules: VendorRules, found: FolderEntry, other: Elsewhere) -> bool:
    """Whether a file in a folder is one that another instrument has recorded."""
    size = found.main_size_bytes
    recorded = other.known.main_file_size(rules)
    if recorded is None:  # it is being acquired
        recorded = other.known.size if other.known.size is not None else other.seen_size
        if size is None or recorded is None or size < recorded:
            return False
    elif size != recorded:
        return False
    return _is_same_time(found, other)


def _is_same_time(found: FolderEntry, other: Elsewhere) -> bool:
    written = found.main_mtime
    if other.known.source_mtime is not None and written is not None:
        return abs(other.known.source_mtime - written) <= _SAME_TIME.total_seconds()
    began = other.created_at_epoch
    if abs(found.created_at_epoch - began) <= _SAME_TIME.total_seconds():
        return True
    if written is None:
        return False
    # It was recorded when it began; what stands there was last written when it ended.
    after = written - began
    return -_SAME_TIME.total_seconds() <= after <= _LONGEST_ACQUISITION.total_seconds()
