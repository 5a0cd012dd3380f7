"""A purge that asks the S3 server too: what it records, and what it leaves."""

import pytest

from kraken_dagster.config.instruments import PurgeProof
from kraken_dagster.config.problems import problems
from kraken_dagster.model.errors import ConfigError, OffsiteAway
from kraken_dagster.model.raw_file import BackupStatus, InstrumentFileStatus, Status
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster.operations.doctor.offsite import offsite_findings
from kraken_dagster.operations.file_report import show
from kraken_dagster.retention.purge_plan import plan
from kraken_dagster_tests.offsite.s3_server import NEEDS_S3
from kraken_dagster_tests.retention.retention_cases import (
    aside,
    disk_is_full,
    fields,
    files_in,
    flip_a_bit,
    moved,
    notes,
    purge_all,
)

pytestmark = NEEDS_S3
BOTH = {"purge_proof": PurgeProof.LOCAL_AND_OFFSITE}


@pytest.fixture(autouse=True)
def _full_disk(monkeypatch):
    disk_is_full(monkeypatch)


def upload(services, name: str) -> None:
    upload_file(services, connect(services.config.offsite), name, run_id="upload")


def stored(services, name: str):
    return services.store.offsite.objects(name)[name]


def test_what_was_purged_says_what_the_server_had(laboratory, bucket):
    moved(laboratory, "thermo1", "x.raw")
    upload(laboratory, "x.raw")
    [gone] = purge_all(laboratory, "thermo1", **BOTH).deleted
    assert (
        f"off-site the server has 1 files, {gone.size_bytes} bytes at s3://{bucket}" in gone.reason
    )
    after = fields(laboratory, "x.raw")
    assert after["instrument_file_status"] == InstrumentFileStatus.PURGED
    assert after["purged"]["offsite"]["seen_at"] is not None
    assert files_in(aside(laboratory, "thermo1")) == {}


def test_without_a_copy_nothing_is_deleted_and_the_plan_says_why(laboratory):
    moved(laboratory, "thermo1", "x.raw")
    outcome = purge_all(laboratory, "thermo1", **BOTH)
    assert outcome.deleted == ()
    assert "it has no copy off-site: it was not uploaded yet" in outcome.kept[0].reason
    assert files_in(aside(laboratory, "thermo1")).keys() == {"x.raw"}


def test_a_version_that_somebody_deleted_is_uploaded_again_and_purged_then(laboratory, server):
    moved(laboratory, "thermo1", "x.raw")
    upload(laboratory, "x.raw")
    first = stored(laboratory, "x.raw")
    server.client().delete_object(**first.version)
    outcome = purge_all(laboratory, "thermo1", **BOTH)
    assert outcome.deleted == ()
    assert "The copy off-site is not what was recorded" in outcome.kept[0].reason
    after = laboratory.store.raw_files.get("x.raw")
    assert after.backup_status is BackupStatus.UPLOAD_FAILED
    assert "no such version" in notes(after)[-2]
    assert after.is_backed_up
    [due] = laboratory.store.offsite.due("thermo1", laboratory.now(), limit=10)
    upload(laboratory, due.id)
    assert stored(laboratory, "x.raw").version_id != first.version_id
    laboratory.now.forward(hours=1)
    assert len(purge_all(laboratory, "thermo1", **BOTH).deleted) == 1


def test_while_the_server_is_away_the_purge_ends_and_says_so(copying_to, bucket, line, monkeypatch):
    monkeypatch.setattr("kraken_dagster.offsite.client._TRIES", 1)
    services = copying_to(f"http://127.0.0.1:{line.port}", bucket=bucket)
    for name in ("x.raw", "y.raw"):
        moved(services, "thermo1", name)
        upload(services, name)
    line.mode = "busy"
    with pytest.raises(OffsiteAway):
        purge_all(services, "thermo1", **BOTH)
    assert files_in(aside(services, "thermo1")).keys() == {"x.raw", "y.raw"}
    assert "S3 server" in services.store.health.disk("thermo1")["status_details"]
    assert services.store.raw_files.get("x.raw").offsite.problem is None
    line.mode = "through"
    assert len(purge_all(services, "thermo1", **BOTH).deleted) == 2


def test_where_the_backup_is_damaged_the_copy_alone_is_no_proof(laboratory):
    raw_file = moved(laboratory, "thermo1", "x.raw")
    upload(laboratory, "x.raw")
    flip_a_bit(laboratory.backup_folder(raw_file) / "x.raw")
    outcome = purge_all(laboratory, "thermo1", **BOTH)
    assert outcome.deleted == ()
    assert outcome.kept[0].damaged
    assert laboratory.store.raw_files.get("x.raw").status is Status.ERROR
    assert files_in(aside(laboratory, "thermo1")).keys() == {"x.raw"}


def test_it_needs_a_server_in_the_configuration(services):
    options = services.config.options.model_copy(update=BOTH)
    config = services.config.model_copy(update={"options": options})
    wrong = [".".join(key) for key, _ in problems(config)]
    assert "instruments.thermo1.purge_proof" in wrong
    moved(services, "thermo1", "x.raw")
    with pytest.raises(ConfigError):
        purge_all(services, "thermo1", **BOTH)


def test_doctor_and_the_file_say_what_is_never_purged(copying_to, server, bucket):
    services = copying_to(server.endpoint, bucket=bucket, projects={"P1": {"upload": False}})
    options = services.config.options.model_copy(update={**BOTH, "min_free_space_gb": 10})
    services.config.__dict__["options"] = options
    found = [item for item in offsite_findings(services) if item.what == "purge_proof"]
    assert [item.level for item in found] == ["warning"]
    moved(services, "thermo1", "x.raw")
    [kept] = plan(services, "thermo1", now=services.now()).kept
    assert "no copy off-site" in kept.reason
    assert "not purged: it has no copy off-site" in show(services, "x.raw")["waits_for"]
