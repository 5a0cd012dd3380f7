"""`kraken restore --from offsite`: byte by byte what was recorded, or nothing with that name."""

import hashlib
from datetime import timedelta

import click.testing
import pytest

from kraken_dagster.cli.main import main
from kraken_dagster.model.errors import BackupDamaged, OffsiteDiffers, RestoreRefused
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.fetch import Fetched, restore_offsite
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster.operations.file_report import show
from kraken_dagster_tests.offsite.s3_server import MIB, NEEDS_S3
from kraken_dagster_tests.offsite.stand_in import StandIn
from kraken_dagster_tests.retention.retention_cases import INSTRUMENTS, done, files_in, flip_a_bit

pytestmark = NEEDS_S3


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "restored"
    made.mkdir()
    return made


def uploaded(services, instrument_id: str, name: str, **changes):
    done(services, instrument_id, name, **changes)
    s3 = connect(services.config.offsite)
    upload_file(services, s3, name, run_id="upload")
    return s3


def backup_of(services, name: str) -> dict[str, bytes]:
    raw_file = services.store.raw_files.get(name)
    folder = services.backup_folder(raw_file)
    return {path: (folder / path).read_bytes() for path in raw_file.file_info}


def found(folder) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in files_in(folder)}


@pytest.mark.parametrize(("instrument_id", "name"), INSTRUMENTS.items())
def test_every_member_comes_back_and_is_proven_the_next_time(
    laboratory, folder, instrument_id, name
):
    s3 = uploaded(laboratory, instrument_id, name)
    first = restore_offsite(laboratory, s3, name, folder)
    assert found(folder) == backup_of(laboratory, name)
    files = len(found(folder))
    assert first == Fetched(files, fetched=files)
    assert restore_offsite(laboratory, s3, name, folder) == Fetched(files, proven=files)
    assert not list(folder.glob(".kraken*"))


@pytest.mark.parametrize("damage", [False, True])
def test_what_was_interrupted_goes_on_and_is_compared_all_the_same(laboratory, folder, damage):
    s3 = uploaded(laboratory, "thermo1", "x.raw", size_bytes=12 * MIB)
    came: list[int] = []

    def stops(count: int) -> None:
        came.append(count)
        if sum(came) >= 5 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_offsite(laboratory, s3, "x.raw", folder, on_bytes=stops)
    assert not (folder / "x.raw").exists()
    [part] = folder.glob(".kraken-offsite-*/x.raw")
    had = part.stat().st_size
    assert 0 < had < 12 * MIB
    if damage:
        flip_a_bit(part)
    again: list[int] = []
    restore_offsite(laboratory, s3, "x.raw", folder, on_bytes=again.append)
    assert again[0] == had
    assert sum(again) == 12 * MIB
    assert any(count < 0 for count in again) is damage
    assert found(folder) == backup_of(laboratory, "x.raw")


def test_something_else_under_that_name_is_never_overwritten(laboratory, folder):
    s3 = uploaded(laboratory, "thermo1", "x.raw")
    (folder / "x.raw").write_bytes(b"somebody's")
    with pytest.raises(RestoreRefused, match="something else has this name"):
        restore_offsite(laboratory, s3, "x.raw", folder)
    assert found(folder) == {"x.raw": b"somebody's"}


def test_a_version_that_is_gone_is_told_and_nothing_has_a_name(laboratory, server, folder):
    s3 = uploaded(laboratory, "bruker1", "x.d")
    path = sorted(laboratory.store.offsite.objects("x.d"))[0]
    server.client().delete_object(**laboratory.store.offsite.objects("x.d")[path].version)
    with pytest.raises(OffsiteDiffers, match="no such version"):
        restore_offsite(laboratory, s3, "x.d", folder)
    assert not (folder / "x.d").exists()


@pytest.fixture
def cold(laboratory) -> StandIn:
    """The copy of a Bruker file, in a storage class that radosgw doesn't have."""
    uploaded(laboratory, "bruker1", "x.d")
    stand_in = StandIn(now=laboratory.now)
    for path, stored in laboratory.store.offsite.objects("x.d").items():
        stand_in.buckets.setdefault(stored.bucket, {})
        content = backup_of(laboratory, "x.d")[path]
        answer = stand_in.put_object(
            Bucket=stored.bucket, Key=stored.key, Body=content, StorageClass="DEEP_ARCHIVE"
        )
        there = stored.model_copy(update={"version_id": answer["VersionId"]})
        laboratory.store.offsite.keep_object("x.d", there)
    return stand_in


def test_what_lies_in_cold_storage_is_asked_for_and_fetched_once_it_is_there(
    laboratory, cold, folder
):
    first = restore_offsite(laboratory, cold, "x.d", folder, days=3)
    assert first.cold is not None
    assert (first.fetched, first.cold.ready) == (0, 0)
    assert first.cold.expected_at == laboratory.now() + timedelta(hours=12)
    assert "lie in DEEP_ARCHIVE" in show(laboratory, "x.d")["offsite_cold"]
    asked = cold.asked.count("RestoreObject")
    laboratory.now.forward(hours=1)
    again = restore_offsite(laboratory, cold, "x.d", folder, days=3)
    assert again.cold is not None
    assert again.cold.asked_at == first.cold.asked_at
    assert cold.asked.count("RestoreObject") == asked == first.files
    laboratory.now.forward(hours=12)
    assert restore_offsite(laboratory, cold, "x.d", folder).fetched == first.files
    assert found(folder) == backup_of(laboratory, "x.d")
    assert show(laboratory, "x.d")["offsite_cold"] is None


def test_other_bytes_than_recorded_get_no_name(laboratory, cold, folder):
    for keys in cold.buckets.values():
        for versions in keys.values():
            for version in versions.values():
                version.head["StorageClass"] = "STANDARD"
                version.content = b"?" * len(version.content)
    with pytest.raises(OffsiteDiffers, match="What the S3 server gave"):
        restore_offsite(laboratory, cold, "x.d", folder)
    assert files_in(folder) == {}


def record_second(services, name: str, digest: str) -> None:
    """As if the option `second_digest` had been on when the file was copied."""
    md5 = services.store.raw_files.get(name).file_info[name].md5
    changes = {"$set": {"file_digests": {name: [md5, "sha256", digest]}}}
    services.store._database["raw_file"].update_one({"_id": name}, changes)


def test_what_differs_in_its_second_digest_alone_is_not_uploaded(laboratory):
    done(laboratory, "thermo1", "x.raw")
    record_second(laboratory, "x.raw", "0" * 64)
    with pytest.raises(BackupDamaged, match="SHA-256"):
        upload_file(laboratory, connect(laboratory.config.offsite), "x.raw", run_id="upload")


def test_what_differs_in_its_second_digest_alone_gets_no_name(laboratory, folder):
    done(laboratory, "thermo1", "x.raw")
    whole = hashlib.sha256(backup_of(laboratory, "x.raw")["x.raw"]).hexdigest()
    record_second(laboratory, "x.raw", whole)
    s3 = connect(laboratory.config.offsite)
    upload_file(laboratory, s3, "x.raw", run_id="upload")
    fact = laboratory.store.raw_files.get("x.raw").file_info["x.raw"]
    assert fact.etag is not None
    assert fact.second == (DigestKind.SHA256, whole)
    record_second(laboratory, "x.raw", "0" * 64)
    with pytest.raises(OffsiteDiffers, match="SHA-256"):
        restore_offsite(laboratory, s3, "x.raw", folder)
    assert files_in(folder) == {}
    record_second(laboratory, "x.raw", whole)
    assert restore_offsite(laboratory, s3, "x.raw", folder).fetched == 1


def test_the_command_fetches_it(laboratory, tmp_path, folder):
    uploaded(laboratory, "thermo1", "x.raw")
    path = tmp_path / "fetching.yaml"
    path.write_text(laboratory.config.model_dump_json(exclude_none=True))  # which is YAML too
    arguments = ["--config", str(path), "restore", "x.raw", str(folder), "--from", "offsite"]
    result = click.testing.CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "1 files, 1 fetched, 0 there already; every byte as recorded" in result.stdout
    assert found(folder) == backup_of(laboratory, "x.raw")
