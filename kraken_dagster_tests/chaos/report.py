"""What a run came to: a table for people, and the same as JSON for programs."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kraken_dagster_tests.chaos.facts import Facts
from kraken_dagster_tests.chaos.judging.judge import Finding, Kind
from kraken_dagster_tests.chaos.plan import Plan


def report_of(
    plan: Plan,
    facts: Facts,
    findings: list[Finding],
    *,
    faults: list[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    counts = Counter(finding.kind for finding in findings)
    return {
        "seed": plan.seed,
        "minutes": plan.minutes,
        "seconds_in_all": round(seconds),
        "files": len(facts.acquired),
        "traits": Counter(item.trait for item in plan.acquisitions),
        "through_fuse": sorted(plan.through_fuse),
        "faults": sum(item["done"] for item in faults),
        "faults_by_kind": Counter(item["kind"] for item in faults if item["done"]),
        "faults_with_nothing_to_hit": sum(not item["done"] for item in faults),
        "statuses": Counter(str(item["status"]) for item in facts.raw_files),
        "on_the_instrument": Counter(
            str(item.get("instrument_file_status")) for item in facts.raw_files
        ),
        "jobs_started": sum(note["event"] == "start" for note in facts.ledger),
        "deletions_witnessed": len(facts.vanished),
        "findings": {str(kind): counts[kind] for kind in Kind},
        "each": [[str(finding.kind), finding.what] for finding in findings],
        "acquisitions": [asdict(item) for item in plan.acquisitions],
        "each_fault": faults,
    }


def write(report: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(report, indent=1, default=str))


def in_words(report: dict[str, Any]) -> str:
    heads = (
        *("seed", "minutes", "seconds_in_all", "files", "traits", "through_fuse", "faults"),
        *("faults_by_kind", "faults_with_nothing_to_hit", "statuses", "on_the_instrument"),
        *("jobs_started", "deletions_witnessed"),
    )
    lines = [f"{head.replace('_', ' '):>28}  {_value(report[head])}" for head in heads]
    lines.append("")
    lines.extend(f"{count:>6}  {kind}" for kind, count in report["findings"].items())
    lines.extend(f"  {kind}: {what}" for kind, what in report["each"])
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in sorted(value.items()))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
