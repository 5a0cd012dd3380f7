"""Sends what waits in the queue: each try is counted before it is made, and none is the last
until a message is given up."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_dagster.alerts.channels.channel import Way
from kraken_dagster.config.alerts import Alerts
from kraken_dagster.model.alerts.outbox import Message, is_hopeless, pause_after
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.store.connection import Store

_WITHIN_S = 30.0  # a look is a tick of a sensor, which must end


@dataclass
class Sent:
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    given_up: int = 0


def send_due(store: Store, settings: Alerts, ways: Mapping[str, Way], *, now: datetime) -> Sent:
    """Sends the messages whose time has come, the oldest first; what is left goes at the next look.

    A channel that fails is tried once in a look.

    Raises:
        StoreUnavailable
    """
    give_up_after = timedelta(hours=settings.give_up_after_hours)
    result, failing, until = Sent(), set[str](), time.monotonic() + _WITHIN_S
    for message in store.outbox.due(now):
        if is_hopeless(message, give_up_after=give_up_after, now=now):
            store.outbox.give_up(message)
            result.given_up += 1
        elif message.channel not in failing and time.monotonic() < until:
            problem = _send(store, message, ways.get(message.channel), now=now)
            if problem is None:
                result.sent += 1
            elif problem:
                failing.add(message.channel)
                result.failed.append(f"{message.channel}: {problem}")
    return result


def _send(store: Store, message: Message, way: Way | None, *, now: datetime) -> str | None:
    """Why it was not sent; empty if somebody else sends it, None if it was."""
    if not store.outbox.claim(message, next_try_at=now + pause_after(message.tries + 1)):
        return ""
    if way is None:
        problem = "no such channel in instruments.yaml any more"
    else:
        try:
            way.send(message)
        except KrakenError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - a channel's fault stops no other
            problem = type(error).__name__  # its text may hold a secret of the channel's
        else:
            store.outbox.sent(message, now=now)
            return None
    store.outbox.failed(message, error=problem)
    return problem
