"""When the queue of an operator has ended: it stopped, or somebody else has taken over.

The rules and their defaults are AlphaKraken's (`monitoring/alerts/queue_stop_alert.py` there).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_dagster.alerts.snapshot import FileName

STOP, HANDOFF = "stop", "handoff"
# What follows is looked at only, so that of `_SA_AnSc_` both are found.
_INITIALS = re.compile(r"_([A-Za-z]{2,8})(?=_)")


@dataclass(frozen=True)
class QueueEnd:
    """`file` is the last one of the operator who is told."""

    kind: str
    file: str
    user: str
    gradient: timedelta
    pause: timedelta | None = None


def initials_in(name: str, users: Collection[str]) -> str | None:
    """The first initials between two `_` that are somebody's."""
    return next((found[1] for found in _INITIALS.finditer(name) if found[1] in users), None)


def queue_end(
    newest: Sequence[FileName],
    users: Collection[str],
    *,
    pauses: float,
    longest_gradient: timedelta,
    now: datetime,
) -> QueueEnd | None:
    """Whose queue has ended.

    Args:
        newest: the files that were made last, newest first.
        users: initials of those who are told.
        pauses: a pause of more than so many gradients is a stop.
        longest_gradient: two files further apart are of two queues.
    """
    if len(newest) < 2:
        return None
    first, second = newest[0], newest[1]
    of_first, of_second = initials_in(first.id, users), initials_in(second.id, users)
    gradient, pause = first.at - second.at, now - first.at
    if of_first is not None and of_first == of_second:
        is_queue = timedelta(0) < gradient <= longest_gradient
        if is_queue and pause > pauses * gradient:
            return QueueEnd(STOP, first.id, of_first, gradient, pause)
        return None
    if len(newest) < 3 or of_second is None or of_second != initials_in(newest[2].id, users):
        return None
    gradient = second.at - newest[2].at
    if gradient > longest_gradient:
        return None
    return QueueEnd(HANDOFF, second.id, of_second, gradient)
