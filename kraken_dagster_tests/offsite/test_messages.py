"""What Kraken says when the S3 server or its configuration is at fault."""

from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.config.offsite import Offsite
from kraken_dagster.model.errors import ConfigError, FileSystemLimit, OffsiteAway, OffsiteError
from kraken_dagster.model.offsite import OffsiteStatus
from kraken_dagster.model.raw_file import BackupStatus
from kraken_dagster.offsite.client import connect, s3_errors
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster_tests.offsite.s3_server import NEEDS_S3
from kraken_dagster_tests.offsite.stand_in import refusal
from kraken_dagster_tests.retention.retention_cases import done
from kraken_dagster_tests.support.helpers import acquire, finish

pytestmark = NEEDS_S3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "nobody"}, "add the profile to ~/.aws/credentials"),
        ({"endpoint": "http://two hosts"}, "correct `endpoint`"),
        ({"ca_bundle": Path("/nowhere/ca.pem")}, "`offsite.ca_bundle` are not there"),
    ],
)
def test_a_configuration_that_makes_no_connection_says_what_to_correct(options, words):
    offsite = Offsite(bucket="raw").model_copy(update=options)
    with pytest.raises(ConfigError) as caught:
        connect(offsite)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "InvalidStorageClass", "offsite.storage_class"),
        (301, "PermanentRedirect", "offsite.region"),
        (400, "EntityTooSmall", "offsite.part_mb"),
        (501, "NotImplemented", "the server lacks what was asked of it"),
        (507, "QuotaExceeded", "make room"),
        (400, "MadeUp", "look MadeUp up"),
    ],
)
def test_a_refusal_says_what_the_server_said_and_a_step_that_fits(status, code, words):
    with pytest.raises(OffsiteError) as caught, s3_errors("s3://b/k"):
        raise refusal(status, code)
    assert not isinstance(caught.value, OffsiteAway)
    assert f"HTTP {status}, {code}: {code}, says the stand-in" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "message", "words"),
    [
        (403, "AccessDenied", "not authorized to perform: kms:GenerateDataKey", "offsite.kms_key"),
        (403, "InvalidAccessKeyId", "Failed to retrieve the key, kms-keyid: k", "offsite.kms_key"),
        (404, "NoSuchBucket", "The bucket kms-keyid is not there", "create it, with versioning"),
        (403, "AccessDenied", "No access to kms-data", "credentials"),
    ],
)
def test_a_key_is_named_where_the_server_speaks_of_one(status, code, message, words):
    with pytest.raises(OffsiteError, match=words), s3_errors("s3://b/k"):
        raise refusal(status, code, message=message)


def test_a_storage_class_that_the_server_has_not_is_named(copying_to, server, bucket):
    services = copying_to(server.endpoint, bucket=bucket, storage_class="NO_SUCH_CLASS")
    done(services, "thermo1", "x.raw")
    with pytest.raises(OffsiteError, match="`storage_class`"):
        upload_file(services, connect(services.config.offsite), "x.raw", run_id="upload")
    assert (
        "HTTP 400, InvalidArgument. Next" in services.store.raw_files.get("x.raw").offsite.problem
    )


def test_what_s3_can_not_take_is_tried_once_and_told(copying_to):
    laboratory = copying_to("http://127.0.0.1:9", bucket="kraken")
    acquire(laboratory, "bruker1", "x.d")
    folder = laboratory.instrument_folder("bruker1") / "x.d"
    deep = folder.joinpath(*[letter * 220 for letter in "abcde"])
    deep.mkdir(parents=True)
    (deep / "method.xml").write_text("x")
    finish(laboratory, "bruker1")
    back_up(laboratory, "x.d", run_id="backup", options=BackupOptions())

    def due() -> list[str]:
        found = laboratory.store.offsite.due("bruker1", laboratory.now(), limit=10)
        return [item.id for item in found]

    assert due() == ["x.d"]
    with pytest.raises(FileSystemLimit, match="longer than S3 takes"):
        upload_file(laboratory, None, "x.d", run_id="upload")
    after = laboratory.store.raw_files.get("x.d")
    assert after.backup_status is BackupStatus.UPLOAD_FAILED
    assert after.offsite is not None
    assert (after.offsite.status, after.offsite.retry_at) == (OffsiteStatus.FAILED, None)
    laboratory.now.forward(days=1)
    assert due() == []
    # A backup that is made anew has other members, perhaps.
    changes = {"backup_status": BackupStatus.COPYING_DONE}
    laboratory.store.raw_files.update(after, changes, now=laboratory.now(), note="made anew")
    assert due() == ["x.d"]
