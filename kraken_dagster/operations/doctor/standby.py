"""`kraken doctor --stand-in`: whether an instance can stand in for another one that is away.

It works on the same disks with a MongoDB of its own, and leaves every file on its instrument where
the other instance will look for it.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dagster import DagsterInstance

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import FolderError, KrakenError, StoreUnavailable, UnknownSettings
from kraken_dagster.model.files.folder import sort_out
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.operations.doctor.checks import Finding
from kraken_dagster.orchestration.dagster_internals import InstigatorStatus, InstigatorType
from kraken_dagster.orchestration.partitions import CLUSTER_JOBS_SENSOR, name_here
from kraken_dagster.projects import settings_file
from kraken_dagster.runtime.exclusive_runs import archive_of, purge_of
from kraken_dagster.runtime.homes import dagster_home
from kraken_dagster.runtime.services import Services

_TIMEOUT_S = 60.0
_RESULT = "out_"


def examine_standby(make_services: Callable[[], Services], exported: bytes | None) -> list[Finding]:
    """Nothing where the services cannot be opened: that is among the findings of `doctor` already.

    Args:
        exported: what `kraken settings export` wrote on the other instance.

    Raises:
        InputRefused: `exported` is no such file.
    """
    found: list[Finding] = []
    try:
        services = make_services()
    except KrakenError:
        return found
    with suppress(StoreUnavailable):
        found.extend(_examined(services, exported))
    return found


def _examined(services: Services, exported: bytes | None) -> Iterator[Finding]:
    for instrument_id in services.config.instruments:
        yield _options(services, instrument_id)
    yield _database(services)
    yield from _settings(services, exported)
    for instrument_id in services.config.instruments:
        yield from _what_is_there(services, instrument_id)
    yield from _sensors(services.config)


def _options(services: Services, instrument_id: str) -> Finding:
    instrument = services.instrument(instrument_id)
    on = [name for name in ("move_files", "remove_files") if getattr(instrument, name)]
    if not on:
        return Finding("ok", instrument_id, "its files stay where they are")
    return Finding(
        "error",
        instrument_id,
        f"{' and '.join(on)} would take files away from where the other instance looks for them; "
        f"set {' and '.join(f'{name}: false' for name in on)} in `options`",
    )


def _database(services: Services) -> Finding:
    """The other instance's own is told by what only an instance that moves files writes."""
    files = 0
    for instrument_id in services.config.instruments:
        files += len(services.store.bulk.ids(instrument_id))
        archived = services.store.bulk.count_archived(instrument_id)
        exclusive_runs = [archive_of(instrument_id), purge_of(instrument_id)]
        moved = any(services.store.exclusive_runs.get(name).attempt for name in exclusive_runs)
        if archived or moved:
            return Finding(
                "error",
                "MongoDB",
                f"{archived} files of {instrument_id} are recorded as archived or purged, or "
                "were to be: this is the database of an instance that moves files. Set "
                "mongodb.uri to another one, empty, or leave it out and use another `home`",
            )
    reported = f"{files} files, none archived: filled by a stand-in" if files else "empty"
    return Finding("ok", "MongoDB", reported)


def _settings(services: Services, exported: bytes | None) -> Iterator[Finding]:
    if exported is None:
        yield Finding(
            "warning",
            "settings",
            "not compared: write them to a file by `kraken settings export` on the other "
            "instance, and name it by --settings",
        )
        return
    entries = settings_file.read(exported)
    wrong = 0
    for entry in entries:
        title = f"{entry.get('name')} version {entry.get('version')}"
        if (problem := _difference(services, entry)) is not None:
            wrong += 1
            yield Finding("error", "settings", f"{title} {problem}")
    theirs = {(entry.get("name"), entry.get("version")) for entry in entries}
    for project_id in (FALLBACK_PROJECT, *services.store.catalog.project_ids()):
        for item in services.store.catalog.assigned(project_id):
            if (item.settings.name, item.settings.version) not in theirs:
                reported = f"{item.settings.title}, used by {project_id}, is not in the file"
                yield Finding(
                    "warning", "settings", f"{reported}: the other instance may use another"
                )
    if not wrong:
        yield Finding("ok", "settings", f"all {len(entries)} of the file are here, and the same")


def _difference(services: Services, entry: dict[str, object]) -> str | None:
    try:
        ours = services.store.catalog.settings(
            str(entry.get("name")), int(str(entry.get("version")))
        )
    except UnknownSettings:
        return "is not here: `kraken settings import` adds it, `kraken project assign` uses it"
    except ValueError:
        return "has no version in the file: export it anew"
    if ours.digest == entry.get("digest"):
        return None
    return f"says something else here: {ours.digest}, expected {entry.get('digest')}"


def _what_is_there(services: Services, instrument_id: str) -> Iterator[Finding]:
    """What of the folder's acquisitions the other instance has done already."""
    try:
        standing, backups, results = _done_already(services, instrument_id)
    except FolderError:
        return  # which is a finding already
    except (OSError, KrakenError) as error:
        yield Finding("warning", instrument_id, f"what was done already can't be told: {error}")
        return
    has_backup, has_result = len(standing & backups), len(standing & results)
    yield Finding(
        "ok",
        instrument_id,
        f"{len(standing)} acquisitions in its folder; {has_backup} have a backup, which is proven "
        f"and not copied again, and {has_result} a result",
    )
    if standing and not backups:
        yield Finding(
            "warning",
            instrument_id,
            f"locations.backup has nothing of it: is {services.config.locations.backup.path} the "
            "other instance's backup store?",
        )
    mode = services.instrument(instrument_id).output_exists_mode
    if has_result and mode is not OutputExistsMode.ASSOCIATE:
        yield Finding(
            "error",
            instrument_id,
            f"{has_result} results are there, and output_exists_mode is {mode}; set "
            "output_exists_mode: associate, so that they are followed and nothing is run again",
        )


def _done_already(services: Services, instrument_id: str) -> tuple[set[str], set[str], set[str]]:
    """Names of the acquisitions in the folder, of what has a backup, and of what has a result.

    Raises:
        FolderError: the instrument's folder can't be looked at.
        CopyStalled: another root gives no answer.
    """
    instrument, locations = services.instrument(instrument_id), services.config.locations
    listing = services.lister(
        str(services.instrument_folder(instrument_id)),
        main_files=services.rules(instrument_id).main_files,
        timeout_s=instrument.folder_timeout_s,
    )
    backups = bounded(
        lambda: _backups(services, instrument_id), timeout_s=_TIMEOUT_S, what=locations.backup.path
    )
    results = bounded(lambda: _results(services), timeout_s=_TIMEOUT_S, what=locations.output.path)
    return set(sort_out(instrument.type, listing.entries)[0]), backups, results


def _backups(services: Services, instrument_id: str) -> set[str]:
    root = services.config.locations.backup.path / instrument_id
    return {item.name for month in _listed(root) for item in _listed(month)}


def _results(services: Services) -> set[str]:
    root = services.config.locations.output.path
    folders = [*_listed(root), *_listed(root / FALLBACK_PROJECT)]
    found = [item.name for folder in folders for item in _listed(folder)]
    return {name.removeprefix(_RESULT) for name in found if name.startswith(_RESULT)}


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, nothing where there is none; one that can't be listed is an error.

    Raises:
        OSError
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sensors(config: KrakenConfig) -> Iterator[Finding]:
    """Those that were switched on or off by hand, else as instruments.yaml has them."""
    states = _switched(dagster_home(config))
    off = [
        name
        for name in (
            *(f"{item}_watcher" for item in config.instruments),
            name_here(config, CLUSTER_JOBS_SENSOR),
        )
        if not states.get(name, _on_from_the_start(config, name))
    ]
    if off:
        advice = "switch them on in Dagit, or by `dagster sensor start`"
        reported = f"{', '.join(off)} would not run; {advice}"
        yield Finding("warning", "sensors", reported)
    else:
        yield Finding("ok", "sensors", f"the watchers and {CLUSTER_JOBS_SENSOR} are on")


def _on_from_the_start(config: KrakenConfig, name: str) -> bool:
    instrument_id = name.removesuffix("_watcher")
    known = instrument_id in config.instruments
    return not known or config.instrument(instrument_id).sensors == "running"


def _switched(home: Path) -> dict[str, bool]:
    if not (home / "dagster.yaml").exists():
        return {}
    with DagsterInstance.from_config(str(home)) as instance:
        found = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    return {
        item.instigator_name: item.status is InstigatorStatus.RUNNING
        for item in found
        if item.status is not InstigatorStatus.DECLARED_IN_CODE
    }
