"""What is wrong in the end, by the facts alone. Nothing of the product is asked or imported."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import combinations
from typing import Any, NamedTuple

from kraken_dagster_tests.chaos.facts import (
    PART_PREFIX,
    Acquired,
    Content,
    Facts,
    Members,
    is_ours,
    stem_of,
)
from kraken_dagster_tests.chaos.judging.statuses import lying, never_ended


class Kind(StrEnum):
    LOST = "lost"
    ALTERED = "altered"
    DOUBLED = "doubled"
    PARTIAL = "partial"
    STARTED_TWICE = "started twice"
    DELETED_UNPROVEN = "deleted unproven"
    LYING = "lying status"
    NEVER_ENDED = "never ended"
    STRAY = "outside the stores"
    FOREIGN = "foreign file touched"


class Finding(NamedTuple):
    kind: Kind
    what: str


def judge(facts: Facts) -> list[Finding]:
    """Everything that is wrong; an empty list is what a run must end with."""
    found = [
        *_as(Kind.LOST, _lost(facts)),
        *_as(Kind.ALTERED, _altered(facts)),
        *_as(Kind.DOUBLED, _doubled(facts)),
        *_as(Kind.PARTIAL, _partial(facts)),
        *_as(Kind.STARTED_TWICE, _started_twice(facts)),
        *_as(Kind.DELETED_UNPROVEN, _deleted_unproven(facts)),
        *_as(Kind.LYING, lying(facts)),
        *_as(Kind.NEVER_ENDED, never_ended(facts)),
        *_as(Kind.STRAY, facts.strays),
        *_as(Kind.FOREIGN, _foreign(facts)),
    ]
    return sorted(set(found))


def _as(kind: Kind, lines: Iterable[str]) -> Iterator[Finding]:
    return (Finding(kind, line) for line in lines)


def _lost(facts: Facts) -> Iterator[str]:
    """Bytes that an instrument wrote and that stand neither there nor in the backup."""
    anywhere = {*facts.instruments.values(), *facts.backup.values()}
    for item in facts.acquired:
        if item.removed and not item.removed_whole:
            continue
        for tail, content in item.final.items():
            if content not in anywhere:
                yield f"{item.instrument}/{item.names[-1]}: {tail} ({content.size} bytes)"


def _altered(facts: Facts) -> Iterator[str]:
    """Files under an acquisition's name that hold what nobody wrote."""
    for path, content in facts.backup.items():
        if is_ours(path) or content.md5 == facts.flipped.get(path):
            continue
        claimed = _claimed(facts, path)
        if claimed and not _holds_less(path, content, claimed) and not _known(content, claimed):
            yield f"in the backup: {path}"
        if not claimed:
            yield f"in the backup, and no instrument wrote anything of that name: {path}"
    for path, content in facts.instruments.items():
        if path not in facts.foreign and not _known(content, facts.acquired):
            yield f"on the instrument: {path}"
    yield from _wrong_inputs(facts)


def _wrong_inputs(facts: Facts) -> Iterator[str]:
    """Jobs that were shown other bytes than any instrument wrote."""
    written = {
        content.md5 for item in facts.acquired for it in item.contents for content in it.values()
    }
    flipped = set(facts.flipped.values())
    for note in facts.ledger:
        if note["event"] == "saw" and note["md5"] not in written | flipped:
            yield f"what the job {note['job']} was given: {note['input']}"


def _claimed(facts: Facts, path: str) -> list[tuple[Acquired, str]]:
    """The acquisitions of whose members this path has the name, and the member."""
    instrument, _, rest = path.partition("/")
    name = rest.partition("/")[2]  # behind the month
    return [
        (item, tail)
        for item in facts.acquired
        if item.instrument == instrument
        for tail in {tail for members in item.contents for tail in members}
        for known in item.names
        if name.endswith(stem_of(known) + tail)
    ]


def _known(content: Content, among: Iterable[Any]) -> bool:
    items = (item[0] if isinstance(item, tuple) else item for item in among)
    return any(content in members.values() for item in items for members in item.contents)


def _holds_less(path: str, content: Content, claimed: list[tuple[Acquired, str]]) -> bool:
    """Whether it is smaller than whatever the file was that it has the name of."""
    return all(
        content.size < members[tail].size
        for item, tail in claimed
        for members in item.contents
        if tail in members
    )


def _partial(facts: Facts) -> Iterator[str]:
    for path, content in facts.backup.items():
        claimed = [] if is_ours(path) else _claimed(facts, path)
        if claimed and _holds_less(path, content, claimed):
            yield f"in the backup: {path} ({content.size} bytes)"
    for found in facts.raw_files:
        here = backup_of(facts, found)
        if is_backed_up(found) and here and not _is_whole(facts, found, here):
            yield f"the backup of {found['_id']} has not all members: {sorted(here)}"
    for path in facts.backup:
        if any(part.startswith(PART_PREFIX) for part in path.split("/")):
            yield f"left of a copy: {path}"


def _is_whole(facts: Facts, record: Mapping[str, Any], here: Members) -> bool:
    """Whether the backup has the members, by name, that the acquisition had at some moment."""
    return any(
        set(here) == set(members)
        for item in facts.acquired
        if item.instrument == record["instrument_id"] and record["original_name"] in item.names
        for members in item.contents
    )


def is_backed_up(record: Mapping[str, Any]) -> bool:
    return record.get("backup_status") == "copying_done"


def backup_of(facts: Facts, record: Mapping[str, Any]) -> dict[str, Content]:
    """What stands in the backup under a record's id, by what follows the id's stem."""
    stem, found = stem_of(record["_id"]), {}
    for path, content in facts.backup.items():
        instrument, _, rest = path.partition("/")
        name = rest.partition("/")[2]
        if instrument == record["instrument_id"] and not is_ours(path):
            tail = name[len(stem) :]
            if name.startswith(stem) and tail.startswith((".raw", ".d/", ".wiff", ".timeseries")):
                found[tail] = content
    return found


def _doubled(facts: Facts) -> Iterator[str]:
    """One acquisition that was registered or backed up more than once under one name."""
    allowed: Counter[tuple[str, str]] = Counter()
    for item in facts.acquired:
        for name in set(item.names):
            allowed[item.instrument, name] += len(item.contents)
    records = defaultdict(list)
    for found in facts.raw_files:
        records[found["instrument_id"], found["original_name"]].append(found)
    for (instrument, name), known in records.items():
        if 0 < allowed[instrument, name] < len(known):
            yield f"{instrument}/{name} is registered {len(known)} times"
        for one, other in combinations([item for item in known if item.get("file_info")], 2):
            if _digests(one) == _digests(other):
                yield f"{instrument}/{name} is backed up as {one['_id']} and as {other['_id']}"
    yield from _doubled_results(facts)


def _doubled_results(facts: Facts) -> Iterator[str]:
    jobs = Counter(item.get("provenance", {}).get("job") for item in facts.metrics)
    for job, count in jobs.items():
        if job is not None and count > 1:
            yield f"the job {job} has {count} results"


def _digests(record: Mapping[str, Any]) -> list[Any]:
    return sorted(fact[1] for fact in record["file_info"].values())


def _started_twice(facts: Facts) -> Iterator[str]:
    """Two starts of one attempt, or two programs at work on one file with the same settings."""
    starts = [note for note in facts.ledger if note["event"] == "start"]
    for job, count in Counter(note["job"] for note in starts).items():
        if count > 1:
            yield f"{job}: {count} times"
    ended = {(n["job"], n["pid"]): n["at"] for n in facts.ledger if n["event"] == "end"}
    by_file = defaultdict(list)
    for note in starts:
        by_file[note["raw_file"], note["settings"]].append(note)
    for (raw_file, settings), notes in by_file.items():
        for one, other in combinations(sorted(notes, key=lambda note: note["at"]), 2):
            if ended.get((one["job"], one["pid"]), 0) > other["at"]:
                both = f"{one['job']} still ran when {other['job']} began"
                yield f"{raw_file} with {settings}: {both}"


def _deleted_unproven(facts: Facts) -> Iterator[str]:
    """Gone from the instrument by nobody's hand, without a whole backup at that moment."""
    for note in facts.vanished:
        if not note["whole"]:
            yield f"{note['instrument']}/{note['name']}"
    there = set(facts.instruments.values())
    recorded = {
        (found["instrument_id"], fact[1])
        for found in facts.raw_files
        if is_backed_up(found)
        for fact in found.get("file_info", {}).values()
    }
    for item in facts.acquired:
        missing = [content for content in item.final.values() if content not in there]
        if not item.removed and any((item.instrument, it.md5) not in recorded for it in missing):
            yield f"{item.instrument}/{item.names[-1]}: no verified backup of it is recorded"


def _foreign(facts: Facts) -> Iterator[str]:
    for path, content in facts.foreign.items():
        if facts.instruments.get(path) != content:
            yield path
