"""How full the disks are: the backup store's and the output's are looked at here, the instruments'
by their watchers. What is found is in `kraken_status`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from kraken_dagster.domain.errors import FolderError
from kraken_dagster.steps.world import World

FILE_SYSTEMS = ("backup", "output")
_LOOK_EVERY = timedelta(seconds=60)
_SHOW_EVERY = timedelta(minutes=15)
_TIMEOUT_S = 5.0  # a tick of a sensor looks at both


@dataclass(frozen=True)
class Disk:
    """What is known of one disk; `name` is that of a file system or an instrument. In GB."""

    name: str
    free_gb: float
    total_gb: float | None
    seen_at: datetime


def look_at_file_systems(world: World) -> list[str]:
    """Looks at those whose time has come; returns in words what is wrong with them."""
    now, wrong = world.now(), []
    for name in FILE_SYSTEMS:
        known = world.store.board.file_system(name)
        if known is not None and now - known["updated_at_"] < _LOOK_EVERY:
            continue
        root: Path = getattr(world.config.locations, name).path
        try:
            found = world.lister(str(root), main_file=None, timeout_s=_TIMEOUT_S)
        except FolderError as error:
            wrong.append(f"locations.{name}: {error}")
            world.store.board.file_system_unwell(name, details=str(error), now=now)
        else:
            world.store.board.file_system_well(
                name, free_bytes=found.free_bytes, total_bytes=found.total_bytes, now=now
            )
    return wrong


def to_show(world: World) -> list[Disk]:
    """The disks whose figures are to be shown anew; each now and then, whoever asks."""
    now = world.now()
    found = []
    for name in (*FILE_SYSTEMS, *world.config.instruments):
        board = world.store.board
        known = board.file_system(name) if name in FILE_SYSTEMS else board.get(name)
        if known is None or known.get("free_space_gb") is None or known.get("status") != "ok":
            continue
        if world.store.board.may_show(known, every=_SHOW_EVERY, now=now):
            free, total = float(known["free_space_gb"]), known.get("total_space_gb")
            found.append(Disk(name, free, total, known["updated_at_"]))
    return found
