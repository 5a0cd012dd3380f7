"""What a purge records of a file: that it is gone from the instrument, why, and what proved it."""

from dataclasses import dataclass
from datetime import datetime

from kraken_dagster.model.offsite import OffsiteState
from kraken_dagster.model.raw_file import InstrumentFileStatus
from kraken_dagster.model.retention.refusal import PurgeIntent
from kraken_dagster.retention.proof import Proof
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.mount_check import require_right_disk
from kraken_dagster.runtime.services import Services

_GONE_KEPT = 1_000  # names; a document has no room for 40,000 long ones


@dataclass(frozen=True)
class Purged:
    """What became of a raw file on the instrument.

    `size_bytes` were freed by this run; of `files` members `gone` were not there any more, and were
    proven to be in the backup all the same. `status` is `n/a` where somebody else had deleted it.
    """

    raw_file_id: str
    status: InstrumentFileStatus
    files: int
    size_bytes: int
    gone: int
    proven_at: datetime | None
    reason: str


@dataclass(frozen=True)
class Proven:
    """What proved that a file may be deleted; `copy` is off-site, where that was asked for."""

    proof: Proof
    at: datetime
    copy: OffsiteState | None


def record_purge(
    services: Services,
    held: Held,
    proven: Proven,
    *,
    intent: PurgeIntent,
    freed: int,
) -> Purged:
    proof = proven.proof
    if intent.files == 0:
        return _gone_by_hand(services, held, gone=len(proof.gone))
    reason = _in_words(proven, intent, freed=freed, run_id=held.run_id)
    purged = {
        "at": services.now(),
        "run_id": held.run_id,
        "files": intent.files,
        "bytes": intent.bytes,
        "gone": list(proof.gone[:_GONE_KEPT]),
        "gone_files": len(proof.gone),
        "digest": "MD5",
        "proven_at": proven.at,
        "offsite": None if proven.copy is None else proven.copy.model_dump(),
        "began_at": intent.began_at,
    }
    services.store.retention.set_instrument_file(
        held.raw_file,
        InstrumentFileStatus.PURGED,
        now=services.now(),
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={"purged": purged},
    )
    files, gone = len(proof.files), len(proof.gone)
    return Purged(
        held.raw_file.id, InstrumentFileStatus.PURGED, files, freed, gone, proven.at, reason
    )


def _in_words(proven: Proven, intent: PurgeIntent, *, freed: int, run_id: str) -> str:
    proof, copy = proven.proof, proven.copy
    earlier = (
        ""
        if intent.run_id == run_id
        else f", the purge of {intent.files} files, {intent.bytes} bytes that run {intent.run_id} "
        "began, and of which it was the rest"
    )
    gone = f"; {len(proof.gone)} were gone already, and are in the backup" if proof.gone else ""
    gone += (
        f"; {len(proof.stay)} folders stay, for what a system left in them" if proof.stay else ""
    )
    if copy is not None:
        gone += f"; off-site the server has {copy.in_words}, each version as recorded"
    return (
        f"purged{earlier}: {len(proof.files)} files, {freed} bytes. Proof: every byte of them and "
        f"of the backup read until {proven.at:%Y-%m-%d %H:%M:%S} UTC, sizes and MD5 equal to each "
        f"other and to the record{gone}"
    )


def nothing_left(services: Services, held: Held) -> Purged:
    """Nothing stands there: a run of ours died before it could say so, or somebody deleted it."""
    raw_file, intent = held.raw_file, held.raw_file.purge_intent
    ours = intent is not None and intent.files > 0
    require_right_disk(services, raw_file.instrument_id, besides=raw_file.id, unproven=ours)
    if intent is None or not ours:
        return _gone_by_hand(services, held, gone=len(raw_file.file_info))
    new = InstrumentFileStatus.PURGED
    reason = (
        f"purged by run {intent.run_id}, which ended before it could say so: it had proven "
        f"{intent.files} files, {intent.bytes} bytes, at {intent.began_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    services.store.retention.set_instrument_file(
        raw_file,
        new,
        now=services.now(),
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={"gone_at": services.now()},
    )
    gone = len(raw_file.file_info)
    return Purged(raw_file.id, new, intent.files, 0, gone, intent.began_at, reason)


def _gone_by_hand(services: Services, held: Held, *, gone: int) -> Purged:
    reason = "somebody else deleted it from the instrument's Backup/; Kraken didn't"
    new = InstrumentFileStatus.NOT_APPLICABLE
    services.store.retention.set_instrument_file(
        held.raw_file,
        new,
        now=services.now(),
        reason=reason,
        run_id=held.run_id,
        lease=held.lease,
        fields={"gone_at": services.now()},
    )
    return Purged(held.raw_file.id, new, 0, 0, gone, None, reason)
