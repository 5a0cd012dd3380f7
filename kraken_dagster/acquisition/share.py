"""Whether a look saw the instrument's own disk: what isn't there is missing only where it did.

Nothing is written on instruments, so there is no marker to look for. A folder is the right one
where something stands that was recorded before it became doubtful, in it or in `Backup/`, or where
an acquisition that was watched grows: that is the instrument at work.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from kraken_dagster.acquisition.scene import Scene
from kraken_dagster.acquisition.wrong_type import makeup
from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.model.errors import FolderError
from kraken_dagster.model.files.dates import clock_difference
from kraken_dagster.model.files.folder import (
    Kind,
    LeftAlone,
    Listing,
    left_alone_in_words,
    sort_out,
)
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME, corrupted_name
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.runtime.services import Services

_NEXT = "check the mount. Nothing is changed meanwhile, and it is looked at again by itself."


def why_blind(
    services: Services,
    instrument: InstrumentEntry,
    instrument_id: str,
    scene: Scene,
    watched: Sequence[RawFile],
) -> str | None:
    """Why what isn't in the folder may be there all the same; None where it is missing.

    Args:
        watched: the acquisitions that are open.
    """
    health = services.store.health.get(instrument_id) or {}
    names = {entry.name for entry in scene.listing.entries}
    missing = [item for item in watched if not _stands(instrument, item, names)]
    if names and not missing:
        return None
    if _stands_something_known(scene, watched, names, since=health.get("blind_since")):
        return None
    if any(_stands(instrument, item, names - {item.original_name}) for item in watched):
        return None  # the instrument's own software has renamed one
    if _is_known_in_backup(services, instrument, instrument_id, scene):
        return None
    had_any = health.get("had_entries") and services.store.bulk.expects_any(instrument_id)
    if not missing and not had_any:
        return None  # it has never had any, or what it had is gone by our own hand
    path = services.instrument_folder(instrument_id)
    if not names:
        return f"The instrument's folder is empty, and files are recorded there: {path}; {_NEXT}"
    first = missing[0].original_name
    return (
        f"No recorded file stands in the instrument's folder, not even {first!a}, so that it may "
        f"be another disk: {path}; {_NEXT}"
    )


def _stands(instrument: InstrumentEntry, raw_file: RawFile, names: set[str]) -> bool:
    renamed = corrupted_name(instrument.type, raw_file.original_name)
    return raw_file.original_name in names or renamed in names


def _stands_something_known(
    scene: Scene, watched: Sequence[RawFile], names: set[str], *, since: object
) -> bool:
    recorded = [item.created_at_ for items in scene.known.values() for item in items]
    recorded += [item.created_at_ for item in watched if item.original_name in names]
    if any(not isinstance(since, datetime) or at < since for at in recorded):
        return True
    return any(item.acquisition.get("grown") for item in watched if item.original_name in names)


def _is_known_in_backup(
    services: Services, instrument: InstrumentEntry, instrument_id: str, scene: Scene
) -> bool:
    aside = {entry.kind for entry in scene.listing.entries if entry.name == BACKUP_FOLDER_NAME}
    if Kind.FOLDER not in aside:
        return False
    path = services.instrument_folder(instrument_id) / BACKUP_FOLDER_NAME
    try:
        listing = services.lister(str(path), timeout_s=instrument.folder_timeout_s)
    except FolderError:
        return False
    standing, _ = sort_out(instrument.type, listing.entries)
    return services.store.bulk.knows_any(instrument_id, sorted(standing))


def partly_unknown(scene: Scene) -> str | None:
    """What is wrong with a share that shows names and refuses to tell more of some of them."""
    if not scene.unknown:
        return None
    name, reported = min(scene.unknown.items())
    return (
        f"{len(scene.unknown)} acquisitions in the instrument's folder can't be looked at, "
        f"{name!a}: {reported}; check that the instrument's PC and its share are up, and the "
        "rights of Kraken's user. Nothing of them is changed, and they are looked at again by "
        "themselves."
    )


def clock_differs(scene: Scene, watched: Sequence[RawFile]) -> float | None:
    """By how many seconds the instrument's clock is ahead of ours, or behind (negative)."""
    entries = {entry.name: entry for entry in scene.listing.entries if entry.problem is None}
    newest = [entries[name].changed_at for name in scene.standing if name in entries]
    grew = [
        entries[item.original_name].changed_at
        for item in watched
        if item.original_name in entries and _has_grown(item, scene)
    ]
    return clock_difference(
        newest=max(newest, default=None), grew=max(grew, default=None), now=scene.at
    )


def _has_grown(raw_file: RawFile, scene: Scene) -> bool:
    before, seen = raw_file.acquisition.get("seen_size"), scene.standing.get(raw_file.original_name)
    return before is not None and seen is not None and (seen.main_size_bytes or 0) > before


@dataclass(frozen=True)
class Mixture:
    """What is in a folder that isn't the instrument's; `is_wrong`: its `type` or `path` must be."""

    reported: str
    is_wrong: bool


def mixture(
    services: Services,
    instrument_id: str,
    listing: Listing,
    own: Collection[str],
    left_alone: Sequence[LeftAlone],
) -> Mixture | None:
    """None where nothing stands there but the instrument's own, or nothing at all.

    Where an acquisition of this type was ever recorded the type is right, and all may be moved
    aside.
    """
    instrument = services.instrument(instrument_id)
    found = makeup(instrument.type, listing.entries, own)
    reported = found.in_words()
    if reported is None:
        return None
    if found.own or services.store.bulk.has_had_any(instrument_id, found.extensions):
        return Mixture(reported, False) if found.others else None
    if found.is_unknown and not left_alone:
        return Mixture(reported, False)
    check = f"check `type: {instrument.type}` and `path` of {instrument_id} in instruments.yaml"
    folder = services.instrument_folder(instrument_id)
    alone = left_alone_in_words(left_alone)
    return Mixture(f"{reported}: {check}. Nothing is backed up meanwhile: {folder}{alone}", True)
