"""`kraken doctor` on the S3 server: each bucket, and what would delete from it."""

import pytest

from kraken_dagster.operations.doctor.offsite import offsite_findings
from kraken_dagster.operations.doctor.uploads import try_uploads
from kraken_dagster_tests.offsite.s3_server import NEEDS_S3

pytestmark = NEEDS_S3
RULE = {
    "ID": "old ones go",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
}


def levels(services) -> dict[str, str]:
    return {item.found: item.level for item in offsite_findings(services)}


def test_a_bucket_that_is_fit_is_fine(laboratory):
    assert list(levels(laboratory).values()) == ["ok"]


def test_without_a_second_copy_nothing_is_said_of_it(services):
    assert levels(services) == {}


def test_a_bucket_without_versions_or_none_at_all_is_an_error(copying_to, server, bucket):
    plain = server.make_bucket(f"{bucket}-plain", versions=False)
    projects = {"P1": {"bucket": f"{bucket}-missing"}}
    found = levels(copying_to(server.endpoint, bucket=plain, projects=projects))
    assert list(found.values()) == ["error", "error"]
    assert "is not there" in "".join(found)
    assert "keeps no versions" in "".join(found)


def test_of_a_prefix_every_project_has_its_bucket(copying_to, server, bucket):
    server.make_bucket(f"{bucket}--fallback")
    found = levels(copying_to(server.endpoint, bucket_prefix=bucket))
    assert "ok" in found.values()


def test_rules_that_delete_and_a_lock_that_is_missing_are_told(copying_to, server, bucket):
    server.client().put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [RULE]}
    )
    lock = {"mode": "governance", "days": 30}
    found = levels(copying_to(server.endpoint, bucket=bucket, object_lock=lock))
    assert sorted(found.values()) == ["error", "ok", "warning"]
    assert "'old ones go' deletes objects" in "".join(found)


def test_wrong_credentials_are_an_error(laboratory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    [(found, level)] = levels(laboratory).items()
    assert level == "error"
    assert "check the credentials" in found


def test_a_server_is_tried_out_and_what_was_made_is_removed(laboratory, server, bucket):
    found = list(try_uploads(lambda: laboratory))
    assert [item.level for item in found] == ["ok", "ok", "ok", "ok", "ok", "warning"]
    said = "\n".join(item.found for item in found)
    assert "refuses a wrong Content-MD5: BadDigest" in said
    assert "doesn't compare x-amz-checksum-sha256" in said
    assert "an upload with If-None-Match makes a second version" in said
    assert "an upload in parts with If-None-Match makes a second version" in said
    assert "Kraken may delete versions" in said
    listed = server.client().list_object_versions(Bucket=bucket)
    assert listed.get("Versions", []) == []
    assert server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_a_bucket_without_versions_is_not_tried_out(copying_to, server, bucket):
    plain = server.make_bucket(f"{bucket}-plain", versions=False)
    [found] = try_uploads(lambda: copying_to(server.endpoint, bucket=plain))
    assert (found.level, "keeps no versions" in found.found) == ("error", True)
    assert server.client().list_objects_v2(Bucket=plain).get("Contents", []) == []


def test_the_doctor_says_so_beforehand(copying_to, server, bucket):
    services = copying_to(server.endpoint, bucket=bucket, checksum="sha256")
    found = {item.found: item.level for item in try_uploads(lambda: services)}
    [(told, level)] = [item for item in found.items() if "sha256" in item[0]]
    assert level == "error"
    assert "leave `checksum` of `offsite` out" in told
