"""Whether an instrument writes an acquisition right now, by what MongoDB knows of its last look."""

from datetime import timedelta

from kraken_dagster.config.copying import WhileAcquiring
from kraken_dagster.model.files.being_written import (
    BeingWritten,
    Waiting,
    being_written,
    why_not_copied,
)
from kraken_dagster.model.raw_file import OPEN_ACQUISITION, RawFile
from kraken_dagster.runtime.services import Services


def written_now(services: Services, instrument_id: str) -> BeingWritten | None:
    """
    Raises:
        StoreUnavailable
    """
    watched = services.store.raw_files.in_status(instrument_id, OPEN_ACQUISITION)
    return being_written(watched, now=services.now(), timing=services.config.timing)


def copies_wait_for(services: Services, instrument_id: str) -> BeingWritten | None:
    """The acquisition during which no copy is begun; None where copies don't wait for any, and
    where the instrument's disk is short of space: what has no backup can't be purged.

    Raises:
        StoreUnavailable
    """
    entry = services.instrument(instrument_id)
    if entry.copy_while_acquiring is not WhileAcquiring.NO:
        return None
    free = (services.store.health.get(instrument_id) or {}).get("free_space_gb")
    if free is not None and free < entry.min_free_space_gb:
        return None
    return written_now(services, instrument_id)


def why_copied_later(
    services: Services, raw_file: RawFile, behind: BeingWritten | None
) -> Waiting | None:
    """
    Args:
        behind: what `copies_wait_for` has found of the file's instrument.
    """
    if raw_file.is_backed_up:
        return None
    hours = services.instrument(raw_file.instrument_id).copy_at_the_latest_after_h
    return why_not_copied(
        raw_file, behind, at_the_latest=timedelta(hours=hours), now=services.now()
    )
