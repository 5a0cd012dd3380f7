"""What of a raw file's record tells it apart from another file of its name."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Self

from kraken_dagster.model.files.vendors import VendorRules
from kraken_dagster.model.raw_file import FINAL, InstrumentFileStatus, RawFile, Status


class KnownFile(NamedTuple):
    """What of a raw file's record tells it apart from another of its name.

    As light as can be: a watcher makes one of every file in its folder at every tick.
    """

    id: str
    status: Status
    created_at_: datetime
    instrument_file_status: InstrumentFileStatus | None
    is_gone: bool
    size: int | None
    sizes: Mapping[str, int | None]  # of the members, by path
    is_watched: bool  # the monitor's state, or how the acquisition ended, is recorded
    ended_size: int | None
    source_mtime: float | None = None  # of the main file when it was backed up
    is_to_compare: bool = False

    @classmethod
    def of(cls, raw_file: RawFile) -> Self:
        return cls(
            raw_file.id,
            raw_file.status,
            raw_file.created_at_,
            raw_file.instrument_file_status,
            raw_file.gone_at is not None,
            raw_file.size,
            {path: fact.size for path, fact in raw_file.file_info.items()},
            bool(raw_file.acquisition),
            raw_file.acquisition.get("ended_size"),
            None if raw_file.source_look is None else raw_file.source_look.mtime,
            raw_file.source_differs_at is not None,
        )

    def main_file_size(self, rules: VendorRules) -> int | None:
        """Recorded size of the main file in bytes; -1 where there is none (any more).

        None while the file is being handled and nothing is known of its size yet.
        """
        if self.instrument_file_status in _NO_LONGER_THERE or self.is_gone:
            return -1
        main = rules.main_file(self.id)
        if main in self.sizes:
            return self.sizes[main]
        below = {_from(self.id, path): path for path in self.sizes}
        if (found := rules.main_file_among(self.id, below)) is not None:
            return self.sizes[below[found]]
        if not self.is_watched:  # recorded by another program, which kept less
            return None if rules.is_folder else self.size
        if self.status in FINAL and self.status is not Status.ERROR:
            return -1 if self.ended_size is None else self.ended_size
        return None


def _from(raw_file_id: str, path: str) -> str:
    """A member's path without the folders that other programs put in front of the raw file."""
    cut = path.find(f"/{raw_file_id}")
    return path if cut < 0 or path.startswith(raw_file_id) else path[cut + 1 :]


_NO_LONGER_THERE = frozenset(
    {InstrumentFileStatus.MOVED, InstrumentFileStatus.PURGED, InstrumentFileStatus.RENAMED}
)
