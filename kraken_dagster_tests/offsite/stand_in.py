"""A stand-in for an S3 server, within the process: objects, versions, and cold storage classes.

It is called as boto3's client is, and raises what that raises. It serves where a real server is too
slow (thousands of cases), or where radosgw has nothing of the kind (cold storage). What it answers
is as Amazon's API reference has it; it checks no credentials.
"""

import hashlib
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

from botocore.exceptions import ClientError

ERRORS = SimpleNamespace(ClientError=ClientError)  # as a client of boto3 has them
COLD = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def refusal(
    status: int, code: str, operation: str = "HeadObject", *, message: str = ""
) -> ClientError:
    error = {"Code": code, "Message": message or f"{code}, says the stand-in"}
    answer = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


@dataclass
class Version:
    """`restored_until` is when the copy of a cold object that was asked for ends."""

    content: bytes
    head: dict[str, Any]
    restore_ready_at: datetime | None = None
    restored_until: datetime | None = None


@dataclass
class StandIn:
    """`trouble`, where it is set, answers every request."""

    exceptions: ClassVar[SimpleNamespace] = ERRORS
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    thaw_h: float = 12
    buckets: dict[str, dict[str, dict[str, Version | None]]] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    trouble: Exception | None = None
    asked: list[str] = field(default_factory=list)
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def _object(self, bucket: str, key: str) -> dict[str, Version | None]:
        if bucket not in self.buckets:
            raise refusal(404, "NoSuchBucket")
        return self.buckets[bucket].setdefault(key, {})

    def _version(self, name: str, options: dict[str, Any]) -> tuple[str, Version]:
        self.asked.append(name)
        if self.trouble is not None:
            raise self.trouble
        versions = self._object(options["Bucket"], options["Key"])
        version_id = options.get("VersionId", next(reversed(versions), ""))
        found = versions.get(version_id)
        if found is None:
            raise refusal(404, "404", name)
        return version_id, found

    def create_bucket(self, Bucket: str) -> None:
        self.buckets[Bucket] = {}

    def head_bucket(self, Bucket: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        if Bucket not in self.buckets:
            raise refusal(404, "404", "HeadBucket")

    def get_bucket_versioning(self, Bucket: str) -> dict[str, str]:
        self.head_bucket(Bucket)
        return {"Status": "Suspended" if Bucket in self.suspended else "Enabled"}

    def put_object(self, Bucket: str, Key: str, Body: Any, **options: Any) -> dict[str, Any]:
        content = Body if isinstance(Body, bytes | bytearray) else Body.read()
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        if "ServerSideEncryption" in options:  # by a key service: an ETag that is no MD5
            etag = f'"{hashlib.md5(b"key" + content).hexdigest()}"'
        version_id = f"v{next(self._ids)}"
        known = ("StorageClass", "ServerSideEncryption", "ObjectLockRetainUntilDate")
        head = {
            "ETag": etag,
            "ContentLength": len(content),
            "VersionId": version_id,
            **{key: options[key] for key in known if key in options},
        }
        self._object(Bucket, Key)[version_id] = Version(bytes(content), head)
        return {"VersionId": version_id, "ETag": etag}

    def head_object(self, **options: Any) -> dict[str, Any]:
        _, found = self._version("HeadObject", options)
        head = dict(found.head)
        if found.restore_ready_at is not None and self.now() < found.restore_ready_at:
            head["Restore"] = 'ongoing-request="true"'
        elif found.restored_until is not None and self.now() < found.restored_until:
            until = f"{found.restored_until:%a, %d %b %Y %H:%M:%S} GMT"
            head["Restore"] = f'ongoing-request="false", expiry-date="{until}"'
        return head

    def get_object(self, **options: Any) -> dict[str, Any]:
        _, found = self._version("GetObject", options)
        if found.head.get("StorageClass") in COLD and not self._is_thawed(found):
            raise refusal(403, "InvalidObjectState", "GetObject")
        begin = int(options.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if begin and begin >= len(found.content):
            raise refusal(416, "InvalidRange", "GetObject")
        return {**found.head, "Body": io.BytesIO(found.content[begin:])}

    def _is_thawed(self, found: Version) -> bool:
        if found.restore_ready_at is None or found.restored_until is None:
            return False
        return found.restore_ready_at <= self.now() < found.restored_until

    def restore_object(self, **options: Any) -> None:
        _, found = self._version("RestoreObject", options)
        if found.restore_ready_at is not None and self.now() < found.restore_ready_at:
            raise refusal(409, "RestoreAlreadyInProgress", "RestoreObject")
        found.restore_ready_at = self.now() + timedelta(hours=self.thaw_h)
        days = options["RestoreRequest"]["Days"]
        found.restored_until = found.restore_ready_at + timedelta(days=days)

    def delete_object(self, Bucket: str, Key: str, VersionId: str | None = None) -> None:
        versions = self._object(Bucket, Key)
        if VersionId is None:
            versions[f"v{next(self._ids)}"] = None  # a delete marker
        else:
            versions.pop(VersionId, None)

    def list_object_versions(self, Bucket: str, Prefix: str = "") -> dict[str, Any]:
        found = [
            {"Key": key, "VersionId": version_id}
            for key, versions in self.buckets.get(Bucket, {}).items()
            for version_id, version in versions.items()
            if key.startswith(Prefix) and version is not None
        ]
        return {"Versions": found}
