"""What keeps files from being archived or purged, as far as it still does.

What is recorded may be of a day on which something else was configured, or of a file that isn't
due any more; then nothing looks at it again, and nobody needs to be told.
"""

from collections.abc import Iterator
from typing import NamedTuple

from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.retention.refusal import Refusal
from kraken_dagster.model.retention.rules import why_not_move
from kraken_dagster.monitoring.waiting_rules import unhindered
from kraken_dagster.retention.archiving.archive import ArchiveOptions
from kraken_dagster.retention.purge_plan import PurgeOptions
from kraken_dagster.runtime.services import Services


class InTheWay(NamedTuple):
    raw_file: RawFile
    move: Refusal | None
    purge: Refusal | None


def in_the_way(services: Services, instrument_id: str) -> list[InTheWay]:
    """The files of an instrument that something stands in the way of, the longest first."""
    return [
        found
        for item in services.store.retention.troubled(instrument_id)
        if (found := of_file(services, item)) is not None
    ]


def of_file(services: Services, raw_file: RawFile) -> InTheWay | None:
    move, purge = (
        raw_file.archive if _is_to_be_moved(services, raw_file) else None,
        raw_file.purge if _is_to_be_purged(services, raw_file) else None,
    )
    return InTheWay(raw_file, move, purge) if move or purge else None


def _is_to_be_moved(services: Services, raw_file: RawFile) -> bool:
    """Whether the archiver would take it up, but for this; or a comparison is asked for."""
    options = ArchiveOptions.of(services.instrument(raw_file.instrument_id))
    if options.off and raw_file.source_differs_at is None:
        return False
    reason = why_not_move(unhindered(raw_file), now=services.now(), delay_m=0, failed_too=True)
    return reason is None and (options.move_failed or raw_file.is_backed_up)


def _is_to_be_purged(services: Services, raw_file: RawFile) -> bool:
    options = PurgeOptions.of(services.instrument(raw_file.instrument_id))
    if options.off:
        return False
    return options.why_not(unhindered(raw_file), now=services.now()) is None


def lines(found: InTheWay) -> Iterator[str]:
    """One for each thing that it can't."""
    for what, refusal in (("archived", found.move), ("purged", found.purge)):
        if refusal is not None:
            yield f"{found.raw_file.id!r} can't be {what}, {refusal.in_words()}"
