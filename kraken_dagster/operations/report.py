"""What `kraken status`, `files` and `show` tell, as plain data; printing it is the CLI's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from kraken_dagster.acquisition.identity import served_ids
from kraken_dagster.model.files.dates import local
from kraken_dagster.model.files.identity import Identity
from kraken_dagster.model.raw_file import BACKUP_UNDER_WAY, FINAL, OPEN_ACQUISITION, Status
from kraken_dagster.monitoring.being_written import copies_wait_for, why_copied_later
from kraken_dagster.monitoring.code_locations import code_locations
from kraken_dagster.monitoring.disk_usage import FILE_SYSTEMS
from kraken_dagster.monitoring.ticks import ticks
from kraken_dagster.operations.processes import nothing_ticks, processes_of
from kraken_dagster.retention.in_the_way import in_the_way
from kraken_dagster.retention.in_the_way import lines as lines_of
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import Instance

_STALE_AFTER_SCANS = 10
_STANDS_STILL = timedelta(hours=24)
_POLLED_WITHIN = timedelta(minutes=10)  # an engine in trouble is asked every five
_PURGED_WITHIN = timedelta(hours=24)  # the schedule comes twice
_TOLD_AT_MOST = 3


def status(services: Services) -> dict[str, Any]:
    """How every instrument is, what its files are, and what is wrong; of all code locations."""
    services = replace(services, config=services.config.whole)
    instruments = [_instrument(services, item) for item in services.config.instruments]
    engines = [_engine(services, name) for name in services.config.engines]
    file_systems = [_file_system(services, name) for name in FILE_SYSTEMS]
    reported = (*instruments, *engines, *file_systems)
    wrong = [problem for item in reported for problem in item["wrong"]]
    processes = processes_of(services)
    unseen = {item["unseen"] for item in reported}
    if not_running := _not_running(services, instruments):
        wrong = [not_running, *(problem for problem in wrong if problem not in unseen)]
    elif nothing_ticks(processes):  # which is told below, with what to do
        wrong = [problem for problem in wrong if problem not in unseen]
    wrong += [
        f"jobs of the engine {name!r}, which is not in instruments.yaml (any more), wait for ever"
        for name in services.store.jobs.engines_in_use()
        if name not in services.config.engines
    ]
    wrong += [item["told"] for item in processes if item["told"] is not None]
    locations = code_locations(services)
    wrong += [item["told"] for item in locations if item["told"] is not None]
    left = left_behind(services)
    wrong += [item["told"] for item in left if item["told"] and _is_unfinished(item)]
    return {
        "simulation": services.config.simulation is not None,
        "instruments": instruments,
        "engines": engines,
        "file_systems": file_systems,
        "processes": processes,
        "locations": locations,
        "ticks": ticks(services),
        "left": left,
        "wrong": wrong,
    }


def left_behind(services: Services) -> list[dict[str, Any]]:
    """The instruments that have files, and that nobody serves; `told`: what to do about them."""
    served = served_ids(services)
    return [item for item in instruments_known(services) if item["id"] not in served]


def _is_unfinished(item: Mapping[str, Any]) -> bool:
    return bool(item["unfinished"] or item["errors"] or item["open_jobs"])


def instruments_known(services: Services) -> list[dict[str, Any]]:
    """Every instrument that has files, is configured, or was once."""
    identities, served = services.store.instruments.all(), served_ids(services)
    ids = {*services.store.instruments.ids(), *services.config.instruments}
    return [
        _known_instrument(
            services, identities.get(item) or Identity(id=item), is_served=item in served
        )
        for item in sorted(ids)
    ]


def _known_instrument(services: Services, known: Identity, *, is_served: bool) -> dict[str, Any]:
    summary = services.store.instruments.summary(known.id)
    state, reported = "configured", None
    if known.retired_at is not None:
        state = f"retired {known.retired_at:%Y-%m-%d}"
    elif not is_served:
        last = services.store.instances.last(serving=[known.id])
        state = "not configured" if last is None else f"last served by {_ago(last)}"
        reported = (
            f"{known.id} is not in instruments.yaml and has {summary['files']} files, "
            f"{summary['unfinished']} of them in work, {summary['open_jobs']} open jobs and "
            f"{summary['backups']} backups, which nobody looks after: `kraken instrument rename "
            f"{known.id} NEW` if it has got another id, `kraken instrument retire {known.id}` if "
            "it is out of use, or put it back"
        )
    place = {"id": known.id, "state": state, "type": known.type, "path": known.path}
    return {**place, **summary, "told": reported}


def _not_running(services: Services, instruments: Sequence[Mapping[str, Any]]) -> str | None:
    """That nothing runs, said once in place of a line for each instrument."""
    if any(item["unseen"] is None for item in instruments):
        return None
    served, now = list(services.config.instruments), services.now()
    if services.store.instances.living(serving=served, now=now):
        return None
    known = services.store.instances.last(serving=served)
    since = "it was never started" if known is None else f"last seen {_ago(known)}"
    return f"Kraken is not running ({since}): start it with `kraken up`"


def _ago(known: Instance) -> str:
    how = "ended" if known.ended_at is not None else "it died"
    return f"{known.seen_at:%Y-%m-%d %H:%M} UTC on {known.host}, {how}"


def _instrument(services: Services, instrument_id: str) -> dict[str, Any]:
    health = services.store.health.get(instrument_id) or {}
    counts = services.store.raw_files.count_by_status(instrument_id)
    looked_at = health.get("updated_at_")
    interval = timedelta(seconds=services.instrument(instrument_id).watch_interval_s)
    details, condition = health.get("status_details"), health.get("status", "never looked at")
    if looked_at is None:
        details = f"switch {instrument_id}_watcher on in Dagit, or see whether the daemon runs"
    elif services.now() - looked_at > max(_STALE_AFTER_SCANS * interval, timedelta(minutes=2)):
        condition = "not looked at"
        details = f"no look since {looked_at:%Y-%m-%d %H:%M} UTC: is {instrument_id}_watcher on?"
    wrong = [] if condition == "ok" else [f"{instrument_id}: {details}"]
    details = "; ".join(filter(None, (details, _copied_later(services, instrument_id))))
    unseen = wrong[0] if condition in ("never looked at", "not looked at") else None
    if failed := counts.get(Status.ERROR, 0):
        files = "1 file" if failed == 1 else f"{failed} files"
        wrong.append(f"{instrument_id}: {files} in error; see `kraken files --status error`")
    wrong += _standing_still(services, instrument_id)
    wrong += _in_the_way(services, instrument_id)
    wrong += _short_of_space(services, instrument_id, health.get("free_space_gb"))
    return {
        "id": instrument_id,
        "type": services.instrument(instrument_id).type,
        "status": condition,
        "details": details,
        "looked_at": looked_at,
        "free_space_gb": health.get("free_space_gb"),
        "total_space_gb": health.get("total_space_gb"),
        "last_purge": (services.store.health.disk(instrument_id) or {}).get("status_details"),
        "left_alone": health.get("left_alone", []),
        "unseen": unseen,
        "clock_difference_s": health.get("clock_difference_s"),
        "files": counts,
        "wrong": wrong,
    }


def _copied_later(services: Services, instrument_id: str) -> str | None:
    """How many files are not copied while the instrument writes another, and which that is."""
    behind = copies_wait_for(services, instrument_id)
    if behind is None:
        return None
    due = services.store.raw_files.in_status(
        instrument_id, BACKUP_UNDER_WAY | {Status.MONITORING_DONE}
    )
    waiting = [item for item in due if why_copied_later(services, item, behind) is not None]
    if not waiting:
        return None
    since = local(behind.since, now=services.now())
    return (
        f"{len(waiting)} to be copied once no other is being acquired, as {behind.raw_file_id!r} "
        f"is since {since}"
    )


def _engine(services: Services, name: str) -> dict[str, Any]:
    health = services.store.health.engine(name) or {}
    details, condition = health.get("status_details"), health.get("status", "never asked")
    asked_at = health.get("updated_at_")
    if asked_at is not None and services.now() - asked_at > _POLLED_WITHIN:
        condition = "not asked"
        details = f"no poll since {asked_at:%Y-%m-%d %H:%M} UTC: is the sensor cluster_jobs on?"
    wrong = [] if condition in ("ok", "never asked") else [f"engine {name!r}: {details}"]
    unseen = wrong[0] if condition == "not asked" else None
    wrong += [
        f"the quant_job {item!r} can't be read" for item in services.store.jobs.unreadable(name)
    ]
    return {
        "id": name,
        "type": services.config.engines[name].type,
        "status": condition,
        "details": details,
        "asked_at": asked_at,
        "unseen": unseen,
        "open_jobs": sum(job.is_open for job in services.store.jobs.uncollected(name)),
        "wrong": wrong,
    }


def _standing_still(services: Services, instrument_id: str) -> list[str]:
    """Files that should move on by themselves, and haven't for long."""
    moving, now = set(Status) - FINAL - OPEN_ACQUISITION, services.now()
    return [
        f"{instrument_id}: {item.id!r} has been {item.status} since "
        f"{item.updated_at_:%Y-%m-%d %H:%M} UTC"
        for item in services.store.raw_files.in_status(instrument_id, moving)
        if item.leased(now) is None and now - item.updated_at_ > _STANDS_STILL
    ]


def _in_the_way(services: Services, instrument_id: str) -> list[str]:
    """Files that can't be archived or purged; the first ones with the reason."""
    found = in_the_way(services, instrument_id)
    reported = [line for item in found[:_TOLD_AT_MOST] for line in lines_of(item)]
    lines = [f"{instrument_id}: {line}" for line in reported]
    if len(found) > _TOLD_AT_MOST:
        lines.append(f"{instrument_id}: {len(found) - _TOLD_AT_MOST} more that can't be either")
    return lines


def _short_of_space(services: Services, instrument_id: str, free_gb: float | None) -> list[str]:
    """A disk with less free space than there shall be, and no purge that will change it."""
    wanted = services.instrument(instrument_id).min_free_space_gb
    if wanted <= 0 or free_gb is None or free_gb >= wanted:
        return []
    last = services.store.health.disk(instrument_id)
    if last is None or services.now() - last["updated_at_"] > _PURGED_WITHIN:
        reported = "no purge in the last 24 h: is the schedule `purge` on, and does the daemon run?"
    elif last["status"] == "ok":
        return []
    else:
        reported = f"the last purge: {last['status_details']}"
    return [f"{instrument_id}: {free_gb:g} GB are free, {wanted:g} GB shall be; {reported}"]


def _file_system(services: Services, name: str) -> dict[str, Any]:
    health = services.store.health.file_system(name) or {}
    details, condition = health.get("status_details"), health.get("status", "never looked at")
    seen_at = health.get("updated_at_")
    if seen_at is not None and services.now() - seen_at > _POLLED_WITHIN:
        condition = "not looked at"
        details = f"no look since {seen_at:%Y-%m-%d %H:%M} UTC: is the sensor cluster_jobs on?"
    fine = condition in ("ok", "never looked at")
    wrong = [] if fine else [f"locations.{name}: {details}"]
    return {
        "id": name,
        "path": str(getattr(services.config.locations, name).path),
        "status": condition,
        "looked_at": seen_at,
        "free_space_gb": health.get("free_space_gb"),
        "total_space_gb": health.get("total_space_gb"),
        "details": details,
        "unseen": wrong[0] if condition == "not looked at" else None,
        "wrong": wrong,
    }
