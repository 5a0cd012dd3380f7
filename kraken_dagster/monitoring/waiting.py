"""What files wait for: what the laboratory is like right now, put to `waiting_rules`."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from kraken_dagster.model.files.dates import local
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.monitoring.waiting_rules import Around, waits_for
from kraken_dagster.runtime.services import World

_UNWELL = "error"


def what_they_wait_for(world: World, files: Iterable[RawFile]) -> dict[str, str | None]:
    """By id, in words; None where nothing happens to a file any more. Nothing is looked at but
    MongoDB.

    Raises:
        StoreUnavailable
    """
    files, now = list(files), world.now()
    queued = any(item.status is Status.QUEUED_FOR_QUANTING for item in files)
    shared = _shared(world, now, with_slots=queued)
    around = {
        name: _of_instrument(world, name, shared) for name in {it.instrument_id for it in files}
    }
    return {
        item.id: waits_for(
            item,
            now=now,
            instrument=world.instrument(item.instrument_id),
            timing=world.config.timing,
            around=around[item.instrument_id],
        )
        for item in files
    }


def _shared(world: World, now: datetime, *, with_slots: bool) -> Around:
    board = world.store.board
    engines = {name: board.engine(name) or {} for name in world.config.engines}
    slots = {
        name: (sum(job.is_open for job in world.store.jobs.uncollected(name)), entry.slots)
        for name, entry in world.config.engines.items()
        if with_slots
    }
    return Around(
        backup=_trouble("the backup store", board.file_system("backup")),
        output=_trouble("the output", board.file_system("output")),
        engines={
            name: f"the engine {name!r} is asked again at {local(known['ask_again_at'], now=now)}: "
            f"{known.get('status_details')}"
            for name, known in engines.items()
            if isinstance(known.get("ask_again_at"), datetime) and known["ask_again_at"] > now
        },
        slots=slots,
    )


def _of_instrument(world: World, instrument_id: str, shared: Around) -> Around:
    known = world.store.board.get(instrument_id) or {}
    trouble = str(known.get("status_details")) if known.get("status") == _UNWELL else None
    return Around(trouble, shared.backup, shared.output, shared.engines, shared.slots)


def _trouble(what: str, known: Mapping[str, Any] | None) -> str | None:
    if known is None or known.get("status") != _UNWELL:
        return None
    return f"{what} is away, and is looked at again by itself: {known.get('status_details')}"
