"""`kraken show --all`: every field, under the names that it has in MongoDB."""

import shlex
from typing import Any

from kraken_dagster.cli.common import as_text, print_table, say
from kraken_dagster.model.files.second_digest import DigestKind


def print_all(found: dict[str, Any]) -> None:
    """What `file_report.show` has found."""
    for name, value in found.items():
        if isinstance(value, dict) and name != "file_info":
            for part, detail in value.items():
                say(f"{name + '.' + part:28} {as_text(detail)}")
        elif name not in ("file_info", "jobs", "metrics", "quality", "history"):
            say(f"{name:28} {as_text(value)}")
    for name, fact in found["file_info"].items():
        say(f"{'member':28} {fact['md5']}  {fact['size_bytes']:>12}  {as_text(name)}")
        for kind in DigestKind:
            if kind.value in fact:
                say(f"{'':28} {kind.in_words} {fact[kind.value]}")
    for job in found["jobs"]:
        where = f"{job['_id']}: {job['state']} ({job['cluster_job_id']} on {job['engine']})"
        where += f" in {job['output_path']}"
        where += f": {job['detail']}" if job["detail"] else ""
        say(f"{'job':28} {as_text(where)}")
    for result in found["metrics"]:
        _print_result(result)
    for row in found["quality"]:
        judged = f"{row['class']}, {row['settings']}: {row['verdict']}: {row['reason']}"
        say(f"{'quality':28} {as_text(judged)}")
    columns = ["at", "from", "to", "reason", "run_id"]
    print_table(found["history"], columns)


def _print_result(result: dict[str, Any]) -> None:
    """Metrics, and where they come from; documents of other programs lack some of it."""
    name, version = result.get("settings_name", "n/a"), result.get("settings_version", 1)
    mark = "" if result["current"] else " (an older or incomplete one)"
    say(f"{'metrics':28} {as_text(f'{name} v{version}{mark}')}")
    for key, value in result.items():
        if isinstance(value, int | float) and key not in ("settings_version", "current"):
            say(f"  {as_text(key):36} {value}")
    for key, value in (result.get("provenance") or {}).items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                words = " ".join(str(part) for part in item.values() if part is not False)
                say(f"  {'from ' + key:36} {as_text(words)}")
        elif isinstance(value, dict):
            words = ", ".join(f"{part} {detail}" for part, detail in value.items())
            say(f"  {'from ' + key:36} {as_text(words)}")
        elif key == "notes":
            for note in value:
                say(f"  {'from ' + key:36} {as_text(note)}")
        elif isinstance(value, list) and value:
            say(f"  {'from ' + key:36} {as_text(shlex.join(map(str, value)))}")
        elif value not in (None, []):
            say(f"  {'from ' + key:36} {as_text(value)}")
