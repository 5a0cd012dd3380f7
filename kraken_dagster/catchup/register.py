"""Everything that stands on an instrument is registered; what is over is registered as over."""

from dataclasses import dataclass, replace

from kraken_dagster.acquisition.identity import recognised, require_settled
from kraken_dagster.acquisition.registration import as_over, register_new
from kraken_dagster.acquisition.scene import look_around
from kraken_dagster.acquisition.share import partly_unknown, why_blind
from kraken_dagster.acquisition.watch import check_open
from kraken_dagster.catchup.catchup import CatchupOptions
from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.model.errors import FolderMissing
from kraken_dagster.model.files import acquisition
from kraken_dagster.model.files.acquisition import FolderEntry, Watch
from kraken_dagster.model.files.file_ids import flag_of
from kraken_dagster.model.files.folder import cant_know, oldest_first, sort_out
from kraken_dagster.model.files.identity import Identity
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME, elder_names
from kraken_dagster.model.raw_file import (
    OPEN_ACQUISITION,
    InstrumentFileStatus,
    RawFile,
)
from kraken_dagster.runtime.services import Services

_NO_LIMIT_S = 24 * 3600.0


_PATIENCE = 10  # thousands of folders are looked into


@dataclass(frozen=True)
class Found:
    """What stands on the instrument, and what of it was registered just now."""

    in_folder: int
    in_backup_folder: int
    registered: tuple[RawFile, ...]
    still_open: int
    problems: tuple[str, ...] = ()


def register_all(services: Services, instrument_id: str, options: CatchupOptions) -> Found:
    """Registers what stands in the folder and in `Backup/`; what is over is registered as over.

    Raises:
        FolderError: one of the folders can't be looked at.
        StoreUnavailable
    """
    instrument = services.instrument(instrument_id).model_copy(
        update={
            "consider_old_files_acquired": options.consider_old_files_acquired,
            "debug_max_file_age_in_hours": options.debug_max_file_age_in_hours,
        }
    )
    known = require_settled(services, instrument_id)
    if known.path != str(instrument.path):  # before anything in it is taken for this one's
        scene = look_around(services, instrument, instrument_id, patience=_PATIENCE)
        recognised(services, instrument_id, known, scene)
    # What was archived came first: another file of that name in the folder is the later one.
    moved = _register_moved(services, instrument, instrument_id)
    found = _register_folder(services, instrument, known)
    return replace(
        moved,
        in_folder=found.in_folder,
        registered=(*moved.registered, *found.registered),
        still_open=found.still_open,
        problems=(*moved.problems, *found.problems),
    )


def _register_folder(services: Services, instrument: InstrumentEntry, known: Identity) -> Found:
    instrument_id = known.id
    scene = look_around(services, instrument, instrument_id, patience=_PATIENCE)
    scene = recognised(services, instrument_id, known, scene)
    now, seen_now = scene.at, dict.fromkeys(scene.standing, scene.at)

    def settle(raw_file: RawFile, found: FolderEntry) -> RawFile:
        verdict = acquisition.observe(
            Watch.begin(now, main_file_seen=found.main_size_bytes is not None, seen=found),
            found.name,
            vendor=instrument.type,
            folder=scene.standing,
            first_seen=seen_now,
            now=now,
            timing=services.config.timing,
            consider_old=instrument.consider_old_files_acquired,
        )
        return (
            as_over(raw_file, found, now=now, reason=verdict.reason) if verdict.over else raw_file
        )

    watched = services.store.raw_files.in_status(instrument_id, OPEN_ACQUISITION)
    blind = why_blind(services, instrument, instrument_id, scene, watched)
    registered = register_new(
        services, instrument, instrument_id, scene.new, now=now, budget_s=_NO_LIMIT_S, settle=settle
    )
    still_open, _ = check_open(
        services,
        instrument,
        instrument_id,
        scene,
        registered,
        blind=blind is not None,
        budget_s=_NO_LIMIT_S,
    )
    reported = tuple(filter(None, [blind or partly_unknown(scene)]))
    return Found(len(scene.standing), 0, tuple(registered), len(still_open), reported)


def _register_moved(services: Services, instrument: InstrumentEntry, instrument_id: str) -> Found:
    """What was archived, by Kraken or by AlphaKraken, under its raw file id."""
    now = services.now()
    standing, unknown = _moved_aside(services, instrument_id, instrument)
    elders = [name for item in standing for name in elder_names(instrument.type, item)]
    taken = services.store.raw_files.many([*standing, *elders])

    def is_new(name: str) -> bool:
        """A member of what is known is none, though the rest of it was purged or is on its way."""
        return not taken.keys() & {name, *elder_names(instrument.type, name)}

    def settle(raw_file: RawFile, found: FolderEntry) -> RawFile:
        over = as_over(raw_file, found, now=now, reason=f"found in {BACKUP_FOLDER_NAME}/")
        flag = flag_of(found.name)
        changes = {
            "id": found.name,
            "original_name": found.name.removeprefix(flag or ""),
            "collision_flag": flag,
            "instrument_file_status": InstrumentFileStatus.MOVED,
        }
        return over.model_copy(update=changes)

    new = [(found, False) for name, found in standing.items() if is_new(name)]
    registered = register_new(
        services,
        instrument,
        instrument_id,
        oldest_first(new, now=now),
        now=now,
        budget_s=_NO_LIMIT_S,
        settle=settle,
    )
    problems = [_odd(taken[item], instrument_id) for item in standing if item in taken]
    problems += [
        f"{name!r} in {BACKUP_FOLDER_NAME}/ can't be looked at: {why}"
        for name, why in unknown.items()
    ]
    return Found(0, len(standing), tuple(registered), 0, tuple(filter(None, problems)))


def _odd(raw_file: RawFile, instrument_id: str) -> str | None:
    """What is wrong with a file in `Backup/` that MongoDB has under this id."""
    if raw_file.instrument_id != instrument_id:
        reported = f"that id is a file's of {raw_file.instrument_id!r}"
    elif raw_file.instrument_file_status is InstrumentFileStatus.INITIAL and not raw_file.lease:
        reported = "MongoDB has it as not archived"
    else:
        return None
    return f"{raw_file.id!r} in {BACKUP_FOLDER_NAME}/ is left alone: {reported}"


def _moved_aside(
    services: Services, instrument_id: str, instrument: InstrumentEntry
) -> tuple[dict[str, FolderEntry], dict[str, str]]:
    """What stands in `Backup/`, and the names of which nothing else can be known, with why."""
    try:
        listing = services.lister(
            str(services.instrument_folder(instrument_id) / BACKUP_FOLDER_NAME),
            main_files=services.rules(instrument_id).main_files,
            timeout_s=instrument.folder_timeout_s * _PATIENCE,
        )
    except FolderMissing:
        return {}, {}
    standing, _ = sort_out(instrument.type, listing.entries)
    return standing, cant_know(instrument.type, listing.entries)
