"""Which configuration the processes of each `kraken up` run, and how it stands to the file."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kraken_dagster.monitoring.loaded import (
    CODE_SERVER,
    GOES_ON,
    STOPS,
    TAKEN_UP,
    TAKEN_UP_BY_EACH,
    TICKS,
    in_words,
)
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import Instance, Loaded

_CURRENT = "current"
_NEWER = "the file is newer"
_BROKEN = "the file is broken"
_MENDED = "the file was mended"
# `kraken up` looks every 10 s, and loading takes a while; a daemon that loads its code itself does
# so each minute.
_TAKEN_UP_WITHIN = timedelta(minutes=3)
_RELOAD = "reload it in Dagit (Deployment, Reload)"
_COMMAND = "`kraken reload` says why"


def processes_of(services: Services) -> list[dict[str, Any]]:
    """One row for each process; `told`: what is wrong with it, and what to do."""
    found = [
        _process(instance, loaded, services.now())
        for instance in services.store.instances.all_living(now=services.now())
        for loaded in instance.loaded
    ]
    return sorted(found, key=lambda item: (item["host"], item["home"], item["process"]))


def nothing_ticks(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether what ticks has nothing to tick, as it could not load the file."""
    return any(item["stands"] for item in rows if item["process"] in TICKS)


def _process(instance: Instance, loaded: Loaded, now: datetime) -> dict[str, Any]:
    state = _state(instance, loaded)
    return {
        "host": instance.host,
        "home": instance.home,
        "process": loaded.process,
        "configuration": loaded.digest,
        "file_time": loaded.file_time,
        "since": loaded.since,
        "stands": loaded.stands or (loaded.process == "daemon" and state in (_BROKEN, _MENDED)),
        "state": state,
        "told": _told(instance, loaded, state, now),
    }


def _state(instance: Instance, loaded: Loaded) -> str:
    disk = instance.on_disk
    if disk is not None and disk.problem is not None:
        return _BROKEN
    if loaded.problem is not None and (loaded.stands or loaded.process != CODE_SERVER):
        return _MENDED
    return _CURRENT if disk is None or disk.digest == loaded.digest else _NEWER


def _told(instance: Instance, loaded: Loaded, state: str, now: datetime) -> str | None:
    disk = instance.on_disk
    if state == _CURRENT or disk is None:
        return None
    ticks, what = loaded.process in TICKS, f"{loaded.process} on {instance.host}"
    which = f"{disk.path}, written at {in_words(disk.file_time)}"
    knows = f"that of {in_words(loaded.file_time)} ({loaded.digest})"
    knows += f", since {in_words(loaded.since)}"
    if state == _BROKEN:
        reported = f"{what} can't take up {which}, and knows {knows}: {disk.problem}"
        by = TAKEN_UP if loaded.process == CODE_SERVER else TAKEN_UP_BY_EACH
        return f"{reported} Meanwhile: {_meanwhile(loaded)}. Next: correct the file; {by}."
    if state == _MENDED:
        follows = "nothing new is begun until it has, within about 90 s" if ticks else _RELOAD
        return f"{what} could not load the file that was before {which}: {follows}"
    if disk.file_time is not None and now - disk.file_time < _TAKEN_UP_WITHIN:
        return None
    next_step = _COMMAND if loaded.process == CODE_SERVER else _RELOAD
    return f"{what} has not taken up {which}, and runs {knows}: {next_step}"


def _meanwhile(loaded: Loaded) -> str:
    if loaded.process == CODE_SERVER:
        return STOPS if loaded.stands else GOES_ON
    return STOPS if loaded.process == "daemon" else "reloaded, Dagit shows no sensors"
