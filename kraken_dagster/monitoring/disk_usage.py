"""How full the disks are: the backup store's and the output's are looked at here, the instruments'
by their watchers. What is found is in `kraken_status`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.errors import FolderError
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import why_away

FILE_SYSTEMS = ("backup", "output")
AT = " at "  # what follows is the code location that has looked
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


def record_name(config: KrakenConfig, name: str) -> str:
    """Under which what this code location finds is kept: of several, one finds for all, and the
    others each for themselves, as a mount may be missing on one host only."""
    return name if config.owns_shared else f"{name}{AT}{config.location}"


def measure_file_systems(services: Services) -> list[str]:
    """Looks at those whose time has come; returns in words what is wrong with them."""
    now, wrong = services.now(), []
    for name in FILE_SYSTEMS:
        record = record_name(services.config, name)
        known = services.store.health.file_system(record)
        seen_at = None if known is None else known.get("updated_at_")
        if isinstance(seen_at, datetime) and now - seen_at < _LOOK_EVERY:
            continue
        root: Path = getattr(services.config.locations, name).path
        # Asked first, as the lister's errors speak of instruments.
        if (away := why_away(services, Role(name))) is not None:
            wrong.append(f"locations.{name}: {away}")
            services.store.health.file_system_unwell(record, details=away, now=now)
            continue
        try:
            found = services.lister(str(root), timeout_s=_TIMEOUT_S)
        except FolderError as error:
            wrong.append(f"locations.{name}: {error}")
            services.store.health.file_system_unwell(record, details=str(error), now=now)
            continue
        services.store.health.file_system_well(
            record, free_bytes=found.free_bytes, total_bytes=found.total_bytes, now=now
        )
    return wrong


def shown(config: KrakenConfig) -> tuple[str, ...]:
    """The disks that this code location shows: each has one owner."""
    return (*(FILE_SYSTEMS if config.owns_shared else ()), *config.instruments)


def to_show(services: Services) -> list[Disk]:
    """The disks whose metrics are to be shown anew; each now and then, whoever asks."""
    now = services.now()
    found = []
    for name in shown(services.config):
        health = services.store.health
        known = health.file_system(name) if name in FILE_SYSTEMS else health.get(name)
        if known is None:
            continue
        disk = _disk(name, known)
        if disk is not None and health.may_show(known, every=_SHOW_EVERY, now=now):
            found.append(disk)
    return found


def _disk(name: str, known: Mapping[str, Any]) -> Disk | None:
    """None where there are no metrics, or none that Kraken writes."""
    free, total = known.get("free_space_gb"), known.get("total_space_gb")
    seen_at = known.get("updated_at_")
    if known.get("status") != "ok" or not isinstance(seen_at, datetime):
        return None
    if not isinstance(free, int | float) or not isinstance(total, int | float | None):
        return None
    return Disk(name, float(free), total, seen_at)
