"""`kraken alerts`: what is wrong, who has seen it, and whether messages get through."""

import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from kraken_dagster.alerts import actions
from kraken_dagster.alerts.dagster_facts import dagster_facts
from kraken_dagster.alerts.rules.registry import RULE_FAILED, RULES
from kraken_dagster.alerts.snapshot import DagsterFacts
from kraken_dagster.alerts.watch import watch as watch_alerts
from kraken_dagster.cli.common import (
    as_text,
    json_option,
    open_services,
    print_json,
    print_table,
    reported,
    say,
    user_name,
)
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.operations.dagster_home import open_dagster
from kraken_dagster.runtime.homes import dagster_home
from kraken_dagster.runtime.services import Services

_COLUMNS = ["id", "severity", "kind", "state", "opened", "count", "sent", "summary"]
_KINDS = click.Choice([rule.kind for rule in (*RULES, RULE_FAILED)])


@click.group()
def alerts() -> None:
    """What is wrong, who is told, and by which rules."""


@alerts.command(name="list")
@click.option("--all", "also_resolved", is_flag=True, help="Also those that are over.")
@click.option("--instrument", help="Only of this instrument.")
@click.option("--limit", default=100, show_default=True, help="At most so many, with --all.")
@json_option
@click.pass_obj
@reported
def list_alerts(
    path: Path, *, also_resolved: bool, instrument: str | None, limit: int, as_json: bool
) -> None:
    """The alerts that are open, and what became of their messages; 1 if there are any."""
    services = open_services(path)
    store = services.store.alerts
    found = store.latest(instrument=instrument, limit=limit) if also_resolved else store.current()
    if instrument is not None:
        found = [item for item in found if item.instrument == instrument]
    rows = [actions.row(services, item) for item in found]
    silences = store.silences(now=services.now())
    if as_json:
        print_json({"alerts": rows, "silences": [item.model_dump() for item in silences]})
    elif rows:
        print_table([{**item, "sent": _sent(item["messages"])} for item in rows], _COLUMNS)
    else:
        say("no alert is open")
    for item in silences if not as_json else ():
        about = item.instrument or f"{item.kind} {item.subject}"
        say(f"silence {item.id}: {about} until {item.until:%Y-%m-%d %H:%M} UTC: {item.reason}")
    sys.exit(1 if any(item["resolved_at"] is None for item in rows) else 0)


def _sent(messages: Any) -> str:
    states = [item["state"] for item in messages]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "-"


@alerts.command()
@click.argument("ids", nargs=-1, required=True)
@click.pass_obj
@reported
def ack(path: Path, ids: tuple[str, ...]) -> None:
    """Say that you have seen alerts: no more reminders of them. Their end is told."""
    services = open_services(path)
    for name in ids:
        done = actions.acknowledge(services, name, by=user_name())
        say(f"acknowledged: {done.summary}")


@alerts.command()
@click.option("--kind", type=_KINDS, help="Only alerts of this kind.")
@click.option("--subject", help="Only alerts on this subject, as `list` has it.")
@click.option("--instrument", help="Maintenance: everything of this instrument.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="For how long.")
@click.option("--reason", default="", help="Why; whoever wonders reads it.")
@click.option("--end", "ends", metavar="ID", help="End this silence now.")
@click.pass_obj
@reported
def silence(
    path: Path,
    *,
    kind: str | None,
    subject: str | None,
    instrument: str | None,
    hours: float | None,
    reason: str,
    ends: str | None,
) -> None:
    """Tell nobody of some alerts for a while. What holds when the silence ends is told then."""
    services = open_services(path)
    if ends is not None:
        if not services.store.alerts.end_silence(ends, now=services.now()):
            raise InputRefused("No such silence", file=ends, next_step="see `kraken alerts list`.")
        say(f"ended: {as_text(ends)}")
        return
    if hours is None:
        raise click.UsageError("--hours, or --end ID")
    if instrument is not None and instrument not in services.config.instruments:
        raise click.UsageError(f"no such instrument: {instrument}")
    made = actions.silence(
        services,
        kind=kind or "*",
        subject=subject or "*",
        instrument=instrument,
        until=services.now() + timedelta(hours=hours),
        reason=reason,
        by=user_name(),
    )
    say(f"silence {made.id} until {made.until:%Y-%m-%d %H:%M} UTC")


@alerts.command()
@click.argument("channel", required=False)
@click.pass_obj
@reported
def test(path: Path, channel: str | None) -> None:
    """Send a message by every channel, or by CHANNEL or an audience's; 1 if one fails."""
    results = list(actions.try_channels(open_services(path), only=channel))
    if not results:
        say("no such channel: name some in `alerts` of instruments.yaml", err=True)
    for name, problem in results:
        say(f"{name}: {'sent' if problem is None else problem}")
    sys.exit(1 if not results or any(problem for _, problem in results) else 0)


@alerts.command()
@json_option
@click.pass_obj
@reported
def rules(path: Path, *, as_json: bool) -> None:
    """Every rule: when it holds, its thresholds, and whose it is."""
    limits = load_config(path).alerts.thresholds.model_dump()
    rows = [
        {
            "kind": rule.kind,
            "severity": rule.severity,
            "audience": rule.audience,
            "condition": rule.condition,
            "thresholds": {name: limits[name] for name in rule.thresholds},
            "from": rule.source,
            "next_step": rule.next_step,
        }
        for rule in (*RULES, RULE_FAILED)
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["thresholds"] = ", ".join(f"{key}: {value}" for key, value in row["thresholds"].items())
    print_table(rows, ["kind", "severity", "audience", "condition", "thresholds", "from"])


@alerts.command()
@click.pass_obj
@reported
def watch(path: Path) -> None:
    """Look after alerts until Ctrl-C, beside the sensor or from another machine.

    On the machine of `kraken up` it also sees whether Dagster's daemon lives.
    """
    services = open_services(path)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    facts = _dagster_of(services)
    where = "with" if facts is not None else "without"
    say(f"looking every {services.config.alerts.look_every_s} s, {where} Dagster; end by Ctrl-C")
    watch_alerts(services, dagster=facts, by="kraken alerts watch", stopping=stopping, say=say)


def _dagster_of(services: Services) -> Callable[[], DagsterFacts] | None:
    """What asks this configuration's Dagster, if it is on this machine."""
    home = dagster_home(services.config)
    if not (home / "dagster.yaml").exists():
        return None

    def ask() -> DagsterFacts:
        with open_dagster(home) as instance:
            return dagster_facts(instance, services.config, now=services.now())

    return ask
