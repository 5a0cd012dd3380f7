"""Sends what waits in the queue: each try is counted before it is made, and none is the last
until a message is given up."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_dagster.alerts.channels.channel import Way
from kraken_dagster.config.alerts import Alerts
from kraken_dagster.model.alerts.outbox import Message, is_hopeless, pause_after
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.store.connection import Store

_WITHIN_S = 30.0  # a look is a tick of a sensor, which must end
# A second one shows whether it is the channel that takes nothing, or it refuses one message.
_FAILURES_IN_A_LOOK = 2


@dataclass
class Sent:
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    given_up: int = 0


def send_due(store: Store, settings: Alerts, ways: Mapping[str, Way], *, now: datetime) -> Sent:
    """Sends the messages whose time has come, the oldest first; what is left goes at a later look.

    A channel that fails twice is left alone until the next try of what failed last.

    Raises:
        StoreUnavailable
    """
    give_up_after = timedelta(hours=settings.give_up_after_hours)
    result, failures, until = Sent(), Counter[str](), time.monotonic() + _WITHIN_S
    due, waiting = store.outbox.due(now), store.outbox.waiting()
    unknown = _unknown(due, waiting)
    for message in _in_order(due, waiting):
        if any(message.follows(item) for item in unknown):
            continue  # its beginning may have to be sent once more
        if is_hopeless(message, give_up_after=give_up_after, now=now):
            store.outbox.give_up(message)
            result.given_up += 1
        elif failures[message.channel] < _FAILURES_IN_A_LOOK and time.monotonic() < until:
            next_try_at = now + pause_after(message.tries + 1)
            if not store.outbox.claim(message, next_try_at=next_try_at):
                continue  # somebody else sends it
            went, problem = _send(store, message, ways.get(message.channel), now=now)
            result.sent += went
            failures[message.channel] += not went
            if problem is not None:
                result.failed.append(f"{message.channel}: {problem}")
            if failures[message.channel] == _FAILURES_IN_A_LOOK:
                store.outbox.postpone(message.channel, until=next_try_at)
    return result


def _unknown(due: Sequence[Message], waiting: Sequence[Message]) -> list[Message]:
    """Those that somebody sends just now, or died while sending: nobody knows yet whether they
    went, and they come again when they are due."""
    again = {item.id for item in due}
    return [item for item in waiting if item.is_tried and item.id not in again]


def _in_order(due: Sequence[Message], waiting: Sequence[Message]) -> list[Message]:
    """What is due, and what failed before on the same channels: that a channel takes something
    again serves all, and an end is never told before its beginning."""
    channels = {item.channel for item in due}
    failed = [item for item in waiting if item.error is not None and item.channel in channels]
    found = {item.id: item for item in (*due, *failed)}
    return sorted(found.values(), key=lambda item: item.created_at)


def _send(
    store: Store, message: Message, way: Way | None, *, now: datetime
) -> tuple[bool, str | None]:
    """Whether it went, and what somebody should know of that."""
    if way is None:
        problem = "no such channel in instruments.yaml any more"
    else:
        try:
            remark = way.send(message)
        except KrakenError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - a channel's fault stops no other
            problem = type(error).__name__  # its text may hold a secret of the channel's
        else:
            store.outbox.sent(message, now=now, remark=remark)
            return True, remark
    store.outbox.failed(message, error=problem)
    return False, problem
