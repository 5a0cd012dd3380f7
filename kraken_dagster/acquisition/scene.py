"""What one look at an instrument's folder shows, put beside what MongoDB knows.

The folder and MongoDB are read at different moments, and runs move files in between. So what is
concluded from both is looked at once more before anything is done about it.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.model.errors import StatusConflict
from kraken_dagster.model.files.acquisition import FolderEntry
from kraken_dagster.model.files.folder import (
    LeftAlone,
    Listing,
    cant_know,
    new_acquisitions,
    oldest_first,
    sort_out,
)
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.files.vendors import elder_names, younger_names
from kraken_dagster.model.raw_file import OPEN_ACQUISITION, InstrumentFileStatus, RawFile, Status
from kraken_dagster.runtime.services import Services


@dataclass(frozen=True)
class Scene:
    """A folder as it stood at `at`.

    Args:
        standing: the acquisitions in it, by name.
        new: those to be registered, oldest first, each with whether its name is known already.
        unknown: names of which nothing else could be learned, and why.
    """

    at: datetime
    listing: Listing
    standing: dict[str, FolderEntry]
    left_alone: list[LeftAlone]
    known: dict[str, list[KnownFile]]
    new: list[tuple[FolderEntry, bool]]
    unknown: dict[str, str]


def look_around(
    services: Services, instrument: InstrumentEntry, instrument_id: str, *, patience: float = 1
) -> Scene:
    """Looks at the folder, and finds out what in it is new; registers nothing.

    Args:
        patience: how many times as long as usual the folder may take.

    Raises:
        FolderError
        StoreUnavailable
    """
    scene = glance(services, instrument, instrument_id, patience=patience)
    if len(services.rules(instrument_id).extensions) > 1:
        return _without_members(services, instrument, instrument_id, scene)
    return scene


def glance(
    services: Services, instrument: InstrumentEntry, instrument_id: str, *, patience: float = 1
) -> Scene:
    """The same, and nothing at all is changed.

    Raises:
        FolderError
        StoreUnavailable
    """
    now = services.now()
    listing, standing, left_alone = list_entries(services, instrument, instrument_id, patience)
    known = services.store.raw_files.known(instrument_id, standing)
    new = new_acquisitions(instrument.type, standing, known, now=now)
    if any(_is_doubtful(instrument, item) for item in new):
        _, later, _ = list_entries(services, instrument, instrument_id, patience)
        new = _confirmed(instrument, new, later, known, now)
    unknown = cant_know(instrument.type, listing.entries)
    return Scene(now, listing, standing, left_alone, known, new, unknown)


def list_entries(
    services: Services, instrument: InstrumentEntry, instrument_id: str, patience: float = 1
) -> tuple[Listing, dict[str, FolderEntry], list[LeftAlone]]:
    """One listing of the instrument's folder, sorted out.

    Raises:
        FolderError
    """
    listing = services.lister(
        str(services.instrument_folder(instrument_id)),
        main_files=services.rules(instrument_id).main_files,
        timeout_s=instrument.folder_timeout_s * patience,
    )
    return listing, *sort_out(instrument.type, listing.entries)


def _is_doubtful(instrument: InstrumentEntry, item: tuple[FolderEntry, bool]) -> bool:
    """Whether the name is known, or one that an acquisition has only for want of another."""
    return item[1] or bool(elder_names(instrument.type, item[0].name))


def _confirmed(
    instrument: InstrumentEntry,
    new: list[tuple[FolderEntry, bool]],
    later: dict[str, FolderEntry],
    known: dict[str, list[KnownFile]],
    now: datetime,
) -> list[tuple[FolderEntry, bool]]:
    """Doubtful ones only if they still stand there, after MongoDB was read.

    One that was archived between the listing and that reading is no other acquisition, nor is
    one that was completed and recorded between them, nor a `.wiff2` that has got its `.wiff`.
    """
    names = {item[0].name for item in new if _is_doubtful(instrument, item)}
    still = {name: found for name, found in later.items() if name in names}
    again = new_acquisitions(instrument.type, still, known, now=now)
    return oldest_first([item for item in new if item[0].name not in names] + again, now=now)


def _without_members(
    services: Services, instrument: InstrumentEntry, instrument_id: str, scene: Scene
) -> Scene:
    """One acquisition may go under two names, of which the later comes to stand there later.

    A `.wiff2` that was registered while there was no `.wiff` is given up for that, unless it is
    being backed up already: then the `.wiff` is a member of it. And a `.wiff2` of which the
    `.wiff` is recorded, and is missing, is still a member of that.
    """
    members: dict[str, str] = {}
    for found, is_known in scene.new:
        if is_known:
            continue
        younger = _on_instrument(
            services, instrument_id, younger_names(instrument.type, found.name)
        )
        for item in younger:
            if item.status in OPEN_ACQUISITION:
                _give_up(services, item, found.name)
            elif item.status is not Status.IGNORED:
                members[found.name] = item.original_name
        elder = _on_instrument(services, instrument_id, elder_names(instrument.type, found.name))
        members.update((found.name, item.original_name) for item in elder[:1])
    left = [
        LeftAlone(name, f"it belongs to {owner!r}, which is recorded already")
        for name, owner in members.items()
        if owner not in scene.standing
    ]
    return replace(
        scene,
        new=[item for item in scene.new if item[0].name not in members],
        left_alone=[*scene.left_alone, *left],
    )


def _on_instrument(services: Services, instrument_id: str, names: list[str]) -> list[RawFile]:
    """The records of these names that still are where the instrument left them."""
    known = services.store.raw_files.known(instrument_id, names) if names else {}
    ids = [
        item.id
        for records in known.values()
        for item in records
        if item.instrument_file_status is InstrumentFileStatus.INITIAL and not item.is_gone
    ]
    return list(services.store.raw_files.many(ids).values())


def _give_up(services: Services, raw_file: RawFile, name: str) -> None:
    """Ends the watching of what turned out to be a member of another acquisition."""
    try:
        services.store.raw_files.transition(
            raw_file,
            Status.IGNORED,
            now=services.now(),
            reason=f"a member of {name!r}, which came later and is registered under that name",
            fields={"instrument_file_status": InstrumentFileStatus.NOT_APPLICABLE},
        )
    except StatusConflict:
        return  # another watcher was quicker
