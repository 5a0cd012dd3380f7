"""A backup that was found damaged and is whole again: the file ends as it had ended before."""

from collections.abc import Mapping

from kraken_dagster.backup.outcome import BackupOutcome, verify
from kraken_dagster.model.files.debris import without_gone_debris
from kraken_dagster.model.raw_file import BackupStatus, FileFact, RawFile, Status
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services


def prove_in_place(services: Services, held: Held) -> BackupOutcome:
    """For a file that was purged there is nothing to copy, only to read what is in the backup.

    Raises:
        NotRecorded, BackupDamaged
    """
    outcome = verify(services, held.raw_file)
    held.raw_file = held.transition(
        Status.COPYING,
        fields={"retry_at": None},
    )
    after = held.transition(
        Status.COPYING_DONE,
        reason="the backup is what was recorded, after all",
        fields={"backup_status": BackupStatus.COPYING_DONE, "failures": 0},
    )
    after = end_as_before(services, held, after, outcome.facts)
    return BackupOutcome(after, True, outcome.reason, outcome.facts, proven=outcome.proven)


def end_as_before(
    services: Services, held: Held, after: RawFile, facts: Mapping[str, FileFact]
) -> RawFile:
    """What was processed before from these very bytes is not processed once more.

    It ends with the words that it had ended with too: what failed then is still so.
    """
    before = held.raw_file
    if before.ended_as is None or not _are_same(facts, before.file_info):
        return after
    details = before.ended_details or _details_in_history(services, before)
    reason = "its backup is whole again; it had ended like this before"
    return held.transition(
        before.ended_as,
        of=after,
        reason=reason if details is None else f"{reason}: {details}",
        fields={"ended_as": None, "ended_details": None, "status_details": details},
    )


def _are_same(facts: Mapping[str, FileFact], recorded: Mapping[str, FileFact]) -> bool:
    """Whether sizes and digests are; an ETag is of another copy."""
    recorded = without_gone_debris(recorded, facts)
    return facts.keys() == recorded.keys() and all(
        fact.size == recorded[name].size and not recorded[name].differs(fact)
        for name, fact in facts.items()
    )


def _details_in_history(services: Services, before: RawFile) -> str | None:
    """With which words it ended, where the damage was recorded without them."""
    ends = [
        event
        for event in services.store.raw_files.get(before.id).history
        if event.get("to") == before.ended_as != event.get("from")
    ]
    return ends[-1].get("reason") if ends else None
