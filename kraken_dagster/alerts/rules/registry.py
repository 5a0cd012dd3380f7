"""Every rule, and what they find together: one that fails is itself an alert and stops no other."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from kraken_dagster.alerts.rules import disks, files, health, instruments, programs
from kraken_dagster.alerts.rules.rule import Rule
from kraken_dagster.alerts.snapshot import DagsterFacts, Snapshot
from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.model.alerts.alert import Audience, Condition, Severity

RULES: tuple[Rule, ...] = (
    *health.RULES,
    *disks.RULES,
    *files.RULES,
    *instruments.RULES,
    *programs.RULES,
)
_ALL = "*"
# What explains what: an alert of the first kind on the subject keeps those of the others, for the
# same instrument or for all, from being told: one cause is one alert.
_EXPLAINED_BY: tuple[tuple[str, str, frozenset[str]], ...] = (
    (programs.DAEMON_SILENT, _ALL, frozenset({"stale_status", "sensor_silent"})),
    (
        "health_failed",
        f"{disks.FILE_SYSTEM}backup",
        frozenset({"status_pile_up", "no_backup", "not_moved"}),
    ),
    ("health_failed", f"{disks.FILE_SYSTEM}output", frozenset({"status_pile_up"})),
)
_EXPLAINED_BY_ITS_OWN: tuple[tuple[str, frozenset[str]], ...] = (
    ("sensor_off", frozenset({"stale_status"})),
    ("sensor_silent", frozenset({"stale_status"})),
    ("health_failed", frozenset({"instrument_stall", "no_backup", "not_moved"})),
)
_OF_NO_INSTRUMENT = "cluster_jobs"  # the sensor that looks at stores and engines

RULE_FAILED = Rule(
    kind="rule_failed",
    severity=Severity.CRITICAL,
    audience=Audience.OPERATIONS,
    condition="a rule of alerts failed, or what it looks at can't be read",
    next_step="report it with the log; what this rule checks is not reported meanwhile.",
    check=lambda _snapshot, _limits, _now: (),
)


@dataclass(frozen=True)
class Found:
    rule: Rule
    condition: Condition

    @property
    def key(self) -> tuple[str, str]:
        return self.rule.kind, self.condition.subject


@dataclass(frozen=True)
class Findings:
    """`unjudged`: kinds of which nothing is known after this look. `explained`: what holds and
    follows from something else that holds."""

    found: tuple[Found, ...]
    unjudged: frozenset[str]
    explained: frozenset[tuple[str, str]]


def judge(
    snapshot: Snapshot, limits: Thresholds, now: datetime, *, rules: Sequence[Rule] = RULES
) -> Findings:
    found: list[Found] = []
    unjudged: set[str] = set()
    for rule in rules:
        too_early = rule.of_silence and snapshot.after_a_gap
        if too_early or not _is_known(rule, snapshot.dagster):
            unjudged.add(rule.kind)
            continue
        try:
            found += [Found(rule, item) for item in rule.check(snapshot, limits, now)]
        except Exception as error:  # noqa: BLE001 - told as an alert; the other rules go on
            unjudged.add(rule.kind)
            found.append(_failed(f"the rule {rule.kind}", error))
    found += [_failed(name, reason) for name, reason in sorted(snapshot.unknown.items())]
    return Findings(tuple(found), frozenset(unjudged), frozenset(_explained(found)))


def _is_known(rule: Rule, dagster: DagsterFacts | None) -> bool:
    """Whether it can be judged by what is known of Dagster."""
    if not rule.needs_dagster:
        return True
    return dagster is not None and (dagster.is_whole or rule.kind == programs.DAEMON_SILENT)


def _failed(subject: str, reason: object) -> Found:
    details = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
    return Found(
        RULE_FAILED,
        Condition(subject=subject, summary=f"{subject} can't be judged", details=details),
    )


def _explained(found: Iterable[Found]) -> Iterator[tuple[str, str]]:
    found = list(found)
    for item in found:
        if any(_explains(cause, item) for cause in found if cause is not item):
            yield item.key


def _explains(cause: Found, item: Found) -> bool:
    kind = item.rule.kind
    for cause_kind, subject, kinds in _EXPLAINED_BY:
        named = subject in (_ALL, cause.condition.subject)
        if cause.rule.kind == cause_kind and named and kind in kinds:
            return True
    for cause_kind, kinds in _EXPLAINED_BY_ITS_OWN:
        if cause.rule.kind == cause_kind and kind in kinds:
            instrument = cause.condition.instrument
            if instrument is not None and instrument == item.condition.instrument:
                return True
            if (
                cause.condition.subject.startswith(_OF_NO_INSTRUMENT)
                and item.condition.instrument is None
            ):
                return True
    return False
