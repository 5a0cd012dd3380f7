"""Why a file is where it is: what it waits for, why it failed, and what to do about it."""

from collections.abc import Mapping, Sequence
from typing import Any

from kraken_dagster.model.raw_file import FINAL, Status
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.one_file import one_file

_NEXT = "Next: "  # as every message of Kraken's begins its next step
_MOST_JOBS, _MOST_RESULTS, _MOST_EVENTS = 10, 50, 20
_LOG_CHARACTERS = 2_000  # the last ones, which say how a program ended
_OF_FILE: tuple[str, ...] = (
    "instrument",
    "project",
    "status",
    "details",
    "waits_for",
    "retry_at",
    "created_at",
)
_OF_FILE += ("size_bytes", "backup", "backup_base_path", "verified_at", "instrument_file")
_OF_FILE += ("cannot_be_moved", "cannot_be_purged", "offsite_in_words", "offsite_waits_for")
_OF_JOB: tuple[str, ...] = (
    "settings_name",
    "settings_version",
    "software",
    "engine",
    "state",
    "cluster_job_id",
)
_OF_JOB += ("exit_code", "detail", "error_codes", "started_at", "ended_at", "elapsed_s")
_OF_RESULT = ("type", "settings_name", "settings_version", "created_at_", "current")
_OF_VERDICT = ("class", "settings", "verdict", "words", "reason", "judged_at")

Row = dict[str, Any]


def explain(services: Services, file_id: str) -> Row:
    """A file's state in short, with `next_step`; the newest jobs, results and events.

    Raises:
        UnknownRawFile, StoreError
    """
    found = one_file(services, file_id)
    return {
        "file": found["id"],
        **_only(found, _OF_FILE),
        "next_step": next_step(found),
        "members": len(found["file_info"]),
        "jobs": [_job(item) for item in found["jobs"][-_MOST_JOBS:]],
        "results": [_only(item, _OF_RESULT) for item in found["metrics"][:_MOST_RESULTS]],
        "quality": [_only(item, _OF_VERDICT) for item in found["quality"]],
        "history": found["history"][-_MOST_EVENTS:],
    }


def next_step(found: Mapping[str, Any]) -> str:
    """What a person is to do, from what is known of the file."""
    said = [found.get(name) or "" for name in ("details", "waits_for")]
    steps = [text.partition(_NEXT)[2] for text in said if _NEXT in text]
    if found["status"] == Status.ERROR and found["retry_at"] is not None:
        before = f"{steps[0].rstrip('.')}; " if steps else ""
        return f"{before}Kraken tries again by itself at {found['retry_at']}."
    if steps:
        return steps[0]
    if found["status"] in (Status.ERROR, Status.QUANTING_FAILED):
        return "mend what the details or the job's log name, then run `kraken retry`."
    if found["waits_for"] is not None:
        return "nothing: Kraken goes on by itself when that is over."
    if found["status"] in FINAL:
        return "nothing: the file has come to its end."
    return "nothing: Kraken works on it."


def _job(found: Mapping[str, Any]) -> Row:
    return {**_only(found, _OF_JOB), "log_tail": (found.get("log_tail") or "")[-_LOG_CHARACTERS:]}


def _only(found: Mapping[str, Any], names: Sequence[str]) -> Row:
    return {name: found.get(name) for name in names}
