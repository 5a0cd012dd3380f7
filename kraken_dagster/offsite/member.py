"""Uploads one member of a backup, from its first byte to an object that the server has proven.

Every part carries its MD5, which the server compares. The MD5 of the whole is compared with the
record before the server is told to put the parts together: what the local disk has damaged since
never becomes an object. Parts that an earlier upload has left are used where their MD5 is that of
the content.
"""

from datetime import timedelta
from typing import Any

from kraken_dagster.fs.stores.backup_reader import Backup
from kraken_dagster.model.offsite import StoredObject, etag_of, part_size
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.offsite.client import s3_errors
from kraken_dagster.offsite.multipart import send_parts
from kraken_dagster.offsite.parts import MemberDigest
from kraken_dagster.offsite.stored import (
    SHA256,
    etag,
    head_of_member,
    is_opaque,
    lacks_encryption,
    lacks_sha256,
    proven,
    stored_as,
)
from kraken_dagster.offsite.transfer import Member, Transfer


def upload_member(
    transfer: Transfer,
    backup: Backup,
    path: str,
    recorded: FileFact,
    *,
    storage_class: str | None = None,
) -> StoredObject:
    """Sees to it that the server has this member, as an object of a version of its own.

    Raises:
        BackupDamaged: the local backup is not what was recorded; no object was made.
        OffsiteError, BackupUnwritable
        FileSystemLimit: it is larger than an object can be.
    """
    backup.require_size(path, recorded)
    size = part_size(recorded.size or 0, least_mb=transfer.config.part_mb)
    options = _options(transfer, storage_class)
    member = Member(transfer, backup, path, recorded, size, options)
    with s3_errors(member.shown):
        found = _already_there(member)
        if found is not None:
            return found
        if (recorded.size or 0) <= size:
            return _send_whole(member)
        return send_parts(member)


def _options(transfer: Transfer, storage_class: str | None) -> dict[str, Any]:
    options: dict[str, Any] = dict(transfer.config.encryption_options)
    if chosen := storage_class or transfer.config.storage_class:
        options["StorageClass"] = chosen
    if transfer.config.checksum is not None:
        options["ChecksumAlgorithm"] = SHA256
    if (lock := transfer.config.object_lock) is not None:
        options["ObjectLockMode"] = lock.mode.upper()
        options["ObjectLockRetainUntilDate"] = transfer.now() + timedelta(days=lock.days)
    return options


def _already_there(member: Member) -> StoredObject | None:
    """What an upload has left that ended before it was recorded, or another program has made."""
    found = head_of_member(member, None)
    if found is None or found["ContentLength"] != member.recorded.size or is_opaque(found):
        return None
    if "VersionId" not in found or found["VersionId"] == "null":
        return None
    if lacks_encryption(member.transfer.config, found):
        return None
    read = MemberDigest(member.recorded.kind)
    for part in member.parts():
        member.transfer.require()
        read.take(part)
    member.require_recorded(read)
    if etag(found) != etag_of(read.parts) or lacks_sha256(member, read, found):
        return None
    member.transfer.on_bytes(read.size)
    return stored_as(member, read, found)


def _send_whole(member: Member) -> StoredObject:
    transfer, read = member.transfer, MemberDigest(member.recorded.kind)
    parts = list(member.parts())
    for part in parts:
        read.take(part)
    member.require_recorded(read)
    transfer.require()
    content: dict[str, Any] = {"Body": b""}
    if parts:
        content = {"Body": transfer.body(parts[0]), **parts[0].checksums}
    answer = transfer.s3.put_object(**member.target, **content, **member.options)
    transfer.on_bytes(read.size)
    return proven(member, read, answer.get("VersionId"))
