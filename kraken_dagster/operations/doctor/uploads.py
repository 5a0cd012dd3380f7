"""What an S3 server does with uploads, tried out: what it refuses, what it overwrites, what it lets
Kraken do. It writes a few bytes below `.kraken-doctor/` of each bucket, and removes them if it may.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.model.errors import KrakenError, OffsiteError
from kraken_dagster.offsite.client import S3, connect, error_code, s3_errors
from kraken_dagster.offsite.places import require_fit
from kraken_dagster.offsite.stored import is_opaque, lacks_encryption
from kraken_dagster.operations.doctor.finding import Finding
from kraken_dagster.operations.doctor.offsite import buckets_of
from kraken_dagster.runtime.services import Services

_FOLDER = ".kraken-doctor/"
_CONTENT, _OTHER = b"Kraken tries this server out.", b"Kraken tries it out once more."
_WRONG_MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="  # 16 bytes, which are not the content's
_WRONG_SHA256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


def try_uploads(make_services: Callable[[], Services]) -> Iterator[Finding]:
    """Of each bucket that takes uploads: how its server answers to good ones and to bad ones."""
    try:
        services = make_services()
        config = services.config.offsite
        if config is None:
            yield Finding("skipped", "offsite", "no second copy is configured")
            return
        s3 = connect(config)
        buckets = sorted(buckets_of(services, config))
    except KrakenError as error:
        yield Finding("error", "offsite", str(error))
        return
    for bucket in buckets:
        trial = _Trial(s3, config, bucket)
        try:
            require_fit(s3, bucket)
            with s3_errors(f"s3://{bucket}/{_FOLDER}"):
                yield from trial.findings()
        except OffsiteError as error:
            yield Finding("error", trial.what, str(error))
        yield from trial.removed()


@dataclass
class _Trial:
    """What is made is under keys of its own, so that nothing of another trial is in the way."""

    s3: S3
    config: Offsite
    bucket: str
    made: list[dict[str, str]] = field(default_factory=list)
    _mark: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def what(self) -> str:
        return f"uploads {self.bucket}"

    def target(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{_FOLDER}{self._mark}-{name}"}

    def findings(self) -> Iterator[Finding]:
        head = self._put("put", Body=_CONTENT)
        self._send_parts("parts", _CONTENT)
        yield Finding("ok", self.what, "it takes uploads, whole and in parts, and keeps versions")
        yield from self._encrypted(head)
        yield self._refused_md5()
        yield self._refused_sha256()
        yield self._kept("an upload", lambda: self._put("put", Body=_OTHER, IfNoneMatch="*"))
        yield self._kept(
            "an upload in parts",
            lambda: self._send_parts("parts", _OTHER, IfNoneMatch="*"),
        )

    def _put(self, name: str, **options: Any) -> dict[str, Any]:
        encryption = self.config.encryption_options
        answer = self.s3.put_object(**self.target(name), **encryption, **options)
        return self._made(name, answer)

    def _made(self, name: str, answer: dict[str, Any]) -> dict[str, Any]:
        self.made.append({**self.target(name), "VersionId": answer.get("VersionId", "null")})
        head: dict[str, Any] = self.s3.head_object(**self.made[-1])
        return head

    def _send_parts(self, name: str, content: bytes, **options: Any) -> dict[str, Any]:
        target = self.target(name)
        upload_id = self._begun(target)
        try:
            part = {**target, "UploadId": upload_id, "PartNumber": 1}
            etag = self.s3.upload_part(**part, Body=content)["ETag"]
            self.s3.list_parts(**target, UploadId=upload_id)
            parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            answer = self.s3.complete_multipart_upload(
                **target, UploadId=upload_id, MultipartUpload=parts, **options
            )
        except Exception:
            self.s3.abort_multipart_upload(**target, UploadId=upload_id)
            raise
        return self._made(name, answer)

    def _begun(self, target: dict[str, str]) -> str:
        options = self.config.encryption_options
        return str(self.s3.create_multipart_upload(**target, **options)["UploadId"])

    def _encrypted(self, head: dict[str, Any]) -> Iterator[Finding]:
        if lacks_encryption(self.config, head):
            found = f"it doesn't encrypt by {self.config.encryption}, as `encryption` asks for"
            yield Finding("error", self.what, found)
        if is_opaque(head):
            found = "it encrypts, and its ETags are no MD5: compared with the recorded ones only"
            yield Finding("ok", self.what, found)

    def _refused_md5(self) -> Finding:
        try:
            self._put("md5", Body=_CONTENT, ContentMD5=_WRONG_MD5)
        except self.s3.exceptions.ClientError as error:
            return Finding("ok", self.what, f"it refuses a wrong Content-MD5: {error_code(error)}")
        found = (
            "it takes content whose Content-MD5 is wrong, so that damage on the way is noticed by "
            "the ETag alone; use a server that compares them"
        )
        return Finding("error", self.what, found)

    def _refused_sha256(self) -> Finding:
        try:
            self._put("sha256", Body=_CONTENT, ChecksumSHA256=_WRONG_SHA256)
        except self.s3.exceptions.ClientError as error:
            found = f"it refuses a wrong SHA-256: {error_code(error)}"
            if self.config.checksum is None:
                found += "; `checksum: sha256` of `offsite` has it keep one of each object"
            return Finding("ok", self.what, found)
        found = "it doesn't compare x-amz-checksum-sha256; "
        if self.config.checksum is None:
            found += "Kraken goes by Content-MD5 and needs none"
            return Finding("ok", self.what, found)
        found += "leave `checksum` of `offsite` out, or use a server that does"
        return Finding("error", self.what, found)

    def _kept(self, what: str, again: Callable[[], object]) -> Finding:
        try:
            again()
        except self.s3.exceptions.ClientError as error:
            if error_code(error) not in _EXISTS:
                raise
            return Finding("ok", self.what, f"{what} with If-None-Match makes no second version")
        found = f"{what} with If-None-Match makes a second version; the first one stays, by its id"
        return Finding("ok", self.what, found)

    def removed(self) -> Iterator[Finding]:
        """Removes what was made; that Kraken may is itself worth telling."""
        try:
            for version in self.made:
                self.s3.delete_object(**version)
        except Exception as error:  # noqa: BLE001 - as it should be
            left = f"{len(self.made)} objects below {_FOLDER} stay: {error_code(error) or error}"
            yield Finding("ok", self.what, f"Kraken may not delete, and should not; {left}")
            return
        if self.made:
            found = "Kraken may delete versions, which it never needs; take s3:DeleteObjectVersion "
            found += "from its credentials, or lock what is uploaded"
            yield Finding("warning", self.what, found)
