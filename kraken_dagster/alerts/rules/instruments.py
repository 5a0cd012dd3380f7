"""Rules for those who measure: an instrument stands still, its pump's pressure, a queue's end."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from kraken_dagster.alerts.rules.pump_pressure import rise, too_high
from kraken_dagster.alerts.rules.queue_stop import HANDOFF, QueueEnd, queue_end
from kraken_dagster.alerts.rules.rule import ALPHAKRAKEN, Rule, lasted
from kraken_dagster.alerts.snapshot import Snapshot
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.alerts.alert import Audience, Condition, Severity
from kraken_dagster.model.printable import printable


def instrument_stall(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    allowed = timedelta(hours=limits.stall_hours)
    for item in snapshot.instruments:
        if item.id not in limits.stall_instruments or not item.newest:
            continue
        last = item.newest[0]
        if now - last.at > allowed:
            yield Condition(
                subject=item.id,
                summary=f"{item.id}: no new file for {lasted(last.at, now)}",
                details=f"The last one was {printable(last.id)}.",
                instrument=item.id,
                since=last.at,
            )


def queue_stop(snapshot: Snapshot, limits: Thresholds, now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        end = queue_end(
            item.newest,
            snapshot.users,
            pauses=limits.queue_stop_pauses,
            longest_gradient=timedelta(hours=limits.queue_stop_gradient_hours),
            now=now,
        )
        if end is not None:
            yield Condition(
                subject=f"{item.id}:{end.file}",
                summary=f"{item.id}: {_in_words(end)}",
                details="\n".join(
                    f"{printable(file.id)}, {file.at:%Y-%m-%d %H:%M} UTC" for file in item.newest
                ),
                members=(end.file,),
                instrument=item.id,
                user=end.user,
            )


def _in_words(end: QueueEnd) -> str:
    if end.kind == HANDOFF or end.pause is None:
        return "your queue has ended; another one has begun"
    minutes = timedelta(minutes=1)
    return (
        f"your queue has stopped: no new file for {end.pause / minutes:.0f} min, "
        f"with a gradient of {end.gradient / minutes:.0f} min"
    )


def pump_pressure_rise(
    snapshot: Snapshot, limits: Thresholds, _now: datetime
) -> Iterator[Condition]:
    for item in snapshot.instruments:
        found = rise(item.pressures, window=limits.pump_window, bar=limits.pump_rise_bar)
        if found is not None:
            yield Condition(
                subject=item.id,
                summary=f"{item.id}: the pump's pressure rose by {found.bar:.1f} bar, from "
                f"{found.older.bar:.1f} to {found.younger.bar:.1f}",
                details=f"From {printable(found.older.file)} to {printable(found.younger.file)}.",
                members=(found.younger.file,),
                instrument=item.id,
            )


def pump_pressure_high(
    snapshot: Snapshot, limits: Thresholds, _now: datetime
) -> Iterator[Condition]:
    for item in snapshot.instruments:
        high = too_high(item.pressures, bar=limits.pump_bar)
        if high:
            highest = max(high, key=lambda found: found.bar)
            yield Condition(
                subject=item.id,
                summary=f"{item.id}: the pump's pressure was {highest.bar:.1f} bar, "
                f"{limits.pump_bar:g} or more",
                members=tuple(found.file for found in high),
                instrument=item.id,
            )


def out_of_control(snapshot: Snapshot, _limits: Thresholds, _now: datetime) -> Iterator[Condition]:
    for item in snapshot.instruments:
        for run in item.out_of_control:
            yield Condition(
                subject=run.series,
                summary=f"{item.id}: the last quality control run is out of control",
                details=f"{run.series}: {run.reason}",
                members=(run.file,),
                instrument=item.id,
            )


RULES = (
    Rule(
        kind="out_of_control",
        severity=Severity.WARNING,
        audience=Audience.LABORATORY,
        condition="the last quality control run of a series is out of control",
        next_step="`kraken show ID` names the metrics and limits; measure another control.",
        check=out_of_control,
    ),
    Rule(
        kind="instrument_stall",
        severity=Severity.WARNING,
        audience=Audience.LABORATORY,
        condition="an instrument of `stall_instruments` has made no new file",
        next_step="see what the instrument does.",
        check=instrument_stall,
        of_silence=True,
        thresholds=("stall_instruments", "stall_hours"),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="queue_stop",
        severity=Severity.INFO,
        audience=Audience.OPERATOR,
        condition="an operator's queue has stopped, or somebody else has taken over",
        next_step="see what the instrument does, or take your samples out.",
        check=queue_stop,
        of_silence=True,
        thresholds=("queue_stop_pauses", "queue_stop_gradient_hours"),
        source=ALPHAKRAKEN,
        once=True,
    ),
    Rule(
        kind="pump_pressure_rise",
        severity=Severity.WARNING,
        audience=Audience.LABORATORY,
        condition="the pump's pressure has risen over a few files of one gradient",
        next_step="look at the column and the lines: something may be clogged.",
        check=pump_pressure_rise,
        thresholds=("pump_window", "pump_rise_bar", "pump_days"),
        source=ALPHAKRAKEN,
    ),
    Rule(
        kind="pump_pressure_high",
        severity=Severity.WARNING,
        audience=Audience.LABORATORY,
        condition="the pump's pressure was high in a file of the last days",
        next_step="look at the column and the lines: something may be clogged.",
        check=pump_pressure_high,
        thresholds=("pump_bar", "pump_days"),
        source=ALPHAKRAKEN,
    ),
)
