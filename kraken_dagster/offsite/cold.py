"""Objects in cold storage classes, which a server gives back only hours after they were asked for.

Source: Amazon S3's API reference of RestoreObject and HeadObject (`x-amz-restore`), and its user
guide on retrieval times.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from kraken_dagster.model.offsite import ColdRequest, StoredObject
from kraken_dagster.offsite.check import head_of
from kraken_dagster.offsite.client import S3, error_code, s3_errors

TIERS = ("Standard", "Bulk", "Expedited")
_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
# Hours that a retrieval takes at most, by storage class and tier; as the user guide has them.
_HOURS = {
    ("GLACIER", "Expedited"): 1,
    ("GLACIER", "Standard"): 5,
    ("GLACIER", "Bulk"): 12,
    ("DEEP_ARCHIVE", "Standard"): 12,
    ("DEEP_ARCHIVE", "Bulk"): 48,
}
_LONGEST_H = 48


@dataclass(frozen=True)
class Readiness:
    """`until` is when the copy ends that can be read; None for an object that is not cold."""

    storage_class: str
    is_cold: bool
    is_ready: bool
    until: datetime | None = None


def ask_for(
    s3: S3, objects: Sequence[StoredObject], *, days: int, tier: str, now: datetime
) -> ColdRequest | None:
    """Has the server get out what lies cold, unless it is at it; None if all can be read.

    Raises:
        OffsiteError
    """
    found = [_asked(s3, item, days=days, tier=tier) for item in objects]
    cold = [item for item in found if item.is_cold]
    if all(item.is_ready for item in found):
        return None
    hours = max(_HOURS.get((item.storage_class, tier), _LONGEST_H) for item in cold)
    ends = [item.until for item in cold if item.until is not None]
    return ColdRequest(
        asked_at=now,
        expected_at=now + timedelta(hours=hours),
        members=len(cold),
        ready=sum(item.is_ready for item in cold),
        storage_class=cold[0].storage_class,
        tier=tier,
        until=min(ends, default=None),
    )


def _asked(s3: S3, stored: StoredObject, *, days: int, tier: str) -> Readiness:
    with s3_errors(stored.shown):
        head = head_of(s3, stored)
        found = readiness(head)
        if found.is_ready or "Restore" in head:
            return found
        request: dict[str, Any] = {"GlacierJobParameters": {"Tier": tier}}
        if "ArchiveStatus" not in head:  # of Intelligent-Tiering, which gets it out for good
            request["Days"] = days
        try:
            s3.restore_object(**stored.version, RestoreRequest=request)
        except s3.exceptions.ClientError as error:
            if error_code(error) != "RestoreAlreadyInProgress":
                raise
    return found


def readiness(head: Mapping[str, Any]) -> Readiness:
    """What a HEAD says of whether an object can be read."""
    storage_class = str(head.get("StorageClass", "STANDARD"))
    if storage_class not in _CLASSES and "ArchiveStatus" not in head:
        return Readiness(storage_class, is_cold=False, is_ready=True)
    restore = str(head.get("Restore", ""))
    expiry = re.search(r'expiry-date="([^"]+)"', restore)
    until = parsedate_to_datetime(expiry[1]) if expiry else None
    is_ready = 'ongoing-request="false"' in restore
    return Readiness(storage_class, is_cold=True, is_ready=is_ready, until=until)
