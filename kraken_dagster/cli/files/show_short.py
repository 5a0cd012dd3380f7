"""`kraken show`: what people ask of a raw file, what matters most first, with units."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from kraken_dagster.cli.common import as_text, print_table, style_of
from kraken_dagster.metrics.catalogue import described
from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.model.printable import printable
from kraken_dagster.web.views.words import ago, day_and_time, size, span

_NAMES = 15  # characters of what stands on the left
_MEMBERS_SHOWN = 10
_METRIC_NAMES = 34


def print_short(found: Mapping[str, Any], *, now: datetime) -> None:
    """What `file_report.show` has found."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(as_text(found["id"]), style="bold"))
    for name, value in _facts(found, now):
        console.print(_line(name, value))
    for row in found["quality"]:
        line = f"{row['verdict']} ({row['class']}, {row['settings']}): {row['reason']}"
        console.print(_line("quality", line, status=row["verdict"]))
    for job in found["jobs"]:
        console.print(_line("job", _job(job)))
    for result in found["metrics"]:
        if result["current"]:
            for text in _result(result):
                console.print(text)
    older = sum(not result["current"] for result in found["metrics"])
    if older:
        words = "an older or incomplete result" if older == 1 else f"{older} older results"
        console.print(_line("metrics", f"and {words}; --all shows them"))
    for line in _members(found["file_info"]):
        console.print(_line("member", line))
    console.print()
    _print_history(found["history"])
    console.print(Text("--all shows every field, --json gives them to programs", style="dim"))


def _line(name: str, value: str, *, status: str = "") -> Text:
    text = Text(f"{name:{_NAMES}} ")
    text.append(as_text(value), style=style_of(status or value))
    return text


def _facts(found: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    """What there is, in order; nothing that is not there."""
    yield "status", found["status"]
    if found["details"]:
        yield "", found["details"]
    if found["waits_for"]:
        yield "waits for", found["waits_for"]
    if found["retry_at"]:
        yield "tried again", ago(found["retry_at"], now)
    yield "instrument", found["instrument"]
    yield "project", found["project"] or "none"
    yield "acquired", f"{day_and_time(found['created_at'])} ({ago(found['created_at'], now)})"
    if found["original_name"] != found["id"]:
        yield "original name", found["original_name"]
    yield "size", size(found["size_bytes"])
    yield "backup", " ".join(_backup(found))
    if copy := found["offsite_waits_for"] or found["offsite_in_words"]:
        yield "off-site", copy
    if found["offsite_cold"]:
        yield "", found["offsite_cold"]
    if found["instrument_file"]:
        yield "on instrument", found["instrument_file"].replace("_", " ")
    for name in ("cannot_be_moved", "cannot_be_purged"):
        if found[name]:
            yield name.replace("cannot_be_", "not "), found[name]
    read = found["raw_metrics"] or {}
    if read.get("problem") or read.get("incomplete"):
        yield "raw file", read.get("problem") or read["incomplete"]
    lease = found["lease"]
    if lease is not None:
        until = day_and_time(lease["until"])
        state = f"until {until}" if lease["until"] > now else f"no more: its lease lapsed {until}"
        yield (
            "worked on",
            f"{state}, step {lease['step']}, run {lease['run_id']} on {lease['host']}",
        )


def _backup(found: Mapping[str, Any]) -> Iterator[str]:
    yield (found["backup"] or "none yet").replace("_", " ")
    if found["backup_base_path"]:
        yield f"in {found['backup_base_path']}"
    if found["verified_at"]:
        yield f"(proven {day_and_time(found['verified_at'])})"


def _job(job: Mapping[str, Any]) -> str:
    parts = [f"{job['settings_name']} v{job['settings_version']}: {job['state']}"]
    if job.get("elapsed_s") is not None:
        parts.append(f"took {span(job['elapsed_s'])}")
    parts.append(f"{job['_id']} ({job['cluster_job_id'] or '-'} on {job['engine']})")
    parts.append(f"in {job['output_path']}")
    if job["detail"]:
        parts.append(job["detail"])
    return ", ".join(parts)


def _result(result: Mapping[str, Any]) -> Iterator[Text]:
    """Its metrics with their units; a line for each."""
    name, version = result.get("settings_name", "n/a"), result.get("settings_version", 1)
    own = str(result.get("type", ""))
    yield _line("metrics", "of the raw file itself" if own == "raw" else f"{name} v{version}")
    for key, value in result.items():
        if key in RESERVED_NAMES or key == "current" or not isinstance(value, int | float | str):
            continue
        known = described(key, own)
        unit = "" if known is None else f" {known.unit}".rstrip()
        yield Text(f"  {printable(key):{_METRIC_NAMES}} {_value(value)}{unit}")
    for note in (result.get("provenance") or {}).get("notes") or ():
        yield Text(f"  {printable(note)}", style="dim")


def _value(value: float | str) -> str:
    if isinstance(value, bool | str):
        return printable(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.7g}"


def _members(file_info: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    members = list(file_info.items())
    for name, fact in members[:_MEMBERS_SHOWN]:
        yield f"{fact['md5']}  {size(fact['size_bytes']):>10}  {as_text(name)}"
    if len(members) > _MEMBERS_SHOWN:
        yield f"and {len(members) - _MEMBERS_SHOWN} more; --all shows them"


def _print_history(history: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        {
            "at (UTC)": item.get("at"),
            "what": _change(item),
            "why": item.get("reason"),
            "run": item.get("run_id"),
        }
        for item in history
    ]
    print_table(rows, ["at (UTC)", "what", "why", "run"])


def _change(item: Mapping[str, Any]) -> str:
    old, new = item.get("from"), item.get("to")
    return f"{new}" if old in (None, new) else f"{old} -> {new}"
