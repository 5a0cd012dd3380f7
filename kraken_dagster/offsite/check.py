"""Whether a raw file's copy is still there, as it was recorded: by a HEAD of each member's version.

A server tells size and ETag of a version without reading it. The ETag is that of the bytes that
were sent, which were compared with the record then; whether its disks still give them back, only
reading can tell.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kraken_dagster.model.errors import OffsiteDiffers
from kraken_dagster.model.offsite import (
    OffsiteState,
    OffsiteStatus,
    StoredObject,
    etag_of,
    why_no_copy,
)
from kraken_dagster.model.raw_file import FileFact, RawFile, short_details
from kraken_dagster.offsite.client import S3, is_missing, s3_errors
from kraken_dagster.offsite.places import content_of, require_fit
from kraken_dagster.offsite.stored import SHA256_OF_OBJECT, WITH_CHECKSUM
from kraken_dagster.runtime.services import Services

_NEXT = "find out who changed it; it is uploaded again by itself, as another version."


def require_copy(
    services: Services, s3: S3, raw_file: RawFile, *, on_object: Callable[[], None] = lambda: None
) -> OffsiteState:
    """Asks the server for every member of a raw file's copy, and records when it was seen.

    What is not there as recorded is forgotten, so that it is uploaded again.

    Args:
        on_object: called after each member; may raise.

    Raises:
        OffsiteDiffers: there is no copy of this content, or not any more.
        OffsiteAway, OffsiteRefused, OffsiteUnfit, OffsiteError: nothing is known of it now.
    """
    state = require_recorded(raw_file)
    objects = services.store.offsite.objects(raw_file.id)
    for path, fact in sorted(raw_file.file_info.items()):
        try:
            require_object(s3, path, fact, objects.get(path))
        except OffsiteDiffers as error:
            forget(services, raw_file, path, error)
            raise
        on_object()
    seen = state.model_copy(update={"seen_at": services.now()})
    services.store.offsite.seen(raw_file.id, seen)
    return seen


def require_recorded(raw_file: RawFile) -> OffsiteState:
    """
    Raises:
        OffsiteDiffers: by what is recorded there is no copy of this content.
    """
    lacking = why_no_copy(raw_file.offsite, content_of(raw_file))
    if raw_file.offsite is None or lacking is not None:
        raise OffsiteDiffers(
            "There is no copy off-site of what is recorded",
            file=raw_file.id,
            found=lacking,
            next_step="nothing: it is uploaded by itself; `offsite_uploads` says what it waits "
            "for.",
        )
    return raw_file.offsite


def require_object(s3: S3, path: str, fact: FileFact, stored: StoredObject | None) -> None:
    """One member: the recorded version, of the recorded content, and locked as long as recorded.

    Raises:
        OffsiteDiffers: it is not there as recorded.
        OffsiteAway, OffsiteRefused, OffsiteUnfit, OffsiteError: nothing is known of it now.
    """
    stored = require_stored(path, fact, stored)
    with s3_errors(stored.shown):
        head = head_of(s3, stored)
    etag = str(head["ETag"]).strip('"')
    if stored.sha256 is not None and head.get(SHA256_OF_OBJECT) != stored.sha256:
        raise differs(stored, f"SHA-256 {head.get(SHA256_OF_OBJECT)}, recorded is {stored.sha256}")
    found = (head.get("VersionId"), head["ContentLength"], etag)
    if found != (stored.version_id, stored.size, stored.etag):
        version, size, etag = found
        raise differs(stored, f"version {version}, {size} bytes, ETag {etag}")
    if stored.lock_until is not None and _is_unlocked(head, stored):
        raise differs(stored, f"a lock until {head.get('ObjectLockRetainUntilDate')}")


def require_stored(path: str, fact: FileFact, stored: StoredObject | None) -> StoredObject:
    """What is recorded of a member's object.

    Raises:
        OffsiteDiffers: nothing, or it is one of another content.
    """
    if stored is None or not _is_of(stored, fact):
        raise OffsiteDiffers(
            "A member is not in the copy off-site",
            file=path,
            expected=f"{fact.size} bytes, MD5 {fact.md5}",
            found="none" if stored is None else f"{stored.size} bytes, MD5 {stored.md5}",
            next_step=_NEXT,
        )
    return stored


def _is_of(stored: StoredObject, fact: FileFact) -> bool:
    """Whether what was recorded of an object is this content, and fits together.

    An ETag that is not made of MD5s can only be compared with the recorded one.
    """
    parts = [bytes.fromhex(item) for item in stored.part_md5s]
    fits = stored.is_opaque or etag_of(parts) == stored.etag
    return fits and fact.md5 is not None and (stored.size, stored.md5) == (fact.size, fact.md5)


def head_of(s3: S3, stored: StoredObject) -> Mapping[str, Any]:
    """What the server says of the recorded version.

    Raises:
        OffsiteDiffers: there is no such version.
        OffsiteUnfit, and errors of boto3
    """
    try:
        options = {} if stored.sha256 is None else WITH_CHECKSUM
        head: Mapping[str, Any] = s3.head_object(**stored.version, **options)
    except s3.exceptions.ClientError as error:
        if not is_missing(error):
            raise
        require_fit(s3, stored.bucket)  # a bucket that is missing is told by the same 404
        raise differs(stored, "no such version") from error
    return head


def _is_unlocked(head: Mapping[str, Any], stored: StoredObject) -> bool:
    until = head.get("ObjectLockRetainUntilDate")
    return until is None or stored.lock_until is None or until < stored.lock_until


def differs(stored: StoredObject, found: str) -> OffsiteDiffers:
    locked = "" if stored.lock_until is None else f", locked until {stored.lock_until}"
    return OffsiteDiffers(
        "The copy off-site is not what was recorded",
        file=stored.shown,
        expected=f"version {stored.version_id}, {stored.size} bytes, ETag {stored.etag}{locked}",
        found=found,
        next_step=_NEXT,
    )


def forget(services: Services, raw_file: RawFile, path: str, error: OffsiteDiffers) -> None:
    """The copy counts as none from now on; of this member nothing is recorded any more."""
    now = services.now()
    failed = (raw_file.offsite or OffsiteState(status=OffsiteStatus.FAILED, at=now)).model_copy(
        update={"status": OffsiteStatus.FAILED, "at": now, "problem": str(error), "retry_at": now}
    )
    services.store.offsite.forget_object(raw_file.id, path)
    note = short_details(f"off-site: {error}")
    services.store.offsite.tell(raw_file, failed, now=now, note=note)
