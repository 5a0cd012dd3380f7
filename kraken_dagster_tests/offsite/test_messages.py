"""What Kraken says when the S3 server or its configuration is at fault."""

from pathlib import Path

import pytest

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.model.errors import ConfigError, OffsiteAway, OffsiteError
from kraken_dagster.offsite.client import connect, s3_errors
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster_tests.offsite.s3_server import NEEDS_S3
from kraken_dagster_tests.offsite.stand_in import refusal
from kraken_dagster_tests.retention.retention_cases import done

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


def test_a_storage_class_that_the_server_has_not_is_named(copying_to, server, bucket):
    services = copying_to(server.endpoint, bucket=bucket, storage_class="NO_SUCH_CLASS")
    done(services, "thermo1", "x.raw")
    with pytest.raises(OffsiteError, match="`storage_class`"):
        upload_file(services, connect(services.config.offsite), "x.raw", run_id="upload")
    assert (
        "HTTP 400, InvalidArgument. Next" in services.store.raw_files.get("x.raw").offsite.problem
    )
