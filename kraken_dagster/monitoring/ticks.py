"""When each of Dagster's sensors and schedules last ticked, from MongoDB alone.

Whether one is switched on only Dagster knows. What MongoDB tells is when it ticked, and when others
of its code location did: one that is silent beside others is off, or hangs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import Tick, TickKind, TickOutcome

OK, FAILED, SILENT, OFF, NEVER = "ok", "failed", "silent", "off", "never"
_SILENT_TICKS, _AT_LEAST = 10, timedelta(minutes=2)
_SCHEDULED = timedelta(hours=25)  # each comes once a day at least
_FORGOTTEN = timedelta(days=7)  # of a code location that is there no more
_SHARED_SENSORS = ("cluster_jobs", "alerts")
_SHARED_SCHEDULES = ("purge", "scrub", "retire_partitions")
_OFF_BY_ITSELF = ("scrub",)
_OFFSITE_SENSOR, _OFFSITE_SCHEDULE = "offsite_uploads", "scrub_offsite"
_SENSOR_OFF = "sensor_off"  # the kind of alert that says so


@dataclass(frozen=True)
class _Wanted:
    name: str
    kind: TickKind
    instrument: str | None = None
    usual: str = ""  # its name without that of the code location


def ticks(services: Services) -> list[dict[str, Any]]:
    """Every sensor and schedule of all code locations: `state`, and in `told` what to do about it.

    Raises:
        StoreUnavailable
    """
    now = services.now()
    known = {item.name: item for item in services.store.ticks.all()}
    off = {it.subject for it in services.store.alerts.current() if it.kind == _SENSOR_OFF}
    lives = {
        tick.location
        for tick in known.values()
        if tick.kind is TickKind.SENSOR and now - tick.at <= _allowed(tick)
    }
    return [
        _row(item, known.get(item.name), lives, is_off=item.name in off, now=now)
        for item in _wanted(services, known)
    ]


def _wanted(services: Services, known: Mapping[str, Tick]) -> Iterator[_Wanted]:
    """What there is by instruments.yaml, in the order in which files need it."""
    config, now = services.config.whole, services.now()
    for item in config.instruments:
        yield _Wanted(f"{item}_watcher", TickKind.SENSOR, item)
        yield _Wanted(f"{item}_archiver", TickKind.SENSOR, item)
    copies = config.offsite is not None
    sensors = [*_SHARED_SENSORS, *([_OFFSITE_SENSOR] if copies else [])]
    schedules = [*_SHARED_SCHEDULES, *([_OFFSITE_SCHEDULE] if copies else [])]
    endings = _endings(services)
    named = [f"_{item.location}" for item in services.store.instances.locations()]
    for kind, names in ((TickKind.SENSOR, sensors), (TickKind.SCHEDULE, schedules)):
        for name in names:
            for ending in dict.fromkeys([*endings, "", *named]):
                tick = known.get(f"{name}{ending}")
                is_recent = tick is not None and now - tick.at <= _FORGOTTEN
                if ending in endings or is_recent:
                    yield _Wanted(f"{name}{ending}", kind, usual=name)


def _endings(services: Services) -> Sequence[str]:
    """Of the names of the code locations; an empty one is that of a location that serves all."""
    now, config = services.now(), services.config
    found = [
        f"_{item.location}"
        for item in services.store.instances.locations()
        if now - item.seen_at <= _FORGOTTEN and not config.all_instruments <= {*item.instruments}
    ]
    return found or [config.suffix]


def _row(
    wanted: _Wanted, tick: Tick | None, lives: set[str], *, is_off: bool, now: datetime
) -> dict[str, Any]:
    state, told = _state(wanted, tick, lives, is_off=is_off, now=now)
    return {
        "name": wanted.name,
        "kind": wanted.kind.value,
        "instrument": wanted.instrument,
        "state": state,
        "last_tick": None if tick is None else tick.at,
        "took_s": None if tick is None else tick.took_s,
        "outcome": None if tick is None else tick.outcome.value,
        "details": None if tick is None else tick.details,
        "told": told,
    }


def _state(
    wanted: _Wanted, tick: Tick | None, lives: set[str], *, is_off: bool, now: datetime
) -> tuple[str, str | None]:
    is_sensor = wanted.kind is TickKind.SENSOR
    command = f"kraken sensors on {wanted.name}"
    if not is_sensor:
        command = f"dagster schedule start {wanted.name} -w workspace.yaml"
    switch = f"`{command}`, or its switch in Dagit under Automation"
    if tick is None:
        if wanted.usual in _OFF_BY_ITSELF:
            return NEVER, f"it is off by default. To switch it on: {switch}"
        if not is_sensor:
            return NEVER, f"it ticks at least once a day. If it never does, switch it on: {switch}"
        return (
            NEVER,
            f"it is off, or Dagster's daemon doesn't run. To switch it on: {switch}",
        )
    if now - tick.at <= _allowed(tick):
        if tick.outcome is TickOutcome.FAILED:
            return FAILED, "see its tick in Dagit; it is tried again by itself"
        return OK, None
    if is_off:
        return OFF, f"it is switched off. Switch it on: {switch}"
    if is_sensor and tick.location not in lives:
        return SILENT, "nothing ticks there: check that `kraken up`, or its code location, runs"
    return SILENT, f"others tick, but not this one: it is off, or hangs. Switch it on: {switch}"


def _allowed(tick: Tick) -> timedelta:
    """How old a last tick may be."""
    if tick.kind is TickKind.SCHEDULE or tick.every_s is None:
        return _SCHEDULED
    return max(_SILENT_TICKS * timedelta(seconds=tick.every_s), _AT_LEAST) + timedelta(
        seconds=tick.took_s
    )
