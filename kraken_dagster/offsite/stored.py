"""Whether the server has what was just sent, locked as it was asked to, and as which version."""

from collections.abc import Mapping
from typing import Any

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.model.errors import OffsiteDiffers, OffsiteUnfit
from kraken_dagster.model.offsite import StoredObject, etag_of, sha256_of
from kraken_dagster.offsite.client import is_missing
from kraken_dagster.offsite.parts import MemberDigest
from kraken_dagster.offsite.transfer import Member

SHA256 = "SHA256"  # as S3 names the algorithm
SHA256_OF_OBJECT = "ChecksumSHA256"
WITH_CHECKSUM = {"ChecksumMode": "ENABLED"}  # a HEAD tells it only then
_KEY_SERVICES = ("aws:kms", "aws:kms:dsse")


def proven(member: Member, read: MemberDigest, version_id: str | None) -> StoredObject:
    """
    Raises:
        OffsiteDiffers: the server has something else than was sent.
        OffsiteUnfit: it keeps no versions, or no SHA-256 or no encryption that was asked for.
    """
    found = _locked(member, head_of_member(member, version_id))
    expected = etag_of(read.parts)
    if found is None:
        raise _differs(member, f"{read.size} bytes, ETag {expected}", "nothing")
    if found["ContentLength"] != read.size or (not is_opaque(found) and etag(found) != expected):
        told = f"{found['ContentLength']} bytes, ETag {etag(found)}"
        raise _differs(member, f"{read.size} bytes, ETag {expected}", told)
    if found.get("VersionId") in (None, "null"):
        raise OffsiteUnfit(
            "The server gave the object no version of its own",
            file=member.shown,
            next_step="see that versioning is switched on; it is sent again by itself.",
        )
    if lacks_encryption(member.transfer.config, found):
        raise _without_encryption(member, found)
    if lacks_sha256(member, read, found):
        raise _without_sha256(member, read, found)
    return stored_as(member, read, found)


def lacks_sha256(member: Member, read: MemberDigest, head: Mapping[str, Any]) -> bool:
    """Whether the server was to keep a SHA-256 of what was read, and has none, or another."""
    return member.has_sha256 and head.get(SHA256_OF_OBJECT) != sha256_of(read.sha256s)


def lacks_encryption(config: Offsite, head: Mapping[str, Any]) -> bool:
    """Whether the object is not encrypted as the configuration asks for."""
    return config.encryption not in (None, head.get("ServerSideEncryption"))


def _without_encryption(member: Member, head: Mapping[str, Any]) -> OffsiteUnfit:
    return OffsiteUnfit(
        "The server did not encrypt the object as it was asked to",
        file=member.shown,
        expected=f"{member.transfer.config.encryption}, by `encryption` of `offsite`",
        found=head.get("ServerSideEncryption", "none"),
        next_step="use a server that does, or leave `encryption` out.",
    )


def _without_sha256(
    member: Member, read: MemberDigest, head: Mapping[str, Any]
) -> OffsiteDiffers | OffsiteUnfit:
    expected, found = f"SHA-256 {sha256_of(read.sha256s)}", head.get(SHA256_OF_OBJECT)
    if found is not None:
        return _differs(member, expected, f"SHA-256 {found}")
    return OffsiteUnfit(
        "The server keeps no SHA-256 of an object",
        file=member.shown,
        expected=f"{expected}, by `checksum` of `offsite`",
        next_step="leave `checksum` out: the MD5 of each part is compared all the same.",
    )


def _differs(member: Member, expected: str, found: str) -> OffsiteDiffers:
    return OffsiteDiffers(
        "The server doesn't have what was just sent",
        file=member.shown,
        expected=expected,
        found=found,
        next_step="see who else writes to this key; it is sent again by itself.",
    )


def _locked(member: Member, head: dict[str, Any] | None) -> dict[str, Any] | None:
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
    after = head_of_member(member, version["VersionId"])
    if after is None or after.get("ObjectLockRetainUntilDate") is None:
        raise OffsiteUnfit(
            "The server did not lock the version",
            file=member.shown,
            expected=f"locked until {until:%Y-%m-%d}",
            next_step="see that object lock is switched on in the bucket; tried again by itself.",
        )
    return after


def stored_as(member: Member, read: MemberDigest, head: Mapping[str, Any]) -> StoredObject:
    return StoredObject(
        path=member.path,
        bucket=member.transfer.place.bucket,
        key=member.key,
        version_id=head["VersionId"],
        etag=etag(head),
        size=read.size,
        md5=read.md5,
        part_bytes=member.part_bytes,
        part_md5s=tuple(part.hex() for part in read.parts),
        is_opaque=is_opaque(head),
        storage_class=head.get("StorageClass"),
        sha256=head.get(SHA256_OF_OBJECT) if member.has_sha256 else None,
        lock_until=head.get("ObjectLockRetainUntilDate"),
        uploaded_at=member.transfer.now(),
    )


def head_of_member(member: Member, version_id: str | None) -> dict[str, Any] | None:
    options = {} if version_id is None else {"VersionId": version_id}
    if member.has_sha256:
        options.update(WITH_CHECKSUM)
    s3 = member.transfer.s3
    try:
        answer: dict[str, Any] = s3.head_object(**member.target, **options)
    except s3.exceptions.ClientError as error:
        if is_missing(error):
            return None
        raise
    return answer


def is_opaque(head: Mapping[str, Any]) -> bool:
    """Whether the server's ETag is not made of MD5s, by how it encrypts."""
    by_service = head.get("ServerSideEncryption") in _KEY_SERVICES
    return by_service or head.get("SSECustomerAlgorithm") is not None


def etag(head: Mapping[str, Any]) -> str:
    return str(head["ETag"]).strip('"')
