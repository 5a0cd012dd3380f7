"""Which backups are read again, oldest proof first, and where a verification goes on."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kraken_dagster.backup.verify import VerifyOutcome, verify_backup
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.retention.rules import span
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.raw_files.retention import ProofAge

_FORGOTTEN_AFTER = timedelta(days=7)
_LATER_THAN_ANY = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Selection:
    """These raw files; or those of some instruments, of all that are served if none is named.

    `older_than_days`: only those whose proof is older.
    """

    raw_file_ids: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    older_than_days: float | None = None

    def in_words(self) -> list[str]:
        return [*sorted(self.raw_file_ids), *sorted(self.instruments), str(self.older_than_days)]

    @property
    def key(self) -> str:
        parts = [sorted(self.raw_file_ids), sorted(self.instruments), self.older_than_days]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Verification:
    """What is to be read, oldest proof first. `resumed`: one that was not finished goes on."""

    key: str
    began_at: datetime
    todo: tuple[str, ...]
    resumed: bool


def begin(services: Services, selection: Selection) -> Verification:
    """Begins a verification; what was proven since an unfinished one began is left out.

    Raw files that are named are read, whatever was read before.

    Raises:
        UnknownRawFile, StoreUnavailable
    """
    now = services.now()
    found = _found(services, selection)
    began_at = now
    if not selection.raw_file_ids:
        began_at = services.store.verifications.begin(
            selection.key, selection.in_words(), now=now, forgotten_before=now - _FORGOTTEN_AFTER
        )
    limit = began_at
    if selection.older_than_days is not None:
        limit -= span(days=selection.older_than_days)
    elif selection.raw_file_ids:
        limit = _LATER_THAN_ANY
    todo = [
        item.raw_file_id for item in found if item.verified_at is None or item.verified_at < limit
    ]
    return Verification(selection.key, began_at, tuple(todo), resumed=began_at < now)


def verify_all(
    services: Services,
    verification: Verification,
    *,
    run_id: str,
    rate_limit: RateLimit,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Iterator[VerifyOutcome]:
    """Reads one backup after the other; once all were read the verification is forgotten.

    Raises:
        BackupUnwritable, CopyStalled: the backup store is away; the next one goes on from here.
        StoreUnavailable
    """
    for raw_file_id in verification.todo:
        yield verify_backup(
            services, raw_file_id, run_id=run_id, rate_limit=rate_limit, on_bytes=on_bytes
        )
        services.store.verifications.goes_on(verification.key, now=services.now())
    services.store.verifications.end(verification.key)


def scrub_due(services: Services, now: datetime, every_days: float | None = None) -> list[ProofAge]:
    """The backups whose proof is older than that, or than `scrub_every_days`; oldest first."""
    found: list[ProofAge] = []
    for instrument_id in services.config.instruments:
        days = every_days or services.instrument(instrument_id).scrub_every_days
        limit = now - span(days=days)
        found.extend(services.store.retention.proofs(instrument_id, before=limit))
    return _oldest_first(found)


def _found(services: Services, selection: Selection) -> list[ProofAge]:
    if selection.raw_file_ids:
        records = [services.store.raw_files.get(item) for item in selection.raw_file_ids]
        return _oldest_first([ProofAge(item.id, item.verified_at) for item in records])
    instruments = selection.instruments or tuple(services.config.instruments)
    return _oldest_first(
        [item for name in instruments for item in services.store.retention.proofs(name)]
    )


def _oldest_first(found: list[ProofAge]) -> list[ProofAge]:
    """Those without any proof first, in the order in which they came."""
    with_proof = [(item.verified_at, item) for item in found if item.verified_at is not None]
    return [
        *(item for item in found if item.verified_at is None),
        *(item for _, item in sorted(with_proof, key=lambda pair: pair[0])),
    ]
