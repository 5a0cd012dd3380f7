"""Puts what rules found together with the alerts that MongoDB knows: opened, held, resolved.

Each change is compared and set, with the event that somebody is to be told of in the same write.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from kraken_dagster.alerts.rules.causes import Cause
from kraken_dagster.alerts.rules.registry import RULES, Findings, Found
from kraken_dagster.config.alerts import Alerts
from kraken_dagster.model.alerts.alert import (
    Manners,
    does_not_hold,
    opened,
    silenced_until,
    still_holds,
)
from kraken_dagster.store.connection import Store

_ONCE = frozenset(rule.kind for rule in RULES if rule.once)


def manners_of(settings: Alerts) -> Manners:
    return Manners(
        remind_after=timedelta(hours=settings.remind_after_hours),
        more_after=timedelta(minutes=settings.more_after_minutes),
    )


def update_alerts(
    store: Store, findings: Findings, *, manners: Manners, unknown: Sequence[str], now: datetime
) -> None:
    """Brings `alert` up to date with a look.

    Args:
        unknown: instruments of which this look knows nothing.

    Raises:
        StoreUnavailable
    """
    silences = store.alerts.silences(now=now)
    current = {(item.kind, item.subject): item for item in store.alerts.current()}
    found = {item.key: item for item in findings.found}
    causes = [item.as_cause for item in findings.found]
    causes += [Cause(item.kind, item.subject, item.instrument) for item in current.values()]
    for key, item in found.items():
        if any(cause.explains(item.as_cause) for cause in causes):
            continue
        quiet_until = silenced_until(silences, key[0], item.condition, now)
        if key in current:
            after = still_holds(
                current[key], item.condition, manners=manners, now=now, quiet_until=quiet_until
            )
            store.alerts.change(current[key], after)
        else:
            _open(store, item, quiet_until, now)
    for key, alert in current.items():
        is_known = key[0] not in findings.unjudged and alert.instrument not in unknown
        if key not in found and is_known:
            store.alerts.change(alert, does_not_hold(alert, now=now))


def _open(store: Store, item: Found, quiet_until: datetime | None, now: datetime) -> None:
    rule, condition = item.rule, item.condition
    last = store.alerts.last_of(rule.kind, condition.subject)
    if last is not None and rule.kind in _ONCE:
        return
    alert = opened(
        condition,
        kind=rule.kind,
        severity=rule.severity,
        audience=rule.audience,
        next_step=rule.next_step,
        number=1 if last is None else last.number + 1,
        now=now,
        quiet_until=quiet_until,
        tells_end=not rule.once,
    )
    store.alerts.open(alert)
