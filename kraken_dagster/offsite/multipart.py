"""A member that is sent in parts: gone on with where some are there, put together at the end."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kraken_dagster.model.errors import OffsiteDiffers
from kraken_dagster.model.offsite import StoredObject
from kraken_dagster.offsite.parts import MemberDigest, Part, Sender
from kraken_dagster.offsite.stored import SHA256, SHA256_OF_OBJECT, proven
from kraken_dagster.offsite.transfer import Member


def send_parts(member: Member) -> StoredObject:
    s3, read = member.transfer.s3, MemberDigest(member.recorded.kind)
    upload_id, there = _begun(member)
    with Sender(member.transfer.config.upload_threads) as sender:
        for part in member.parts():
            member.transfer.require()
            read.take(part)
            if _has(there.get(part.number), part):
                member.transfer.on_bytes(len(part.content))
            else:
                sender.send(_sending(member, upload_id, part))
        sender.finish()
    try:
        member.require_recorded(read)
    except Exception:
        _give_up(member, upload_id)
        raise
    member.transfer.require()
    parts = _parts_as_listed(member, upload_id, read)
    answer = s3.complete_multipart_upload(
        **member.target, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )
    member.transfer.begun.on_ended(upload_id)
    return proven(member, read, answer.get("VersionId"))


def _sending(member: Member, upload_id: str, part: Part) -> Callable[[], None]:
    def send() -> None:
        member.transfer.s3.upload_part(
            **member.target,
            UploadId=upload_id,
            PartNumber=part.number,
            Body=member.transfer.body(part),
            **part.checksums,
        )
        member.transfer.on_bytes(len(part.content))

    return send


def _has(there: Mapping[str, Any] | None, part: Part) -> bool:
    """Whether an upload has this part, by size and every checksum that it is sent with."""
    if there is None or there["Size"] != len(part.content):
        return False
    sha256 = part.checksums.get(SHA256_OF_OBJECT)
    return _etag(there) == part.md5.hex() and (
        sha256 is None or there.get(SHA256_OF_OBJECT) == sha256
    )


def _etag(part: Mapping[str, Any]) -> str:
    return str(part["ETag"]).strip('"')


def _parts_as_listed(member: Member, upload_id: str, read: MemberDigest) -> list[dict[str, Any]]:
    """The parts as the server lists them: where it encrypts, an ETag is not the MD5.

    Raises:
        OffsiteDiffers: one is missing, or has another size.
    """
    listed = _parts_there(member, upload_id)
    for number in range(1, len(read.parts) + 1):
        last = number == len(read.parts)
        expected = read.size - member.part_bytes * (number - 1) if last else member.part_bytes
        if number not in listed or listed[number]["Size"] != expected:
            raise OffsiteDiffers(
                f"Part {number} is not as it was sent",
                file=member.shown,
                expected=f"{expected} bytes",
                found=f"{listed[number]['Size']} bytes" if number in listed else "no such part",
                next_step="nothing: it is sent again by the next try.",
            )
    named = ("PartNumber", "ETag", SHA256_OF_OBJECT)
    return [
        {name: listed[number][name] for name in named if name in listed[number]}
        for number in range(1, len(read.parts) + 1)
    ]


def _begun(member: Member) -> tuple[str, dict[int, Mapping[str, Any]]]:
    """The upload to go on with, Kraken's newest of this key, with the parts it has; else a new one.

    Its older ones of this key are given up.
    """
    s3, transfer = member.transfer.s3, member.transfer
    oldest = transfer.now() - timedelta(days=transfer.config.abandoned_after_days)
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=transfer.place.bucket, Prefix=member.key
    )
    every = [item for page in pages for item in page.get("Uploads", [])]
    ours = (item for item in every if item["UploadId"] in transfer.begun.ids)
    found = sorted((item for item in ours if item["Key"] == member.key), key=_initiated)
    goes_on = found and found[-1]["Initiated"] >= oldest and _takes_checksums(found[-1], member)
    newest = found.pop() if goes_on else None
    for item in found:
        _give_up(member, item["UploadId"])
    if newest is not None:
        return newest["UploadId"], _parts_there(member, newest["UploadId"])
    answer = s3.create_multipart_upload(**member.target, **member.options)
    transfer.begun.on_begun(member.key, answer["UploadId"])
    return answer["UploadId"], {}


def _takes_checksums(upload: Mapping[str, Any], member: Member) -> bool:
    """Whether it was begun with the checksums that are configured now."""
    return (upload.get("ChecksumAlgorithm") == SHA256) is member.has_sha256


def _give_up(member: Member, upload_id: str) -> None:
    member.transfer.s3.abort_multipart_upload(**member.target, UploadId=upload_id)
    member.transfer.begun.on_ended(upload_id)


def _initiated(upload: Mapping[str, Any]) -> datetime:
    begun: datetime = upload["Initiated"]
    return begun


def _parts_there(member: Member, upload_id: str) -> dict[int, Mapping[str, Any]]:
    """Each part that the server has, with size in bytes and checksums."""
    pages = member.transfer.s3.get_paginator("list_parts").paginate(
        **member.target, UploadId=upload_id
    )
    return {item["PartNumber"]: item for page in pages for item in page.get("Parts", [])}
