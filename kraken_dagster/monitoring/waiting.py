"""What files wait for: what the laboratory is like right now, put to `waiting_rules`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from kraken_dagster.model.files.dates import local
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.monitoring.being_written import copies_wait_for
from kraken_dagster.monitoring.waiting_rules import Around, waits_for
from kraken_dagster.runtime.services import Services

_UNWELL = "error"


def what_they_wait_for(services: Services, files: Iterable[RawFile]) -> dict[str, str | None]:
    """By id, in words; None where nothing happens to a file any more. Nothing is looked at but
    MongoDB.

    Raises:
        StoreUnavailable
    """
    files, now = list(files), services.now()
    queued = any(item.status is Status.QUEUED_FOR_QUANTING for item in files)
    shared = _shared(services, now, with_slots=queued)
    around = {
        name: _of_instrument(services, name, shared) for name in {it.instrument_id for it in files}
    }
    return {
        item.id: waits_for(
            item,
            now=now,
            instrument=services.instrument(item.instrument_id),
            timing=services.config.timing,
            around=around[item.instrument_id],
        )
        for item in files
    }


def _shared(services: Services, now: datetime, *, with_slots: bool) -> Around:
    health = services.store.health
    engines = {name: health.engine(name) or {} for name in services.config.engines}
    slots = {
        name: (sum(job.is_open for job in services.store.jobs.uncollected(name)), entry.slots)
        for name, entry in services.config.engines.items()
        if with_slots
    }
    return Around(
        backup=_refusal("the backup store", health.file_system("backup")),
        output=_refusal("the output", health.file_system("output")),
        engines={
            name: f"the engine {name!r} is asked again at {local(known['ask_again_at'], now=now)}: "
            f"{known.get('status_details')}"
            for name, known in engines.items()
            if isinstance(known.get("ask_again_at"), datetime) and known["ask_again_at"] > now
        },
        slots=slots,
    )


def _of_instrument(services: Services, instrument_id: str, shared: Around) -> Around:
    known = services.store.health.get(instrument_id) or {}
    refusal = str(known.get("status_details")) if known.get("status") == _UNWELL else None
    behind = copies_wait_for(services, instrument_id)
    return replace(shared, folder=refusal, behind=behind)


def _refusal(what: str, known: Mapping[str, Any] | None) -> str | None:
    if known is None or known.get("status") != _UNWELL:
        return None
    return f"{what} is away, and is looked at again by itself: {known.get('status_details')}"
