"""Objects that the server encrypts, by a key of a key service, on the real radosgw.

Its key service is the one for tests: the keys are in the server's own configuration.
"""

import pytest
from pydantic import ValidationError

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.model.errors import OffsiteAway, OffsiteDiffers, OffsiteRefused, OffsiteUnfit
from kraken_dagster.model.offsite import OffsiteStatus
from kraken_dagster.offsite.check import require_copy
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.fetch import Fetched, restore_offsite
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster.operations.doctor.uploads import try_uploads
from kraken_dagster_tests.offsite.s3_server import MIB, NEEDS_S3
from kraken_dagster_tests.retention.retention_cases import done

pytestmark = NEEDS_S3
KEY = {"encryption": "aws:kms", "kms_key": "laboratory"}


@pytest.fixture
def encrypted(copying_to, server, bucket):
    return copying_to(server.endpoint, bucket=bucket, **KEY)


def upload(services):
    return upload_file(services, connect(services.config.offsite), "x.raw", run_id="upload").state


def stored(services):
    return services.store.offsite.objects("x.raw")["x.raw"]


def head_of(server, object_):
    version = {"Bucket": object_.bucket, "Key": object_.key, "VersionId": object_.version_id}
    return server.client().head_object(**version)


@pytest.mark.parametrize("size", [5000, 5 * MIB, 12 * MIB])
def test_what_was_encrypted_is_a_proven_copy_and_comes_back(encrypted, server, tmp_path, size):
    done(encrypted, "thermo1", "x.raw", size_bytes=size)
    assert upload(encrypted).status is OffsiteStatus.DONE
    object_ = stored(encrypted)
    assert object_.is_opaque
    assert head_of(server, object_)["SSEKMSKeyId"] == "laboratory"
    s3, raw_file = connect(encrypted.config.offsite), encrypted.store.raw_files.get("x.raw")
    require_copy(encrypted, s3, raw_file)
    folder = tmp_path / "restored"
    folder.mkdir()
    assert restore_offsite(encrypted, s3, "x.raw", folder) == Fetched(1, fetched=1)
    content = (encrypted.backup_folder(raw_file) / "x.raw").read_bytes()
    assert (folder / "x.raw").read_bytes() == content


def test_an_etag_that_is_no_md5_is_compared_with_the_recorded_one(encrypted):
    """radosgw's are MD5s all the same; Amazon's are not, so another one is recorded here."""
    done(encrypted, "thermo1", "x.raw")
    upload(encrypted)
    object_ = stored(encrypted).model_copy(update={"etag": "0" * 32})
    encrypted.store.offsite.keep_object("x.raw", object_)
    with pytest.raises(OffsiteDiffers, match="ETag"):
        require_copy(
            encrypted,
            connect(encrypted.config.offsite),
            encrypted.store.raw_files.get("x.raw"),
        )


def test_an_upload_that_was_cut_goes_on(copying_to, line, bucket, server):
    endpoint = f"http://127.0.0.1:{line.port}"
    away = copying_to(endpoint, bucket=bucket, upload_threads=1, **KEY)
    done(away, "thermo1", "x.raw", size_bytes=12 * MIB)
    line.mode, line.after_bytes = "cut", 3 * MIB
    with pytest.raises(OffsiteAway):
        upload(away)
    line.mode = "through"
    assert upload(away).status is OffsiteStatus.DONE
    assert head_of(server, stored(away))["ServerSideEncryption"] == "aws:kms"


def test_a_key_that_the_server_does_not_get_is_told_as_that(copying_to, server, bucket, encrypted):
    wrong = copying_to(server.endpoint, bucket=bucket, encryption="aws:kms", kms_key="lost")
    done(wrong, "thermo1", "x.raw")
    with pytest.raises(OffsiteRefused, match=r"can't use the key.*offsite\.kms_key"):
        upload(wrong)
    assert wrong.store.offsite.objects("x.raw") == {}


def test_an_object_that_was_not_encrypted_is_no_copy(copying_to, server, bucket):
    """radosgw takes AES256 without a key of its own, and does nothing."""
    services = copying_to(server.endpoint, bucket=bucket, encryption="AES256")
    done(services, "thermo1", "x.raw")
    with pytest.raises(OffsiteUnfit, match="did not encrypt"):
        upload(services)
    assert services.store.offsite.objects("x.raw") == {}
    told = {item.found: item.level for item in try_uploads(lambda: services)}
    assert told["it doesn't encrypt by AES256, as `encryption` asks for"] == "error"


@pytest.mark.parametrize("size", [5000, 12 * MIB])
def test_what_is_there_without_encryption_is_sent_again(copying_to, server, bucket, size):
    """As after an upload that ended before it was recorded, and a new configuration."""
    plain = copying_to(server.endpoint, bucket=bucket)
    done(plain, "thermo1", "x.raw", size_bytes=size)
    upload(plain)
    before = stored(plain)
    raw_file = plain.store.raw_files.get("x.raw")
    lost = {"offsite": None, "backup_status": "copying_done"}
    plain.store.offsite.forget_object("x.raw", "x.raw")
    plain.store.raw_files.update(raw_file, lost, now=plain.now(), note="forgotten")
    encrypted = copying_to(server.endpoint, bucket=bucket, **KEY)
    assert upload(encrypted).status is OffsiteStatus.DONE
    assert head_of(server, stored(encrypted))["ServerSideEncryption"] == "aws:kms"
    assert head_of(server, before)["ContentLength"] == size


def test_the_doctor_tries_uploads_with_the_key(encrypted):
    told = {item.found: item.level for item in try_uploads(lambda: encrypted)}
    assert "error" not in told.values()
    assert any("ETags are no MD5" in found for found in told)


def test_a_key_needs_its_encryption():
    with pytest.raises(ValidationError, match="expected `encryption: aws:kms` beside `kms_key`"):
        Offsite(bucket="raw-files", kms_key="laboratory")
