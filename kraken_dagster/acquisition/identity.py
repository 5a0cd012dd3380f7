"""Whether an instrument is what it was: its id, type and folder, by what is recorded of it.

What leaves the configuration, or changes in it, never has files registered a second time: a person
says what it means, and nothing is scanned until then.
"""

import socket
from collections.abc import Collection, Sequence
from dataclasses import replace

from kraken_dagster.acquisition.scene import Scene
from kraken_dagster.model.errors import InstrumentInDoubt
from kraken_dagster.model.files.acquisition import FolderEntry
from kraken_dagster.model.files.folder import LeftAlone
from kraken_dagster.model.files.identity import (
    Claim,
    Elsewhere,
    Identity,
    claims,
    compared,
    is_anothers,
    is_same_file,
)
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import Instance

_WAITS = "nothing there is scanned or registered until then"


def require_settled(services: Services, instrument_id: str) -> Identity:
    """What is recorded of the instrument, which is still of that type, and has this id.

    Raises:
        InstrumentInDoubt: a person decides first.
        StoreUnavailable
    """
    known = services.store.instruments.get(instrument_id) or Identity(id=instrument_id)
    if known.renaming_from is not None:
        raise InstrumentInDoubt(
            "A rename of an instrument was begun and has not ended",
            file=instrument_id,
            found=f"{known.renaming_from} is becoming {instrument_id}",
            next_step=f"`kraken instrument rename {known.renaming_from} {instrument_id}` ends it; "
            f"{_WAITS}.",
        )
    if known.retired_at is not None:
        raise InstrumentInDoubt(
            "The instrument was retired, and is in instruments.yaml",
            file=instrument_id,
            found=f"retired on {known.retired_at:%Y-%m-%d %H:%M} UTC by {known.retired_by}",
            next_step=f"`kraken instrument accept {instrument_id}` if it is in use again, "
            f"else take it out of instruments.yaml; {_WAITS}.",
        )
    kind = services.instrument(instrument_id).type.value
    changed = known.type not in (None, kind) and not _is_accepted(services, known)
    if changed and services.store.instruments.has_files(instrument_id):
        raise _changed_type(known, kind)
    return known


def _changed_type(known: Identity, kind: str) -> InstrumentInDoubt:
    return InstrumentInDoubt(
        "The instrument's `type` was changed",
        file=known.id,
        expected=f"{known.type}, as its recorded files are",
        found=kind,
        next_step="set it back; another instrument gets an id of its own. If the type was wrong, "
        f"`kraken instrument accept {known.id}`: files of {kind} are looked for from then on, and "
        f"what is recorded so far stays; {_WAITS}.",
    )


def _is_accepted(services: Services, known: Identity) -> bool:
    return known.accepted == identity_of(services, known.id)


def identity_of(services: Services, instrument_id: str) -> dict[str, str]:
    """The type and the folder that the configuration has."""
    kind = services.instrument(instrument_id).type.value
    return {"type": kind, "path": str(services.instrument_folder(instrument_id))}


def recognised(
    services: Services, instrument_id: str, known: Identity, scene: Scene, *, record: bool = True
) -> Scene:
    """The scene, without what a retired instrument has recorded of it, once its folder is known to
    be this instrument's; where that is now is recorded then.

    Raises:
        InstrumentInDoubt: the files are another instrument's, or were looked for elsewhere.
        StoreUnavailable
    """
    ours = identity_of(services, instrument_id)
    is_accepted = _is_accepted(services, known)
    moved = known.path not in (None, ours["path"]) and not is_accepted
    scene = _without_anothers(services, instrument_id, scene, moved=moved, is_accepted=is_accepted)
    if moved and not _stands_there(services, instrument_id, scene):
        raise _changed_path(known, ours["path"])
    is_news = ours != {"type": known.type, "path": known.path} or known.accepted is not None
    if record and is_news:
        services.store.instruments.set(
            instrument_id, **ours, seen_at=services.now(), accepted=None, renamed_to=None
        )
    return scene


def _stands_there(services: Services, instrument_id: str, scene: Scene) -> bool:
    """Whether at least half of what stands in a new place is known, or nothing is expected."""
    if scene.standing and 2 * len(scene.known) >= len(scene.standing):
        return True
    return not services.store.bulk.expects_any(instrument_id)


def _changed_path(known: Identity, path: str) -> InstrumentInDoubt:
    return InstrumentInDoubt(
        "The instrument's `path` was changed, and its recorded files don't stand there",
        file=known.id,
        expected=f"the files that it had in {known.path}",
        found=path,
        next_step="set it back or mount the right disk. If its files are gone or stay behind, "
        f"`kraken instrument accept {known.id}`: those without a backup count as missing, and new "
        f"ones are looked for in the new folder; {_WAITS}.",
    )


def _without_anothers(
    services: Services, instrument_id: str, scene: Scene, *, moved: bool, is_accepted: bool
) -> Scene:
    new = [item for item, is_known in scene.new if not is_known]
    if not new:
        return scene
    rules, asked = services.rules(instrument_id), compared(new)
    elsewhere = _elsewhere(services, instrument_id, asked)
    found = claims(rules, asked, elsewhere, standing=len(scene.standing))
    if not found:
        return scene
    identities = services.store.instruments.all()
    served = served_ids(services, besides=_own_instances(services))
    path = identity_of(services, instrument_id)["path"]
    retired = {item.id for item in identities.values() if item.retired_at is not None}
    for claim in found:
        other = identities.get(claim.instrument_id)
        anothers = is_anothers(
            claim,
            asked=len(asked),
            new=len(new),
            served=claim.instrument_id in served,
            same_folder=other is not None and other.path == path,
            moved=moved,
        )
        if anothers and not is_accepted and claim.instrument_id not in retired:
            raise _in_doubt(instrument_id, path, claim, served)
    gone = retired & {claim.instrument_id for claim in found}
    return _without_retired(services, instrument_id, scene, gone) if gone else scene


def _elsewhere(
    services: Services, instrument_id: str, items: Sequence[FolderEntry]
) -> dict[str, Elsewhere]:
    return services.store.instruments.elsewhere(instrument_id, [item.name for item in items])


def served_ids(services: Services, *, besides: Collection[str] = ()) -> set[str]:
    """The instruments that are configured here, or that another host serves right now.

    Args:
        besides: the ids of instances that do not count.
    """
    living: list[Instance] = services.store.instances.all_living(now=services.now())
    others = [item for item in living if item.id not in besides]
    return {*services.config.all_instruments, *(name for it in others for name in it.instruments)}


def _own_instances(services: Services) -> set[str]:
    """What they say to serve may be older than the configuration that is looked with."""
    config = services.config
    host = Instance.name(socket.gethostname(), str(config.home))
    return {host, Instance.location_name(config.location)}


def _in_doubt(instrument_id: str, path: str, claim: Claim, served: set[str]) -> InstrumentInDoubt:
    other = claim.instrument_id
    if other in served:
        what = "is in instruments.yaml with another folder, or on another host"
        next_step = (
            "correct `path`. If the two were swapped, rename by way of a third id: "
            f"`kraken instrument rename {other} {other}_before`, then {instrument_id} to {other}, "
            f"then {other}_before to {instrument_id}"
        )
    else:
        what = "is not in instruments.yaml"
        next_step = (
            f"if it has got a new name, `kraken instrument rename {other} {instrument_id}`; if it "
            f"is out of use and this is another, `kraken instrument retire {other}`"
        )
    return InstrumentInDoubt(
        "The files in the folder are recorded as another instrument's",
        file=path,
        expected=f"files of {instrument_id}",
        found=f"{claim.example!a} and others by name, size and time, of {other}, which {what}",
        next_step=f"{next_step}; {_WAITS}.",
    )


def _without_retired(
    services: Services, instrument_id: str, scene: Scene, retired: set[str]
) -> Scene:
    """What a retired instrument has backed up is not backed up again under another id."""
    new = [item for item, _ in scene.new]
    rules, elsewhere = services.rules(instrument_id), _elsewhere(services, instrument_id, new)
    have_backup = services.store.raw_files.backed_up(
        [name for name, item in elsewhere.items() if item.instrument_id in retired]
    )
    left = {
        item.name: elsewhere[item.name].instrument_id
        for item in new
        if item.name in have_backup and is_same_file(rules, item, elsewhere[item.name])
    }
    reported = [
        LeftAlone(name, f"it is recorded and backed up as a file of {owner}, which was retired")
        for name, owner in left.items()
    ]
    return replace(
        scene,
        new=[item for item in scene.new if item[0].name not in left],
        left_alone=[*scene.left_alone, *reported],
    )
