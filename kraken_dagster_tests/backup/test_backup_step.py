"""The step `backup` from an instrument's folder to a proven copy and its record."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.config.schema import BackupLocation
from kraken_dagster.fs.stores.manifest import manifest_name
from kraken_dagster.model.raw_file import FileFact, Status
from kraken_dagster_tests.support.helpers import (
    HOSTILE_STEMS,
    Bench,
    acquire,
    backed_up,
    finish,
    long_name,
    manifest_holds,
    md5sum,
)

NAMES = {"thermo1": "x.raw", "bruker1": "x.d", "sciex1": "x.wiff"}
MEMBERS = {
    "thermo1": ["x.raw"],
    "bruker1": [
        "x.d/4711.m/hystar.method",
        "x.d/4711.m/microTOFQImpacTemAcquisition.method",
        "x.d/SampleInfo.xml",
        "x.d/analysis.tdf",
        "x.d/analysis.tdf_bin",
    ],
    "sciex1": ["x.timeseries.data", "x.wiff", "x.wiff.scan", "x.wiff2"],
}


def copied(services, name: str, **options) -> BackupOutcome:
    return back_up(services, name, run_id="run-1", options=BackupOptions(**options), by_hand=False)


def files_in(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


@pytest.mark.parametrize("instrument_id", NAMES)
def test_every_member_is_copied_proven_and_recorded(services, instrument_id):
    name, members = NAMES[instrument_id], MEMBERS[instrument_id]
    acquire(services, instrument_id, name)
    finish(services, instrument_id)
    source = services.instrument_folder(instrument_id)
    before = {member: (source / member).read_bytes() for member in files_in(source)}
    outcome = copied(services, name)

    raw_file = services.store.raw_files.get(name)
    facts = {m: FileFact(size=len(before[m]), md5=md5sum(source / m)) for m in members}
    assert (outcome.done, outcome.reason) == (True, "copied and verified")
    assert raw_file.status is Status.COPYING_DONE
    assert raw_file.backup_status == "copying_done"
    assert raw_file.file_info == facts == outcome.facts
    assert raw_file.size == sum(len(before[member]) for member in members)
    assert (raw_file.lease, raw_file.retry_at, raw_file.failures) == (None, None, 0)

    target = services.config.locations.backup.path / instrument_id / raw_file.year_month
    assert raw_file.backup_base_path == str(target)
    assert files_in(target) == sorted([*members, f"{name}.md5"])
    assert {member: (target / member).read_bytes() for member in members} == before
    assert all((target / m).stat().st_mtime_ns == (source / m).stat().st_mtime_ns for m in members)
    assert manifest_holds(target, f"{name}.md5")
    assert {member: (source / member).read_bytes() for member in files_in(source)} == before


def test_the_manifest_is_refuted_by_the_real_md5sum_when_a_byte_of_the_backup_changes(services):
    raw_file = backed_up(services, "thermo1", "x.raw")
    target = services.backup_folder(raw_file)
    with (target / "x.raw").open("r+b") as file:
        file.write(b"Y")
    assert not manifest_holds(target, "x.raw.md5")


def test_the_history_says_who_copied_what_and_when(services):
    acquire(services, "thermo1", "x.raw", size_bytes=5000)
    finish(services, "thermo1")
    copied(services, "x.raw")
    *_, copying, done = services.store.raw_files.get("x.raw").history
    assert (copying["from"], copying["to"]) == ("monitoring_done", "copying")
    assert (done["from"], done["to"]) == ("copying", "copying_done")
    assert done["reason"] == "1 files, 5000 bytes, copied and verified"
    assert {copying["run_id"], done["run_id"]} == {"run-1"}
    assert done["at"] == services.now()


def test_the_month_of_a_backup_is_that_of_the_acquisition_in_utc(services):
    created_at = datetime.fromisoformat("2024-08-01T00:30:00+02:00")
    Bench(services, "thermo1").write("x.raw", created_at=created_at)
    finish(services, "thermo1")
    copied(services, "x.raw")
    assert services.store.raw_files.get("x.raw").created_at == created_at.astimezone(UTC)
    assert (services.config.locations.backup.path / "thermo1/2024_07/x.raw").is_file()


def test_the_recorded_path_is_the_clusters(make_services, config):
    backup = BackupLocation(path=config.locations.backup.path, cluster="/fs/pool/backup")
    locations = config.locations.model_copy(update={"backup": backup})
    services = make_services(config.model_copy(update={"locations": locations}))
    raw_file = backed_up(services, "thermo1", "x.raw")
    assert raw_file.backup_base_path == f"/fs/pool/backup/thermo1/{raw_file.year_month}"
    assert (backup.path / "thermo1" / raw_file.year_month / "x.raw").is_file()


@pytest.mark.parametrize("instrument_id", NAMES)
def test_another_acquisition_under_a_known_name_is_backed_up_under_its_own_id(
    services, instrument_id
):
    name = NAMES[instrument_id]
    first = backed_up(services, instrument_id, name)
    folder = services.instrument_folder(instrument_id)
    for path in list(folder.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    acquire(services, instrument_id, name, size_bytes=70_000, seed=8)
    finish(services, instrument_id)
    (second,) = services.store.raw_files.in_status(instrument_id, {Status.MONITORING_DONE})
    copied(services, second.id)

    second = services.store.raw_files.get(second.id)
    flagged = [second.collision_flag + member for member in MEMBERS[instrument_id]]
    assert sorted(second.file_info) == sorted(flagged)
    target = services.backup_folder(second)
    own = [*flagged, f"{second.id}.md5"]
    assert files_in(target) == sorted([*MEMBERS[instrument_id], f"{name}.md5", *own])
    assert manifest_holds(target, f"{name}.md5")
    assert manifest_holds(target, f"{second.id}.md5")
    assert {name: md5sum(target / name) for name in first.file_info} == {
        name: fact.md5 for name, fact in first.file_info.items()
    }


@pytest.mark.parametrize(("instrument_id", "ending"), [("thermo1", ".raw"), ("bruker1", ".d")])
def test_hostile_names_are_backed_up_as_they_are(services, instrument_id, ending):
    bench = Bench(services, instrument_id)
    names = [*(stem + ending for stem in HOSTILE_STEMS), long_name(ending)]
    for name in names:
        bench.write(name)
    finish(services, instrument_id)
    for name in names:
        assert copied(services, name).done
        raw_file = services.store.raw_files.get(name)
        assert list(raw_file.file_info) == [services.rules(instrument_id).main_file(name)]
        assert manifest_holds(services.backup_folder(raw_file), manifest_name(name))
    assert sorted(
        path.name for path in services.backup_folder(raw_file).iterdir() if path.suffix != ".md5"
    ) == sorted(names)


def test_sciex_companions_with_hostile_names_go_with_their_acquisition(services):
    bench = Bench(services, "sciex1")
    for stem in HOSTILE_STEMS:
        bench.write(f"{stem}.wiff")
        for ending in (".wiff.scan", ".wiff2", ".by hand.txt"):
            (bench.folder / f"{stem}{ending}").write_bytes(b"x" * 200)
    finish(services, "sciex1")
    for stem in HOSTILE_STEMS:
        copied(services, f"{stem}.wiff")
        raw_file = services.store.raw_files.get(f"{stem}.wiff")
        endings = (".by hand.txt", ".wiff", ".wiff.scan", ".wiff2")
        assert sorted(raw_file.file_info) == [f"{stem}{ending}" for ending in endings]
        assert manifest_holds(services.backup_folder(raw_file), f"{stem}.wiff.md5")


@pytest.mark.parametrize("name", ["small.RAW", "diaPASEF.d"])
def test_files_of_real_instruments_are_backed_up_with_their_digests(services, shared, name):
    instrument_id = "bruker1" if name.endswith(".d") else "thermo1"
    source, target = shared / "data" / name, services.instrument_folder(instrument_id) / name
    members = files_in(source) if source.is_dir() else [""]
    for member in members:
        (target / member).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / member, target / member)
    finish(services, instrument_id)
    copied(services, name)
    raw_file = services.store.raw_files.get(name)
    paths = [os.path.join(name, member) if member else name for member in members]
    reported = subprocess.run(
        ["md5sum", *paths], cwd=source.parent, capture_output=True, text=True, check=True
    ).stdout
    recorded = {path: fact.md5 for path, fact in raw_file.file_info.items()}
    assert recorded == {line[34:]: line[:32] for line in reported.splitlines()}
    assert manifest_holds(services.backup_folder(raw_file), f"{name}.md5")
    if name.endswith(".d"):
        facts = raw_file.acquisition["instrument"]
        assert facts["ClosedProperly"] == "1"
        assert facts["AcquisitionDateTime"] == "2019-08-24T18:27:02.345+02:00"


def test_what_the_instrument_says_of_a_bruker_file_is_recorded(services):
    raw_file = backed_up(services, "bruker1", "x.d")
    assert raw_file.acquisition["instrument"]["ClosedProperly"] == "1"
    assert raw_file.acquisition["instrument"]["SimulatedBy"] == "Kraken"


def test_a_damaged_analysis_tdf_is_backed_up_as_it_is(services):
    bench = Bench(services, "bruker1")
    bench.write("x.d")
    (bench.folder / "x.d" / "analysis.tdf").write_bytes(b"no database")
    finish(services, "bruker1")
    assert copied(services, "x.d").done
    facts = services.store.raw_files.get("x.d").acquisition["instrument"]
    assert facts["ClosedProperly"] == "unknown"
    assert "can't be read" in facts["analysis.tdf"]


def test_an_identical_file_that_is_there_already_is_proven_and_not_copied(services):
    path = Bench(services, "thermo1").write("x.raw")
    finish(services, "thermo1")
    target = services.backup_folder(services.store.raw_files.get("x.raw"))
    target.mkdir(parents=True)
    shutil.copyfile(path, target / "x.raw")
    inode = (target / "x.raw").stat().st_ino
    outcome = copied(services, "x.raw")
    assert (outcome.proven, outcome.copied_bytes) == (1, 0)
    assert outcome.reason == "was there already, and proven identical"
    assert (target / "x.raw").stat().st_ino == inode
    assert services.store.raw_files.get("x.raw").status is Status.COPYING_DONE
