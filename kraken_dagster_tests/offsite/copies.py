"""Copies on a server that somebody does something to, and what the server then has; no tests."""

import hashlib
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

from botocore.exceptions import EndpointConnectionError

from kraken_dagster.model.offsite import MIB, StoredObject
from kraken_dagster_tests.offsite.stand_in import ERRORS, refusal

UPLOADED_AT = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Copies:
    """Members on a server, and what is recorded of them.

    `s3` is somebody else's client, with all rights; `kraken` is the one that a purge asks.
    """

    s3: Any
    bucket: str
    kraken: Any = None
    recorded: dict[str, StoredObject] = field(default_factory=dict)
    prefix: str = ""

    def key(self, path: str) -> str:
        return self.prefix + path

    def target(self, path: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key(path)}

    def __post_init__(self) -> None:
        self.kraken = self.s3 if self.kraken is None else self.kraken

    def upload(self, path: str, content: bytes, **options: Any) -> None:
        self.s3.put_object(**self.target(path), Body=content, **options)
        head = self.s3.head_object(**self.target(path))
        md5 = hashlib.md5(content).hexdigest()
        self.recorded[path] = StoredObject(
            path=path,
            bucket=self.bucket,
            key=self.key(path),
            version_id=head["VersionId"],
            etag=head["ETag"].strip('"'),
            size=len(content),
            md5=md5,
            part_bytes=5 * MIB,
            part_md5s=(md5,) if content else (),
            is_opaque="ServerSideEncryption" in head,
            lock_until=head.get("ObjectLockRetainUntilDate"),
            uploaded_at=UPLOADED_AT,
        )

    def contents(self, path: str) -> list[bytes]:
        """Every version of a member that the server gives back."""
        key = self.key(path)
        listed = self.s3.list_object_versions(Bucket=self.bucket, Prefix=key)
        found = [item for item in listed.get("Versions", []) if item["Key"] == key]
        versions = [
            {"Bucket": self.bucket, "Key": key, "VersionId": item["VersionId"]} for item in found
        ]
        return [self.s3.get_object(**version)["Body"].read() for version in versions]


Blow = Callable[[Copies, str], None]


def untouched(_copies: Copies, _path: str) -> None:
    pass


def deleted(copies: Copies, path: str) -> None:
    """As everybody's clients do it: a marker, and the version stays."""
    copies.s3.delete_object(**copies.target(path))


def version_deleted(copies: Copies, path: str) -> None:
    copies.s3.delete_object(**copies.recorded[path].version)


def overwritten(copies: Copies, path: str) -> None:
    copies.s3.put_object(**copies.target(path), Body=b"somebody else's")


def replaced(copies: Copies, path: str) -> None:
    """By something of the same size, and what Kraken has uploaded is gone."""
    version_deleted(copies, path)
    other = random.Random(path).randbytes(copies.recorded[path].size)
    copies.s3.put_object(**copies.target(path), Body=other)


def forgotten(copies: Copies, path: str) -> None:
    del copies.recorded[path]


def recorded_otherwise(copies: Copies, path: str) -> None:
    """The record names a version of another content."""
    answer = copies.s3.put_object(**copies.target(path), Body=b"another")
    _record(copies, path, version_id=answer["VersionId"])


def recorded_as_another(copies: Copies, path: str) -> None:
    """The same, with that one's ETag; what it was made of is still as it was recorded.

    Not where an ETag is no MD5: then the record is the only witness of it.
    """
    if copies.recorded[path].is_opaque:
        return
    other = random.Random(path).randbytes(copies.recorded[path].size)
    version_deleted(copies, path)
    answer = copies.s3.put_object(**copies.target(path), Body=other)
    version_id, etag = answer["VersionId"], answer["ETag"].strip('"')
    _record(copies, path, version_id=version_id, etag=etag)


def wrong_etag(copies: Copies, path: str) -> None:
    _record(copies, path, etag="0" * 32)


def wrong_md5(copies: Copies, path: str) -> None:
    _record(copies, path, md5="0" * 32)


def wrong_size(copies: Copies, path: str) -> None:
    _record(copies, path, size=copies.recorded[path].size + 1)


def locked_longer(copies: Copies, path: str) -> None:
    """The record has a lock that the server doesn't know of."""
    _record(copies, path, lock_until=UPLOADED_AT + timedelta(days=30))


def everything_deleted(copies: Copies, _path: str) -> None:
    for stored in copies.recorded.values():
        copies.s3.delete_object(**stored.version)


def away(copies: Copies, _path: str) -> None:
    copies.kraken = Mute(EndpointConnectionError(endpoint_url="http://s3"))


def refused(copies: Copies, _path: str) -> None:
    copies.kraken = Mute(refusal(403, "AccessDenied"))


def in_trouble(copies: Copies, _path: str) -> None:
    copies.kraken = Mute(refusal(503, "SlowDown"))


def without_bucket(copies: Copies, _path: str) -> None:
    """Asked at another server, or by another name."""
    copies.kraken = Mute(refusal(404, "404"))


def ignoring_versions(copies: Copies, path: str) -> None:
    """The server answers for what is newest, whatever version is asked for."""
    copies.kraken = Newest(copies.kraken)
    overwritten(copies, path)


def _record(copies: Copies, path: str, **changes: Any) -> None:
    copies.recorded[path] = copies.recorded[path].model_copy(update=changes)


@dataclass
class Mute:
    """A server that answers every question with the same error."""

    error: Exception
    exceptions: ClassVar[SimpleNamespace] = ERRORS

    def __getattr__(self, _name: str) -> Callable[..., Any]:
        def answer(**_options: Any) -> Any:
            raise self.error

        return answer


@dataclass
class Newest:
    s3: Any

    def head_object(self, **options: Any) -> Any:
        options.pop("VersionId", None)
        return self.s3.head_object(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.s3, name)


BLOWS: tuple[Blow, ...] = (
    untouched,
    deleted,
    version_deleted,
    overwritten,
    replaced,
    forgotten,
    recorded_otherwise,
    recorded_as_another,
    wrong_etag,
    wrong_md5,
    wrong_size,
    locked_longer,
    everything_deleted,
    away,
    refused,
    in_trouble,
    without_bucket,
    ignoring_versions,
)
HARMLESS = frozenset({untouched, deleted, overwritten})


def strike(copies: Copies, blow: Blow, path: str) -> None:
    with suppress(KeyError):  # an earlier blow may have left nothing
        blow(copies, path)


def without_copy(gone: Mapping[str, bytes], copies: Copies) -> list[str]:
    """What is gone from the instrument and not, byte for byte, on the server: which is asked."""
    return [path for path, content in gone.items() if content not in copies.contents(path)]
