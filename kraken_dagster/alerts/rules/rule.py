"""What a rule is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_dagster.alerts.snapshot import Snapshot
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.alerts.alert import Audience, Condition, Severity

ALPHAKRAKEN = "AlphaKraken"
KRAKEN = "Kraken"
Check = Callable[[Snapshot, Thresholds, datetime], Iterable[Condition]]


@dataclass(frozen=True)
class Rule:
    """One kind of alert.

    Args:
        condition: when it holds, in words.
        thresholds: the names of the options that it goes by.
        source: whose rule and defaults they are.
        once: told once for a subject and never again; nobody is told of its end.
        needs_dagster: it is judged only where Dagster is reached.
        of_silence: it tells of what was not looked at for long. After a gap in the looks that is
            no news before everything had time to be looked at again.
    """

    kind: str
    severity: Severity
    audience: Audience
    condition: str
    next_step: str
    check: Check
    thresholds: tuple[str, ...] = ()
    source: str = KRAKEN
    once: bool = False
    needs_dagster: bool = False
    of_silence: bool = False


def lasted(since: datetime, now: datetime) -> str:
    """`3 h`, as a person says how long ago something was."""
    passed = max(now - since, timedelta(0))
    if passed < timedelta(hours=2):
        return f"{passed / timedelta(minutes=1):.0f} min"
    if passed < timedelta(days=2):
        return f"{passed / timedelta(hours=1):.0f} h"
    return f"{passed / timedelta(days=1):.0f} days"
