"""Copies that are looked at again, read back within a budget, and uploads that are given up."""

import pytest

from kraken_dagster.model.errors import OffsiteAway
from kraken_dagster.model.offsite import BegunUpload, OffsiteStatus
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.scrub import Look, scrub, sweep
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster_tests.offsite.copies import Mute
from kraken_dagster_tests.offsite.s3_server import MIB, NEEDS_S3
from kraken_dagster_tests.offsite.stand_in import StandIn, refusal
from kraken_dagster_tests.retention.retention_cases import done, notes

pytestmark = NEEDS_S3
MB = 10**6


@pytest.fixture
def reading(copying_to, server, bucket):
    """Three copies on the real server, and a budget for one and a half of them."""
    services = copying_to(server.endpoint, bucket=bucket, read_gb_per_month=0.003)
    for name in ("a.raw", "b.raw", "c.raw"):
        done(services, "thermo1", name, size_bytes=2 * MB)
        upload(services, name)
        services.now.forward(hours=1)
    return services


def upload(services, name: str):
    s3 = connect(services.config.offsite)
    upload_file(services, s3, name, run_id="upload")
    return s3


def looks(services, s3=None) -> list[tuple[str, Look]]:
    s3 = s3 or connect(services.config.offsite)
    return [(item.raw_file_id, item.look) for item in scrub(services, s3)]


def test_copies_are_asked_for_when_due_and_read_as_far_as_the_month_allows(reading):
    assert looks(reading) == [("a.raw", Look.READ)]
    assert reading.store.offsite.read_in("2026-03") == 2 * MB
    assert looks(reading) == []
    reading.now.forward(days=8)
    assert looks(reading) == [(name, Look.SEEN) for name in ("b.raw", "c.raw", "a.raw")]
    reading.now.forward(days=25)  # another month
    assert looks(reading)[-1] == ("b.raw", Look.READ)
    assert reading.store.raw_files.get("b.raw").offsite.verified_at == reading.now()


def test_a_copy_is_not_read_again_within_a_month_however_large_the_budget(
    copying_to, server, bucket
):
    services = copying_to(server.endpoint, bucket=bucket, read_gb_per_month=100)
    done(services, "thermo1", "a.raw", size_bytes=MB)
    upload(services, "a.raw")
    assert looks(services) == [("a.raw", Look.READ)]
    services.now.forward(days=1)
    assert looks(services) == []
    services.now.forward(days=30)
    assert looks(services)[-1] == ("a.raw", Look.READ)


def test_a_version_that_is_gone_is_told_once_and_uploaded_again(reading, server):
    stored = reading.store.offsite.objects("b.raw")["b.raw"]
    server.client().delete_object(**stored.version)
    reading.now.forward(days=8)
    assert ("b.raw", Look.WRONG) in looks(reading)
    after = reading.store.raw_files.get("b.raw")
    assert after.offsite.status is OffsiteStatus.FAILED
    assert "no such version" in notes(after)[-1]
    assert [item.id for item in reading.store.offsite.due("thermo1", reading.now(), limit=9)] == [
        "b.raw"
    ]
    upload(reading, "b.raw")
    assert "b.raw" not in dict(looks(reading))


def test_bytes_that_are_not_what_was_recorded_are_found_by_reading(reading):
    stand_in = StandIn(now=reading.now)
    stored = reading.store.offsite.objects("a.raw")["a.raw"]
    stand_in.buckets[stored.bucket] = {}
    target = {"Bucket": stored.bucket, "Key": stored.key}
    answer = stand_in.put_object(**target, Body=b"?" * stored.size)
    version = stand_in.buckets[stored.bucket][stored.key][answer["VersionId"]]
    version.head["ETag"] = f'"{stored.etag}"'  # of what was sent, whatever the disk has now
    there = stored.model_copy(update={"version_id": answer["VersionId"]})
    reading.store.offsite.keep_object("a.raw", there)
    assert looks(reading, stand_in)[0] == ("a.raw", Look.WRONG)
    assert "when it was read back" in reading.store.raw_files.get("a.raw").offsite.problem
    assert reading.store.offsite.read_in("2026-03") == stored.size


def test_a_server_that_is_away_or_refuses_says_nothing_of_a_copy(reading):
    reading.now.forward(days=8)
    assert {look for _, look in looks(reading, Mute(refusal(403, "AccessDenied")))} == {
        Look.UNKNOWN
    }
    with pytest.raises(OffsiteAway):
        looks(reading, Mute(refusal(503, "SlowDown")))
    assert reading.store.raw_files.get("a.raw").offsite.status is OffsiteStatus.DONE


def test_only_kraken_s_own_uploads_are_given_up_and_only_after_a_while(laboratory, server, bucket):
    s3, client = connect(laboratory.config.offsite), server.client()
    ids = {}
    for name in ("ours", "another"):
        key = f"thermo1/2026_03/{name}.raw"
        ids[name] = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    begun = BegunUpload(
        id=ids["ours"],
        raw_file="ours.raw",
        bucket=bucket,
        key="thermo1/2026_03/ours.raw",
        begun_at=laboratory.now(),
    )
    laboratory.store.offsite.began(begun)
    assert list(sweep(laboratory, s3)) == []
    laboratory.now.forward(days=8)
    assert len(list(sweep(laboratory, s3))) == 1
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [item["UploadId"] for item in left] == [ids["another"]]
    assert list(sweep(laboratory, s3)) == []


def test_an_upload_of_another_program_is_not_gone_on_with(laboratory, server, bucket):
    raw_file = done(laboratory, "thermo1", "x.raw", size_bytes=12 * MIB)
    target = {"Bucket": bucket, "Key": f"thermo1/{raw_file.year_month}/x.raw"}
    foreign = server.client().create_multipart_upload(**target)["UploadId"]
    upload(laboratory, "x.raw")
    left = server.client().list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [item["UploadId"] for item in left] == [foreign]
    assert laboratory.store.offsite.begun("x.raw") == []
