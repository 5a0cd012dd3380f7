"""Every rule, and what they find together: one that fails is itself an alert and stops no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kraken_dagster.alerts.rules import disks, files, health, instruments, programs
from kraken_dagster.alerts.rules.causes import Cause
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

    @property
    def as_cause(self) -> Cause:
        return Cause(*self.key, self.condition.instrument)


@dataclass(frozen=True)
class Findings:
    """`unjudged`: kinds of which nothing is known after this look."""

    found: tuple[Found, ...]
    unjudged: frozenset[str]


def judge(
    snapshot: Snapshot, limits: Thresholds, now: datetime, *, rules: Sequence[Rule] = RULES
) -> Findings:
    found: list[Found] = []
    unjudged: set[str] = set()
    for rule in rules:
        if _is_too_early(rule, snapshot) or not _is_known(rule, snapshot.dagster):
            unjudged.add(rule.kind)
            continue
        try:
            found += [Found(rule, item) for item in rule.check(snapshot, limits, now)]
        except Exception as error:  # noqa: BLE001 - told as an alert; the other rules go on
            unjudged.add(rule.kind)
            found.append(_failed(f"the rule {rule.kind}", error))
    found += [_failed(name, reason) for name, reason in sorted(snapshot.unknown.items())]
    return Findings(tuple(found), frozenset(unjudged))


def _is_too_early(rule: Rule, snapshot: Snapshot) -> bool:
    """Whether what it looks at had no time yet to be looked at. A daemon that looks is alive."""
    after = snapshot.after_a_gap or (snapshot.after_silence and rule.kind != programs.DAEMON_SILENT)
    return rule.of_silence and after


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
