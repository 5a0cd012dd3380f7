"""Whether MongoDB says what is so: statuses that lie, and what never ends."""

from collections.abc import Iterator, Mapping
from typing import Any

from kraken_dagster_tests.chaos.facts import Acquired, Facts, stem_of

FINAL = frozenset(
    {"done", "done_not_quanted", "quanting_failed", "acquisition_failed", "error", "ignored"}
)
FAILED_ACQUISITION = ("corrupted", "no_main_file")
Record = Mapping[str, Any]


def never_ended(facts: Facts) -> Iterator[str]:
    """Files, jobs and acquisitions with which something is still to happen."""
    known = {(item["instrument_id"], item["original_name"]) for item in facts.raw_files}
    for item in facts.acquired:
        if not item.removed and (item.instrument, item.names[-1]) not in known:
            yield f"{item.instrument}/{item.names[-1]} was never noticed"
    for found in facts.raw_files:
        if found["status"] not in FINAL and not _can_not_be_told(facts, found):
            yield f"{found['_id']} is {found['status']}"
        elif found.get("retry_at") is not None and not _is_gone(facts, found):
            yield f"{found['_id']} is {found['status']} and waits for {found['retry_at']}"
        if found.get("lease") is not None:
            yield f"{found['_id']} is held by {found['lease']}"
    for job in facts.quant_jobs:
        if job.get("uncollected"):
            yield f"the result of {job['_id']} was never collected; it is {job['state']}"


def _is_gone(facts: Facts, record: Record) -> bool:
    """Whether operators took it away or renamed it: Kraken goes on looking for it."""
    of_it = _acquired(facts, record)
    return record["status"] == "error" and any(
        item.removed or item.names[-1] != record["original_name"] for item in of_it
    )


def _can_not_be_told(facts: Facts, record: Record) -> bool:
    """It was taken away while it was watched, and nothing else stands there: for whoever looks,
    the folder may as well be an empty mount point, which ends no acquisition."""
    head = f"{record['instrument_id']}/"
    standing = (path for path in facts.instruments if path.startswith(head))
    empty = all(path.startswith(f"{head}Backup/") or path in facts.foreign for path in standing)
    of_it = _acquired(facts, record)
    watched = record["status"] in ("queued_for_monitoring", "monitoring_acquisition")
    return watched and empty and bool(of_it) and all(item.removed for item in of_it)


def lying(facts: Facts) -> Iterator[str]:
    for found in facts.raw_files:
        of_it = _acquired(facts, found)
        if not of_it:
            yield f"{found['_id']} is recorded, and no instrument wrote it"
            continue
        problem = _STATUSES.get(found["status"], _nothing)(facts, found, of_it)
        if problem:
            details = found.get("status_details") or "no details"
            yield f"{found['_id']} is {found['status']} ({details}): {problem}"
        yield from _about_places(facts, found, of_it)
    for path, now in facts.flipped.items():
        if facts.backup.get(path, (0, ""))[1] == now:
            yield from _untold(facts, path)


def _acquired(facts: Facts, record: Record) -> list[Acquired]:
    """The acquisitions that may be meant by a record."""
    return [
        item
        for item in facts.acquired
        if item.instrument == record["instrument_id"] and record["original_name"] in item.names
    ]


def _nothing(_facts: Facts, _record: Record, _acquired: list[Acquired]) -> str | None:
    return None


def _done(facts: Facts, record: Record, acquired: list[Acquired]) -> str | None:
    jobs = [item for item in facts.quant_jobs if item["raw_file"] == record["_id"]]
    good = [item for item in jobs if item["state"] == "succeeded"]
    results = {item.get("provenance", {}).get("job") for item in facts.metrics}
    ended = {note["job"] for note in facts.ledger if note["event"] == "end" and note["exit"] == 0}
    if not any(job["_id"] in results for job in good):
        return "no job of it has metrics"
    proven = [job for job in good if job["_id"] in ended and job["_id"] in results]
    if not proven:
        return "by the ledger no job of it has ended well"
    if not any(f"{job['relative_output_path']}/msqc_results.tsv" in facts.output for job in proven):
        return "its result is not in the output"
    return None


def _not_quanted(facts: Facts, record: Record, acquired: list[Acquired]) -> str | None:
    if not any(item.fate == "dda" for item in acquired):
        return "it was to be processed"
    return None


def _quanting_failed(facts: Facts, record: Record, acquired: list[Acquired]) -> str | None:
    ends = [n for n in facts.ledger if n["event"] == "end" and n["raw_file"] == record["_id"]]
    if record["_id"] in facts.jobs_hurt or (ends and ends[-1]["exit"] != 0):
        return None
    return "none of its jobs failed"


def _acquisition_failed(facts: Facts, record: Record, acquired: list[Acquired]) -> str | None:
    if any(item.fate in FAILED_ACQUISITION or item.removed for item in acquired):
        return None
    if any(record["original_name"] != item.names[-1] for item in acquired):
        return None  # somebody has renamed it
    return "the acquisition went well"


def _error(facts: Facts, record: Record, acquired: list[Acquired]) -> str | None:
    stem = stem_of(record["_id"])
    if any(
        path.startswith(record["instrument_id"]) and f"/{stem}." in path for path in facts.flipped
    ):
        return None
    if any(item.removed or item.names[-1] != record["original_name"] for item in acquired):
        return None
    if any(len(item.contents) > 1 for item in acquired):
        return None  # it was replaced or grew after its end: a person must say what counts
    return "nothing was wrong with it"


_STATUSES = {
    "done": _done,
    "done_not_quanted": _not_quanted,
    "quanting_failed": _quanting_failed,
    "acquisition_failed": _acquisition_failed,
    "error": _error,
}


def _about_places(facts: Facts, record: Record, acquired: list[Acquired]) -> Iterator[str]:
    """What the record says of the backup and of the instrument, and what stands there."""
    name, recorded = record["_id"], record.get("file_info") or {}
    flipped = any(record["_id"].rpartition(".")[0] in path for path in facts.flipped)
    if record.get("backup_status") == "copying_done" and not flipped:
        stand = {
            content
            for path, content in facts.backup.items()
            if path.startswith(record["instrument_id"] + "/")
        }
        lacking = [key for key, fact in recorded.items() if (int(fact[0]), fact[1]) not in stand]
        if lacking or not recorded:
            yield f"{name} is backed up by its record, and the backup lacks {lacking or 'all'}"
    mains = {(int(fact[0]), fact[1]) for fact in recorded.values()}
    place = record.get("instrument_file_status")
    if not mains or any(item.removed or len(item.names) > 1 for item in acquired):
        return
    stem = record["original_name"].rpartition(".")[0]
    aside = _standing(facts, record["instrument_id"], stem, inside=True)
    folder = _standing(facts, record["instrument_id"], stem, inside=False)
    if place == "moved" and not mains <= aside:
        yield f"{name} is archived by its record, and Backup/ lacks it"
    if place == "purged" and mains & aside:
        yield f"{name} is purged by its record, and stands in Backup/"
    if place == "initial" and not mains <= folder | aside:
        yield f"{name} is on the instrument by its record, and is not there"


def _standing(facts: Facts, instrument_id: str, stem: str, *, inside: bool) -> set[tuple[int, str]]:
    """What stands in the instrument's `Backup/`, or beside it, under a name of this acquisition.

    A companion of another one may have the very same content.
    """
    head = f"{instrument_id}/Backup/"
    return {
        content
        for path, content in facts.instruments.items()
        if path.startswith(f"{instrument_id}/") and path.startswith(head) == inside and stem in path
    }


def _untold(facts: Facts, path: str) -> Iterator[str]:
    """A backup that somebody damaged must be told as such."""
    reported = [
        item
        for item in facts.raw_files
        if item["instrument_id"] == path.partition("/")[0]
        and f"/{stem_of(item['_id'])}." in path
        and item["status"] == "error"
    ]
    if not reported:
        yield f"the backup is damaged, and no record says so: {path}"
