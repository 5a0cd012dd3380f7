"""Uploads one member of a backup, from its first byte to an object that the server has proven.

Every part carries its MD5, which the server compares. The MD5 of the whole is compared with the
record before the server is told to put the parts together: what the local disk has damaged since
never becomes an object. Parts that an earlier upload has left are used where their MD5 is that of
the content.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.backup_reader import Backup, damaged
from kraken_dagster.model.errors import OffsiteDiffers, OffsiteUnfit
from kraken_dagster.model.offsite import StoredObject, etag_of, part_size
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.offsite.client import S3, is_missing, s3_errors
from kraken_dagster.offsite.parts import MemberDigest, Part, Sender, Throttled, parts_of
from kraken_dagster.offsite.places import Place

_KEY_SERVICES = ("aws:kms", "aws:kms:dsse")


@dataclass(frozen=True)
class Transfer:
    """What an upload works with.

    `require` raises where it must not go on; it is asked before each part. `on_bytes` is told of
    what the server has, parts of an earlier upload among it.
    """

    s3: S3
    config: Offsite
    place: Place
    limit: RateLimit
    now: Callable[[], datetime]
    require: Callable[[], None] = lambda: None
    on_bytes: Callable[[int], None] = lambda _: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def body(self, part: Part) -> Any:
        if self.config.mb_per_s is None:
            return part.content
        return Throttled(part.content, self.limit, self._lock)


@dataclass(frozen=True)
class _Member:
    """One member on its way; `options` go with the object, like its storage class."""

    transfer: Transfer
    backup: Backup
    path: str
    recorded: FileFact
    part_bytes: int
    options: Mapping[str, Any]

    @property
    def key(self) -> str:
        return self.transfer.place.key(self.path)

    @property
    def target(self) -> dict[str, str]:
        return {"Bucket": self.transfer.place.bucket, "Key": self.key}

    @property
    def shown(self) -> str:
        return f"s3://{self.transfer.place.bucket}/{self.key}"

    def require_recorded(self, read: MemberDigest) -> None:
        """
        Raises:
            BackupDamaged: what was read is not what was recorded.
        """
        if (read.size, read.md5) != (self.recorded.size, self.recorded.md5):
            raise damaged(
                self.backup.path / self.path,
                f"{self.recorded.size} bytes, MD5 {self.recorded.md5}",
                f"{read.size} bytes, MD5 {read.md5}",
            )


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
    member = _Member(transfer, backup, path, recorded, size, options)
    with s3_errors(member.shown):
        found = _already_there(member)
        if found is not None:
            return found
        if (recorded.size or 0) <= size:
            return _send_whole(member)
        return _send_parts(member)


def _options(transfer: Transfer, storage_class: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if chosen := storage_class or transfer.config.storage_class:
        options["StorageClass"] = chosen
    if (lock := transfer.config.object_lock) is not None:
        options["ObjectLockMode"] = lock.mode.upper()
        options["ObjectLockRetainUntilDate"] = transfer.now() + timedelta(days=lock.days)
    return options


def _already_there(member: _Member) -> StoredObject | None:
    """What an upload has left that ended before it was recorded, or another program has made."""
    found = _head(member, None)
    if found is None or found["ContentLength"] != member.recorded.size or is_opaque(found):
        return None
    if "VersionId" not in found or found["VersionId"] == "null":
        return None
    read = MemberDigest()
    for part in parts_of(member.backup, member.path, part_bytes=member.part_bytes):
        member.transfer.require()
        read.take(part)
    member.require_recorded(read)
    if _etag(found) != etag_of(read.parts):
        return None
    member.transfer.on_bytes(read.size)
    return _stored(member, read, found)


def _send_whole(member: _Member) -> StoredObject:
    transfer, read = member.transfer, MemberDigest()
    parts = list(parts_of(member.backup, member.path, part_bytes=member.part_bytes))
    for part in parts:
        read.take(part)
    member.require_recorded(read)
    transfer.require()
    content: dict[str, Any] = {"Body": b""}
    if parts:
        content = {"Body": transfer.body(parts[0]), "ContentMD5": parts[0].content_md5}
    answer = transfer.s3.put_object(**member.target, **content, **member.options)
    transfer.on_bytes(read.size)
    return _proven(member, read, answer.get("VersionId"))


def _send_parts(member: _Member) -> StoredObject:
    s3, read = member.transfer.s3, MemberDigest()
    upload_id, there = _begun(member)
    with Sender(member.transfer.config.upload_threads) as sender:
        for part in parts_of(member.backup, member.path, part_bytes=member.part_bytes):
            member.transfer.require()
            read.take(part)
            if there.get(part.number) == (len(part.content), part.md5.hex()):
                member.transfer.on_bytes(len(part.content))
            else:
                sender.send(_sending(member, upload_id, part))
        sender.finish()
    try:
        member.require_recorded(read)
    except Exception:
        s3.abort_multipart_upload(**member.target, UploadId=upload_id)
        raise
    member.transfer.require()
    parts = [
        {"PartNumber": number, "ETag": f'"{md5}"'}
        for number, md5 in _etags_of_parts(member, upload_id, read)
    ]
    answer = s3.complete_multipart_upload(
        **member.target, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )
    return _proven(member, read, answer.get("VersionId"))


def _sending(member: _Member, upload_id: str, part: Part) -> Callable[[], None]:
    def send() -> None:
        member.transfer.s3.upload_part(
            **member.target,
            UploadId=upload_id,
            PartNumber=part.number,
            Body=member.transfer.body(part),
            ContentMD5=part.content_md5,
        )
        member.transfer.on_bytes(len(part.content))

    return send


def _etags_of_parts(member: _Member, upload_id: str, read: MemberDigest) -> list[tuple[int, str]]:
    """The parts as the server lists them: where it encrypts, an ETag is not the MD5.

    Raises:
        OffsiteDiffers: one is missing, or has another size.
    """
    listed = _parts_there(member, upload_id)
    for number in range(1, len(read.parts) + 1):
        last = number == len(read.parts)
        expected = read.size - member.part_bytes * (number - 1) if last else member.part_bytes
        if number not in listed or listed[number][0] != expected:
            raise OffsiteDiffers(
                f"Part {number} is not as it was sent",
                file=member.shown,
                expected=f"{expected} bytes",
                found=f"{listed[number][0]} bytes" if number in listed else "no such part",
                next_step="nothing: it is sent again by the next try.",
            )
    return [(number, listed[number][1]) for number in range(1, len(read.parts) + 1)]


def _begun(member: _Member) -> tuple[str, dict[int, tuple[int, str]]]:
    """The upload to go on with, the newest of this key, with the parts it has; else a new one.

    Older ones of this key are given up.
    """
    s3, config = member.transfer.s3, member.transfer.config
    oldest = member.transfer.now() - timedelta(days=config.abandoned_after_days)
    every = uploads(s3, member.target["Bucket"], member.key)
    found = sorted((item for item in every if item["Key"] == member.key), key=_initiated)
    newest = found.pop() if found and found[-1]["Initiated"] >= oldest else None
    for item in found:
        s3.abort_multipart_upload(**member.target, UploadId=item["UploadId"])
    if newest is not None:
        return newest["UploadId"], _parts_there(member, newest["UploadId"])
    answer = s3.create_multipart_upload(**member.target, **member.options)
    return answer["UploadId"], {}


def _initiated(upload: Mapping[str, Any]) -> datetime:
    begun: datetime = upload["Initiated"]
    return begun


def uploads(s3: S3, bucket: str, prefix: str) -> list[dict[str, Any]]:
    """The uploads under way whose key begins like this."""
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    return [item for page in pages for item in page.get("Uploads", [])]


def _parts_there(member: _Member, upload_id: str) -> dict[int, tuple[int, str]]:
    """Size in bytes and ETag of each part that the server has."""
    pages = member.transfer.s3.get_paginator("list_parts").paginate(
        **member.target, UploadId=upload_id
    )
    return {
        item["PartNumber"]: (item["Size"], item["ETag"].strip('"'))
        for page in pages
        for item in page.get("Parts", [])
    }


def _proven(member: _Member, read: MemberDigest, version_id: str | None) -> StoredObject:
    """
    Raises:
        OffsiteDiffers: the server has something else than was sent.
        OffsiteUnfit: it keeps no versions.
    """
    found = _locked(member, _head(member, version_id))
    expected = etag_of(read.parts)
    if (
        found is None
        or found["ContentLength"] != read.size
        or (not is_opaque(found) and _etag(found) != expected)
    ):
        raise OffsiteDiffers(
            "The server doesn't have what was just sent",
            file=member.shown,
            expected=f"{read.size} bytes, ETag {expected}",
            found="nothing"
            if found is None
            else f"{found['ContentLength']} bytes, ETag {_etag(found)}",
            next_step="see who else writes to this key; it is sent again by itself.",
        )
    if found.get("VersionId") in (None, "null"):
        raise OffsiteUnfit(
            "The server gave the object no version of its own",
            file=member.shown,
            next_step="see that versioning is switched on; it is sent again by itself.",
        )
    return _stored(member, read, found)


def _locked(member: _Member, head: dict[str, Any] | None) -> dict[str, Any] | None:
    """Locks the version where the server did not: radosgw forgets the lock of an upload in parts.

    Raises:
        OffsiteUnfit: it can't be locked.
    """
    until = member.options.get("ObjectLockRetainUntilDate")
    if head is None or until is None or head.get("ObjectLockRetainUntilDate") is not None:
        return head
    version = {**member.target, "VersionId": head.get("VersionId", "null")}
    retention = {"Mode": member.options["ObjectLockMode"], "RetainUntilDate": until}
    member.transfer.s3.put_object_retention(**version, Retention=retention)
    after = _head(member, version["VersionId"])
    if after is None or after.get("ObjectLockRetainUntilDate") is None:
        raise OffsiteUnfit(
            "The server did not lock the version",
            file=member.shown,
            expected=f"locked until {until:%Y-%m-%d}",
            next_step="see that object lock is switched on in the bucket; tried again by itself.",
        )
    return after


def _stored(member: _Member, read: MemberDigest, head: Mapping[str, Any]) -> StoredObject:
    return StoredObject(
        path=member.path,
        bucket=member.transfer.place.bucket,
        key=member.key,
        version_id=head["VersionId"],
        etag=_etag(head),
        size=read.size,
        md5=read.md5,
        part_bytes=member.part_bytes,
        part_md5s=tuple(part.hex() for part in read.parts),
        is_opaque=is_opaque(head),
        storage_class=head.get("StorageClass"),
        lock_until=head.get("ObjectLockRetainUntilDate"),
        uploaded_at=member.transfer.now(),
    )


def _head(member: _Member, version_id: str | None) -> dict[str, Any] | None:
    version = {} if version_id is None else {"VersionId": version_id}
    try:
        answer: dict[str, Any] = member.transfer.s3.head_object(**member.target, **version)
    except Exception as error:
        if is_missing(error):
            return None
        raise
    return answer


def is_opaque(head: Mapping[str, Any]) -> bool:
    """Whether the server's ETag is not made of MD5s, by how it encrypts."""
    by_service = head.get("ServerSideEncryption") in _KEY_SERVICES
    return by_service or head.get("SSECustomerAlgorithm") is not None


def _etag(head: Mapping[str, Any]) -> str:
    return str(head["ETag"]).strip('"')
