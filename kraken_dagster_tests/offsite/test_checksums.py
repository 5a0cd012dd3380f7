"""`checksum: sha256`: what the server is sent, keeps, and is compared with.

radosgw keeps no such checksums, so a stand-in does here; what it does is as Amazon's API reference
has it. What is said of a server that keeps none is tried on the real radosgw, in test_upload.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from kraken_dagster.model.errors import OffsiteAway, OffsiteDiffers
from kraken_dagster.model.offsite import OffsiteStatus, sha256_of
from kraken_dagster.offsite.check import require_copy
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster_tests.offsite.s3_server import MIB
from kraken_dagster_tests.offsite.stand_in import StandIn, Version, refusal
from kraken_dagster_tests.retention.retention_cases import done

BUCKET = "raw-files"


def base64_sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


@dataclass
class Upload:
    key: str
    options: dict[str, Any]
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Keeper(StandIn):
    """The stand-in with uploads in parts, and SHA-256s that it compares and keeps."""

    uploads: dict[str, Upload] = field(default_factory=dict)
    sent: list[int] = field(default_factory=list)
    fails_after: int = 0

    def put_object(self, Bucket: str, Key: str, Body: Any, **options: Any) -> dict[str, Any]:
        answer = super().put_object(Bucket, Key, Body, **options)
        if "ChecksumAlgorithm" in options:
            version = self._kept(Bucket, Key, answer["VersionId"])
            version.head["ChecksumSHA256"] = _compared(version.content, options)
        return answer

    def _kept(self, bucket: str, key: str, version_id: str) -> Version:
        found = self.buckets[bucket][key][version_id]
        assert found is not None
        return found

    def head_object(self, ChecksumMode: str = "", **options: Any) -> dict[str, Any]:
        head = super().head_object(**options)
        if ChecksumMode != "ENABLED":
            head.pop("ChecksumSHA256", None)
        return head

    def create_multipart_upload(self, Bucket: str, Key: str, **options: Any) -> dict[str, str]:
        upload_id = f"upload{len(self.uploads)}"
        self.uploads[upload_id] = Upload(Key, options)
        return {"UploadId": upload_id}

    def upload_part(
        self, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: Any, **options: Any
    ) -> None:
        upload = self.uploads[UploadId]
        if ("ChecksumSHA256" in options) is not ("ChecksumAlgorithm" in upload.options):
            raise refusal(400, "InvalidRequest", "UploadPart")
        content = bytes(Body)
        if "ChecksumSHA256" in options:
            _compared(content, options)
        self.sent.append(PartNumber)
        if len(self.sent) == self.fails_after:
            raise refusal(503, "SlowDown", "UploadPart")
        upload.parts[PartNumber] = content

    def get_paginator(self, name: str) -> SimpleNamespace:
        listed = {"list_multipart_uploads": self._list_uploads, "list_parts": self._list_parts}
        return SimpleNamespace(paginate=lambda **options: [listed[name](**options)])

    def _list_uploads(self, **_options: Any) -> dict[str, Any]:
        found = [
            {
                "UploadId": upload_id,
                "Key": upload.key,
                "Initiated": datetime.now(UTC),
                **{key: value for key, value in upload.options.items() if "Checksum" in key},
            }
            for upload_id, upload in self.uploads.items()
        ]
        return {"Uploads": found}

    def _list_parts(self, UploadId: str, **_options: Any) -> dict[str, Any]:
        upload = self.uploads[UploadId]
        found = [
            {
                "PartNumber": number,
                "Size": len(content),
                "ETag": f'"{hashlib.md5(content).hexdigest()}"',
                **(
                    {"ChecksumSHA256": base64_sha256(content)}
                    if "ChecksumAlgorithm" in upload.options
                    else {}
                ),
            }
            for number, content in sorted(upload.parts.items())
        ]
        return {"Parts": found}

    def abort_multipart_upload(self, UploadId: str, **_options: Any) -> None:
        del self.uploads[UploadId]

    def complete_multipart_upload(
        self, Bucket: str, Key: str, UploadId: str, MultipartUpload: dict[str, Any]
    ) -> dict[str, Any]:
        upload, parts = self.uploads.pop(UploadId), MultipartUpload["Parts"]
        contents = [upload.parts[part["PartNumber"]] for part in parts]
        answer = super().put_object(Bucket, Key, b"".join(contents))
        head = self._kept(Bucket, Key, answer["VersionId"]).head
        md5s = b"".join(hashlib.md5(content).digest() for content in contents)
        head["ETag"] = f'"{hashlib.md5(md5s).hexdigest()}-{len(parts)}"'
        if "ChecksumAlgorithm" in upload.options:
            for part, content in zip(parts, contents, strict=True):
                assert part["ChecksumSHA256"] == base64_sha256(content)
            sha256s = b"".join(hashlib.sha256(content).digest() for content in contents)
            head["ChecksumSHA256"] = f"{base64_sha256(sha256s)}-{len(parts)}"
        return answer


def _compared(content: bytes, options: dict[str, Any]) -> str:
    found = base64_sha256(content)
    if options.get("ChecksumSHA256", found) != found:
        raise refusal(400, "BadDigest", "PutObject")
    return found


@pytest.fixture
def keeper() -> Keeper:
    keeper = Keeper()
    keeper.create_bucket(BUCKET)
    return keeper


@pytest.fixture
def with_checksum(copying_to):
    return copying_to("https://s3.example.org", bucket=BUCKET, checksum="sha256")


def upload(services, s3, name: str = "x.raw"):
    return upload_file(services, s3, name, run_id="upload").state


def stored(services, name: str = "x.raw"):
    return services.store.offsite.objects(name)[name]


@pytest.mark.parametrize("size", [5000, 5 * MIB, 12 * MIB])
def test_what_the_server_keeps_is_recorded(with_checksum, keeper, size):
    done(with_checksum, "thermo1", "x.raw", size_bytes=size)
    assert upload(with_checksum, keeper).status is OffsiteStatus.DONE
    raw_file = with_checksum.store.raw_files.get("x.raw")
    content = (with_checksum.backup_folder(raw_file) / "x.raw").read_bytes()
    parts = [content[begin : begin + 5 * MIB] for begin in range(0, len(content), 5 * MIB)]
    expected = sha256_of([hashlib.sha256(part).digest() for part in parts])
    assert stored(with_checksum).sha256 == expected
    require_copy(with_checksum, keeper, raw_file)


def test_the_names_of_a_known_content():
    """By `printf abc | openssl dgst -sha256 -binary | base64`, and of twice that digest."""
    digest = hashlib.sha256(b"abc").digest()
    assert sha256_of([digest]) == "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
    assert sha256_of([]) == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert sha256_of([digest, digest]) == f"{base64_sha256(digest + digest)}-2"


def test_another_content_of_the_same_etag_is_no_copy(with_checksum, keeper):
    """As with a key service, whose ETags say nothing of the content."""
    done(with_checksum, "thermo1", "x.raw")
    upload(with_checksum, keeper)
    object_ = stored(with_checksum)
    kept = keeper.buckets[BUCKET][object_.key][object_.version_id]
    assert kept is not None
    kept.head["ChecksumSHA256"] = base64_sha256(b"another")
    with pytest.raises(OffsiteDiffers, match="SHA-256"):
        require_copy(with_checksum, keeper, with_checksum.store.raw_files.get("x.raw"))


def test_an_upload_goes_on_with_its_parts_and_their_checksums(with_checksum, keeper):
    done(with_checksum, "thermo1", "x.raw", size_bytes=12 * MIB)
    keeper.fails_after = 3
    with pytest.raises(OffsiteAway):
        upload(with_checksum, keeper)
    assert upload(with_checksum, keeper).status is OffsiteStatus.DONE
    assert len(keeper.sent) < 2 * 3
    assert stored(with_checksum).sha256.endswith("-3")


@pytest.mark.parametrize("before", [None, "sha256"])
def test_one_that_was_begun_with_other_checksums_is_begun_anew(copying_to, keeper, before):
    after = {None: "sha256", "sha256": None}[before]
    services = copying_to("https://s3.example.org", bucket=BUCKET, checksum=before)
    done(services, "thermo1", "x.raw", size_bytes=12 * MIB)
    keeper.fails_after = 3
    with pytest.raises(OffsiteAway):
        upload(services, keeper)
    again = copying_to("https://s3.example.org", bucket=BUCKET, checksum=after)
    assert upload(again, keeper).status is OffsiteStatus.DONE
    assert keeper.uploads == {}
    assert (stored(again).sha256 is None) is (after is None)
