"""Uploads to a real S3 server: what arrives there, what MongoDB says of it, and what goes wrong."""

import hashlib
import os
import subprocess
import sys

import pytest

from kraken_dagster.model.errors import (
    BackupDamaged,
    OffsiteAway,
    OffsiteRefused,
    OffsiteUnfit,
)
from kraken_dagster.model.offsite import OffsiteStatus
from kraken_dagster.model.raw_file import BackupStatus, Status
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.upload import UploadOutcome, upload_file
from kraken_dagster_tests.offsite import killable
from kraken_dagster_tests.offsite.s3_server import MIB, NEEDS_S3
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS, done, flip_a_bit
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = NEEDS_S3
PARTS = 12 * MIB  # of the main file: two parts of 5 MiB and one that is less


def upload(services, name: str) -> UploadOutcome:
    return upload_file(services, connect(services.config.offsite), name, run_id="upload")


def record(services, name: str):
    return services.store.raw_files.get(name)


def objects(server, bucket: str) -> dict[str, bytes]:
    client = server.client()
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {
        item["Key"]: client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        for item in listed
    }


def local(services, name: str) -> dict[str, bytes]:
    raw_file = record(services, name)
    folder = services.backup_folder(raw_file)
    return {path: (folder / path).read_bytes() for path in raw_file.file_info}


def due(services, instrument_id: str = "thermo1") -> list[str]:
    found = services.store.offsite.due(instrument_id, services.now(), limit=10)
    return [item.id for item in found]


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_every_member_arrives_and_the_document_says_so(
    laboratory, server, bucket, instrument_id, name
):
    done(laboratory, instrument_id, name)
    assert due(laboratory, instrument_id) == [name]
    outcome = upload(laboratory, name)
    content, after = local(laboratory, name), record(laboratory, name)
    prefix = f"{instrument_id}/{after.year_month}/"
    prefix += f"{name}/" if instrument_id == "sciex1" else ""
    assert objects(server, bucket) == {prefix + path: data for path, data in content.items()}
    assert after.backup_status is BackupStatus.UPLOAD_DONE
    assert after.s3_upload_path == f"s3://{bucket}/{prefix}"
    assert after.status is Status.DONE_NOT_QUANTED
    assert (outcome.state.files, outcome.sent_bytes) == (len(content), after.size)
    for path, data in content.items():
        assert after.file_info[path].etag == f"{hashlib.md5(data).hexdigest()}__5"
        stored = laboratory.store.offsite.objects(name)[path]
        assert (stored.size, stored.md5) == (len(data), hashlib.md5(data).hexdigest())
    assert due(laboratory, instrument_id) == []


@pytest.mark.parametrize("size", [5 * MIB, 5 * MIB + 1, PARTS])
def test_files_of_exactly_one_part_and_of_more(laboratory, server, bucket, size):
    done(laboratory, "thermo1", "x.raw", size_bytes=size)
    upload(laboratory, "x.raw")
    content = local(laboratory, "x.raw")["x.raw"]
    [found] = objects(server, bucket).values()
    assert found == content
    stored = laboratory.store.offsite.objects("x.raw")["x.raw"]
    parts = [content[begin : begin + 5 * MIB] for begin in range(0, len(content), 5 * MIB)]
    assert stored.part_md5s == tuple(hashlib.md5(part).hexdigest() for part in parts)
    head = server.client().head_object(Bucket=bucket, Key=stored.key, VersionId=stored.version_id)
    assert head["ETag"].strip('"') == stored.etag
    assert ("-" in stored.etag) is (len(parts) > 1)


def test_what_is_there_already_is_not_sent_again(laboratory, server, bucket):
    done(laboratory, "thermo1", "x.raw", size_bytes=PARTS)
    upload(laboratory, "x.raw")
    before = laboratory.store.offsite.objects("x.raw")
    raw_file = record(laboratory, "x.raw")
    lost = {"offsite": None, "backup_status": "copying_done"}
    laboratory.store.raw_files.update(raw_file, lost, now=laboratory.now(), note="forgotten")
    outcome = upload(laboratory, "x.raw")
    assert outcome.state.status is OffsiteStatus.DONE
    versions = server.client().list_object_versions(Bucket=bucket)["Versions"]
    assert len(versions) == 1
    assert laboratory.store.offsite.objects("x.raw").keys() == before.keys()


def test_a_backup_that_is_proven_anew_keeps_its_copy(laboratory):
    done(laboratory, "thermo1", "x.raw")
    upload(laboratory, "x.raw")
    etag = record(laboratory, "x.raw").file_info["x.raw"].etag
    raw_file = record(laboratory, "x.raw")
    again = {"backup_status": "copying_done"}
    laboratory.store.raw_files.update(raw_file, again, now=laboratory.now(), note="made anew")
    assert due(laboratory) == ["x.raw"]
    assert upload(laboratory, "x.raw").sent_bytes == 0
    after = record(laboratory, "x.raw")
    assert after.backup_status is BackupStatus.UPLOAD_DONE
    assert after.file_info["x.raw"].etag == etag


def test_a_bit_that_flipped_in_the_backup_is_found_before_an_object_is_made(
    laboratory, server, bucket
):
    done(laboratory, "thermo1", "x.raw", size_bytes=PARTS)
    flip_a_bit(laboratory.backup_folder(record(laboratory, "x.raw")) / "x.raw")
    with pytest.raises(BackupDamaged):
        upload(laboratory, "x.raw")
    assert objects(server, bucket) == {}
    assert server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    after = record(laboratory, "x.raw")
    assert (after.status, after.backup_status) == (Status.ERROR, BackupStatus.COPYING_FAILED)
    assert "MD5" in after.offsite.problem
    assert due(laboratory) == []


def test_wrong_credentials_are_told_and_nothing_of_the_backup_is_in_doubt(laboratory, monkeypatch):
    done(laboratory, "thermo1", "x.raw")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(OffsiteRefused):
        upload(laboratory, "x.raw")
    after = record(laboratory, "x.raw")
    assert (after.status, after.status_details) == (Status.DONE_NOT_QUANTED, None)
    assert after.backup_status is BackupStatus.UPLOAD_FAILED
    assert after.is_backed_up
    assert "credentials" in after.offsite.problem
    assert due(laboratory) == []
    laboratory.now.forward(minutes=31)
    assert due(laboratory) == ["x.raw"]


@pytest.mark.parametrize("versions", [None, False])
def test_a_bucket_that_is_missing_or_keeps_no_versions_takes_nothing(
    copying_to, server, bucket, versions
):
    name = f"{bucket}-other"
    if versions is not None:
        server.make_bucket(name, versions=versions)
    services = copying_to(server.endpoint, bucket=name)
    done(services, "thermo1", "x.raw")
    with pytest.raises(OffsiteUnfit, match="not there" if versions is None else "no versions"):
        upload(services, "x.raw")
    after = record(services, "x.raw")
    assert after.backup_status is BackupStatus.UPLOAD_FAILED
    assert after.offsite.retry_at is not None


def test_a_cut_connection_costs_no_more_than_its_part(copying_to, server, bucket, line):
    services = copying_to(f"http://127.0.0.1:{line.port}", bucket=bucket, upload_threads=1)
    done(services, "thermo1", "x.raw", size_bytes=PARTS)
    line.mode, line.after_bytes = "cut", 3 * MIB
    with pytest.raises(OffsiteAway):  # after the client's own tries
        upload(services, "x.raw")
    assert line.disturbed > 0
    line.mode = "through"
    outcome = upload(services, "x.raw")
    assert outcome.state.status is OffsiteStatus.DONE
    assert list(objects(server, bucket).values()) == list(local(services, "x.raw").values())


@pytest.mark.parametrize("mode", ["busy", "hang"])
def test_a_server_in_trouble_changes_nothing_and_is_tried_again(
    copying_to, bucket, line, mode, monkeypatch
):
    monkeypatch.setattr("kraken_dagster.offsite.client._TRIES", 2)
    services = copying_to(f"http://127.0.0.1:{line.port}", bucket=bucket, timeout_s=1)
    done(services, "thermo1", "x.raw")
    line.mode = mode
    failures = []
    for _ in range(2):
        with pytest.raises(OffsiteAway):
            upload(services, "x.raw")
        failures.append(record(services, "x.raw").offsite)
        services.now.forward(minutes=31)
    assert [item.failures for item in failures] == [1, 2]
    assert record(services, "x.raw").status is Status.DONE_NOT_QUANTED
    assert due(services) == ["x.raw"]
    line.mode = "through"
    assert upload(services, "x.raw").state.status is OffsiteStatus.DONE


def test_an_upload_that_was_killed_goes_on_with_the_parts_that_are_there(
    copying_to, server, bucket, line
):
    services = copying_to(f"http://127.0.0.1:{line.port}", bucket=bucket, upload_threads=1)
    done(services, "thermo1", "x.raw", size_bytes=6 * 5 * MIB)
    line.slow = True
    what = services.config.model_dump_json(exclude_none=True), "x.raw", services.now().isoformat()
    process = subprocess.Popen([sys.executable, "-m", killable.__name__, *what])
    client = server.client()

    def parts() -> int:
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        if not uploads:
            return 0
        begun = {"Key": uploads[0]["Key"], "UploadId": uploads[0]["UploadId"]}
        return len(client.list_parts(Bucket=bucket, **begun).get("Parts", []))

    wait_until(lambda: parts() >= 2, "two parts are there")
    os.kill(process.pid, 9)
    process.wait()
    assert objects(server, bucket) == {}
    assert record(services, "x.raw").backup_status is BackupStatus.UPLOAD_IN_PROGRESS
    line.slow = False
    services.now.forward(minutes=5)  # its lease has lapsed
    began = _sent(client, bucket)
    assert began >= 2
    outcome = upload(services, "x.raw")
    assert outcome.state.status is OffsiteStatus.DONE
    assert list(objects(server, bucket).values()) == list(local(services, "x.raw").values())
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def _sent(client, bucket: str) -> int:
    [begun] = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    return len(
        client.list_parts(Bucket=bucket, Key=begun["Key"], UploadId=begun["UploadId"])["Parts"]
    )


def test_a_locked_version_has_its_date(copying_to, server, bucket):
    name = server.make_bucket(f"{bucket}-lock", lock=True)
    lock = {"mode": "governance", "days": 30}
    services = copying_to(server.endpoint, bucket=name, object_lock=lock)
    services.now.forward(days=365)
    done(services, "thermo1", "x.raw", size_bytes=PARTS)
    upload(services, "x.raw")
    stored = services.store.offsite.objects("x.raw")["x.raw"]
    expected = stored.uploaded_at.replace(microsecond=0)
    assert (stored.lock_until.replace(microsecond=0) - expected).days == 30


@pytest.mark.parametrize("size", [5000, 12 * MIB])
def test_a_server_that_keeps_none_is_told(copying_to, server, bucket, size):
    services = copying_to(server.endpoint, bucket=bucket, checksum="sha256")
    done(services, "thermo1", "x.raw", size_bytes=size)
    with pytest.raises(OffsiteUnfit, match="keeps no SHA-256"):
        upload(services, "x.raw")
    after = services.store.raw_files.get("x.raw")
    assert after.offsite.status is OffsiteStatus.FAILED
    assert "leave `checksum` out" in after.offsite.problem
    assert after.is_backed_up
