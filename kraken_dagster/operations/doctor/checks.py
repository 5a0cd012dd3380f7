"""`kraken doctor`: what is wrong with mounts, MongoDB and clusters, and how to mend it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from kraken_dagster.acquisition.identity import recognised, require_settled
from kraken_dagster.acquisition.scene import glance
from kraken_dagster.acquisition.share import mixture
from kraken_dagster.config.engines import LocalEngine
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.stores.marker import MARKER_NAME, Role
from kraken_dagster.fs.stores.marker_file import read_marker
from kraken_dagster.fs.stores.roots import away
from kraken_dagster.fs.stores.store_probe import Shortcoming, probe
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    FolderError,
    KrakenError,
    StoreAway,
)
from kraken_dagster.model.files.dates import clock_difference, in_words
from kraken_dagster.model.files.folder import Listing, cant_know, sort_out
from kraken_dagster.model.files.vendors import safe_relative
from kraken_dagster.model.programs import PROGRAMS, Start
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import Settings
from kraken_dagster.operations.doctor.cluster import engine_findings
from kraken_dagster.operations.doctor.finding import Finding
from kraken_dagster.operations.doctor.jobs import jobs_here
from kraken_dagster.operations.doctor.offsite import offsite_findings
from kraken_dagster.operations.report import left_behind
from kraken_dagster.quant.command import BUILT_IN_PROGRAMS
from kraken_dagster.quant.input_files import located
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import require
from kraken_dagster.store.embedded import door

_TIMEOUT_S = 20.0
_MOST_SKEW_S = 5.0
_STORES = frozenset(role.value for role in Role)


def examine(config: KrakenConfig, make_services: Callable[[], Services]) -> list[Finding]:
    """What mounts, MongoDB and clusters say, in the order in which one would mend things."""
    findings = list(_roots(config))
    try:
        services = make_services()
        findings = [_known(services, item) for item in findings]
        findings.extend(_mongodb(config, services))
        findings.extend(_settings(config, services))
        findings.extend(engine_findings(config, services))
        findings.extend(offsite_findings(services))
    except KrakenError as error:
        left_out = f"clocks, settings, engines; {', '.join(config.instruments)}"
        skipped = Finding("skipped", "without MongoDB", f"not looked at: {left_out}")
        return [*findings, Finding("error", "MongoDB", str(error)), skipped]
    for instrument_id in config.instruments:
        findings.append(_instrument(services, instrument_id))
    return [*findings, *_left_behind(services)]


def _left_behind(services: Services) -> Iterator[Finding]:
    for item in left_behind(services):
        reported = (
            item["told"] or f"{item['state']}: {item['files']} files, {item['backups']} backups"
        )
        yield Finding("ok" if item["told"] is None else "warning", "instruments", reported)


def _roots(config: KrakenConfig) -> Iterator[Finding]:
    for name in ("backup", "output"):
        path = getattr(config.locations, name).path
        finding = _writable(name, path)
        here = any(isinstance(engine, LocalEngine) for engine in config.engines.values())
        if name == "backup" and finding.level != "error" and here:
            finding = replace(finding, found=f"{finding.found}; {jobs_here()}")
        yield finding


def _known(services: Services, finding: Finding) -> Finding:
    """What is well with a root only if its marker is recorded in this MongoDB."""
    if finding.level == "error" or finding.what not in _STORES:
        return finding
    try:
        require(services, Role(finding.what), timeout_s=_TIMEOUT_S)
    except StoreAway as error:
        return Finding("error", finding.what, str(error))
    return finding


def _writable(name: str, path: Path) -> Finding:
    """Does all that a copy and a move do, and names what fails and what follows from it."""

    def tried() -> tuple[list[Shortcoming], int]:
        if name in _STORES and Role(name) not in read_marker(path):
            raise away(path, Role(name), f"no {MARKER_NAME} in it")
        return probe(path), shutil.disk_usage(path).free

    try:
        short, free = bounded(tried, timeout_s=_TIMEOUT_S, what=path)
    except StoreAway as error:
        return Finding("error", name, str(error))
    except OSError as error:
        found = error.strerror or str(error)
        advice = "mount it (or create the folder), or give Kraken's user the right to write there"
        return Finding("error", name, f"{path}: {found}; {advice}")
    except KrakenError as error:
        return Finding("error", name, str(error))
    reported = ". ".join(item.in_words() for item in short)
    if any(item.fatal for item in short):
        return Finding(
            "error", name, f"{path}: {reported}. Mend the mount or the user's rights there"
        )
    writable = f"{path}: writable, {free / 1024**3:.1f} GB free"
    if short:
        return Finding("warning", name, f"{writable}. {reported}")
    return Finding("ok", name, writable)


def _mongodb(config: KrakenConfig, services: Services) -> Iterator[Finding]:
    skew = (services.store.server_time() - services.now()).total_seconds()
    where = "the configured server" if config.mongodb.uri else "the embedded server"
    yield Finding("ok", "MongoDB", f"{where} answers")
    yield _door(config, services.store.uri)
    if abs(skew) > _MOST_SKEW_S:
        yield Finding(
            "error",
            "clocks",
            f"this machine's and MongoDB's differ by {skew:.1f} s; leases need them together: "
            "use NTP on both",
        )
    else:
        yield Finding("ok", "clocks", f"{skew:+.2f} s from MongoDB's")


def _door(config: KrakenConfig, uri: str) -> Finding:
    """Whether a stranger gets in, tried as he would. What settings name is run as a program."""
    what, found = "access to MongoDB", door.tried(uri)
    if found in (door.Door.CLOSED, door.Door.SILENT):
        return Finding("ok", what, found)
    if not config.mongodb.uri:
        mend = "an older Kraken has started it; end `kraken up` and start it again"
        return Finding("error", what, f"{found}; {mend}")
    mend = (
        "switch access control on there, give Kraken a user with the role readWrite on its "
        "database, and put user and password into mongodb.uri"
    )
    return Finding("warning", what, f"{found}; {mend}")


def _settings(config: KrakenConfig, services: Services) -> Iterator[Finding]:
    _, unreadable = services.store.catalog.all_settings()
    for name in unreadable:
        reported = f"settings {name!r} in MongoDB can't be read; `kraken settings show` says why"
        yield Finding("error", "settings", reported)
    projects = [FALLBACK_PROJECT, *services.store.catalog.project_ids()]
    found = {name: services.store.catalog.assignments(name) for name in projects}
    for name, (_, broken) in found.items():
        for item in broken:
            reported = f"project {name}, assignment {item.id}: {item.problem}"
            yield Finding("error", "settings", reported)
    assigned = [item.settings for usable, _ in found.values() for item in usable]
    if not assigned:
        yield Finding("warning", "settings", "none are assigned, so that no file is processed")
    for settings in {item.title: item for item in assigned}.values():
        yield from _program(config, settings)
        yield from _inputs(services, settings)
        if settings.job_engine is not None and settings.job_engine not in config.engines:
            yield Finding(
                "warning",
                "settings",
                f"{settings.title} wants the engine {settings.job_engine!r}, which is none of "
                "`engines`; its jobs run on the instrument's engine",
            )


def _program(config: KrakenConfig, settings: Settings) -> Iterator[Finding]:
    here = any(isinstance(engine, LocalEngine) for engine in config.engines.values())
    by_name = settings.software in BUILT_IN_PROGRAMS
    kind = PROGRAMS.get(settings.software_type)
    if by_name or not here or (kind is not None and kind.start is Start.CONDA):
        return
    root = config.locations.software
    program = None if root is None else root.path / settings.software
    if program is None or not os.access(program, os.X_OK):
        yield Finding(
            "error",
            "software",
            f"{settings.title} wants {settings.software!r}, which is no program below "
            f"locations.software ({root.path if root else 'not set'})",
        )


def _inputs(services: Services, settings: Settings) -> Iterator[Finding]:
    folder = services.settings_folder(settings)
    for role, name in settings.input_names.items():
        try:
            scan = partial(located, services, folder / safe_relative(name), role=role)
            bounded(scan, timeout_s=_TIMEOUT_S, what=folder)
        except KrakenError as error:
            yield Finding("error", "settings", f"{settings.title}: {error}")


def _instrument(services: Services, instrument_id: str) -> Finding:
    instrument = services.instrument(instrument_id)
    try:
        known = require_settled(services, instrument_id)
        scene = glance(services, instrument, instrument_id)
        listing = recognised(services, instrument_id, known, scene, record=False).listing
    except FolderError as error:
        return Finding("error", instrument_id, str(error))
    free = listing.free_bytes / 1024**3
    reported = f"{len(listing.entries)} entries, {free:.1f} GB free"
    if unknown := cant_know(instrument.type, listing.entries):
        name, why = min(unknown.items())
        lost = f"{len(unknown)} acquisitions can't be looked at, {name!a}: {why}"
        return Finding(
            "error", instrument_id, f"{reported}; {lost}; check the share and the rights"
        )
    standing, left_alone = sort_out(instrument.type, listing.entries)
    mixed = mixture(services, instrument_id, listing, standing, left_alone)
    if mixed is not None and mixed.is_wrong:
        return Finding("error", instrument_id, mixed.reported)
    level = "ok" if mixed is None else "warning"
    reported += "" if mixed is None else f"; {mixed.reported}"
    if (difference := _clock_of(services, instrument_id, listing)) is not None:
        clock = (
            f"its clock is {in_words(difference)} this machine's, so no date of its files counts"
        )
        return Finding("warning", instrument_id, f"{reported}; {clock}: use NTP on both")
    return Finding(level, instrument_id, reported)


def _clock_of(services: Services, instrument_id: str, listing: Listing) -> float | None:
    """By how many seconds it differs, by what stands there or by what the last look has found."""
    entries = {entry.name: entry for entry in listing.entries}
    standing, _ = sort_out(services.instrument(instrument_id).type, listing.entries)
    newest = max((entries[name].changed_at for name in standing), default=None)
    seen = (services.store.health.get(instrument_id) or {}).get("clock_difference_s")
    found = clock_difference(newest=newest, grew=None, now=services.now())
    return seen if found is None else found
