"""A file on the instrument under whose name another acquisition stands by now.

Its backup is that of what stood there before. What stands there now is registered as an acquisition
of its own, if a look hasn't done that yet, so that both are kept.
"""

from kraken_dagster.acquisition.registration import register_new
from kraken_dagster.acquisition.scene import list_entries
from kraken_dagster.model.errors import ContentChanged, NameTaken
from kraken_dagster.model.files.acquisition import FolderEntry
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.raw_file import InstrumentFileStatus
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services

_BUDGET_S = 60.0


def register_replacement(
    services: Services, held: Held, error: ContentChanged | NameTaken
) -> str | None:
    """What became of it, in words; None where nothing stands there that can be registered.

    Raises:
        FolderError: it can't be looked at now.
        StatusConflict, LeaseLost
    """
    raw_file = held.raw_file
    instrument = services.instrument(raw_file.instrument_id)
    _, standing, _ = list_entries(services, instrument, raw_file.instrument_id)
    found = standing.get(raw_file.original_name)
    if found is None or (isinstance(error, NameTaken) and not _is_another(services, held, found)):
        return None
    held.require()
    now = services.now()
    later = _later_of_that_name(services, held)
    if later is None:
        new = [(found, True)]
        registered = register_new(
            services, instrument, raw_file.instrument_id, new, now=now, budget_s=_BUDGET_S
        )
        if not registered:
            return None
        later = registered[0].id
    reason = f"what stands there is {later!a} now: {error.what.lower()}"
    reason += f" (expected {error.expected}, found {error.found})"
    services.store.retention.set_instrument_file(
        raw_file,
        InstrumentFileStatus.NOT_APPLICABLE,
        now=now,
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={"gone_at": now},
    )
    return reason


def _is_another(services: Services, held: Held, found: FolderEntry) -> bool:
    """As for a look: its main file is there, with another size than is recorded of this one."""
    rules, size = services.rules(held.raw_file.instrument_id), found.main_size_bytes
    known = KnownFile.of(held.raw_file).main_file_size(rules)
    return None not in (size, known) and size != known


def _later_of_that_name(services: Services, held: Held) -> str | None:
    """One that a run registered which died before it could say so, or that a look has found."""
    raw_file = held.raw_file
    name = raw_file.original_name
    there = [
        other
        for other in services.store.raw_files.known(raw_file.instrument_id, [name]).get(name, ())
        if other.created_at_ > raw_file.created_at_
        and other.instrument_file_status is InstrumentFileStatus.INITIAL
    ]
    return max(there, key=lambda other: other.created_at_).id if there else None
