"""The judge of the fault runs finds what is planted, and nothing where all is well."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest

from kraken_dagster_tests.chaos.facts import content_of, members_of
from kraken_dagster_tests.chaos.judging.gather import Places, gather
from kraken_dagster_tests.chaos.judging.judge import Finding, Kind, judge
from kraken_dagster_tests.chaos.notes import Notebook

WHOLE = b"what the instrument wrote " * 400
OTHER = b"what nobody ever wrote    " * 400


@dataclass
class PlantedLaboratory:
    """Three acquisitions that went through all, each as its case then spoils it: `a.raw` still
    stands on the instrument, `b.d` was archived, `c.raw` was purged."""

    root: Path
    uri: str
    database: Any = field(init=False)

    def __post_init__(self) -> None:
        for name in ("thermo1/Backup", "bruker1/Backup", "backup", "output", "below/thermo1"):
            (self.root / name).mkdir(parents=True)
        self.notes, self.ledger = Notebook(self.root / "notes"), Notebook(self.root / "ledger")
        self.database = pymongo.MongoClient(self.uri).get_default_database()
        self.add("thermo1", "a.raw", number=1, place="initial")
        self.add("bruker1", "b.d", number=2, place="moved")
        self.add("thermo1", "c.raw", number=3, place="purged")

    def add(self, instrument: str, name: str, *, number: int, place: str) -> None:
        folder = self.root / instrument
        self.write(folder, name, WHOLE + name.encode())
        self.written(instrument, name, number=number)
        month = self.root / "backup" / instrument / "2026_11"
        month.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if name.endswith(".d") else shutil.copyfile
        copy(folder / name, month / name)
        for ending in (".md5", ".sha256", ".xxh128"):
            (month / f"{name}{ending}").write_text("a manifest")
        self.record(instrument, name, place=place)
        self.process(name)
        if place == "moved":
            (folder / name).rename(folder / "Backup" / name)
        elif place == "purged":
            (folder / name).unlink()

    def write(self, folder: Path, name: str, data: bytes) -> None:
        if name.endswith(".d"):
            (folder / name).mkdir()
            (folder / name / "analysis.tdf").write_bytes(b"index of " + data)
            (folder / name / "analysis.tdf_bin").write_bytes(data)
        else:
            (folder / name).write_bytes(data)

    def written(self, instrument: str, name: str, *, number: int, fate: str = "ok") -> None:
        members = members_of(self.root / instrument, name)
        self.notes.write(
            "written",
            acquisition=number,
            instrument=instrument,
            name=name,
            fate=fate,
            members=members,
        )

    def record(self, instrument: str, name: str, *, place: str = "initial", **more: Any) -> None:
        members = members_of(self.root / instrument, more.get("original_name", name))
        stem = name.rpartition(".")[0]
        info = {f"{stem}{tail}": [float(item.size), item.md5] for tail, item in members.items()}
        document = {
            "_id": name,
            "original_name": name,
            "instrument_id": instrument,
            "status": "done",
            "backup_status": "copying_done",
            "instrument_file_status": place,
            "file_info": info,
        }
        self.database.raw_file.insert_one({**document, **more})

    def process(self, name: str) -> None:
        job, path = f"job-{name}", f"_FALLBACK/out_{name}"
        document = {"_id": job, "raw_file": name, "state": "succeeded"}
        self.database.quant_job.insert_one({**document, "relative_output_path": path})
        self.database.metrics.insert_one({"raw_file": name, "provenance": {"job": job}})
        (self.root / "output" / path).mkdir(parents=True)
        (self.root / "output" / path / "msqc_results.tsv").write_text("ms1_scans\n5\n")
        self.start(job, name, pid=7)
        self.ledger.write("end", job=job, raw_file=name, pid=7, exit=0)

    def start(self, job: str, raw_file: str, *, pid: int, md5: str | None = None) -> None:
        instrument = "bruker1" if raw_file.endswith(".d") else "thermo1"
        main = f"{raw_file}/analysis.tdf_bin" if raw_file.endswith(".d") else raw_file
        seen = content_of(self.root / "backup" / instrument / "2026_11" / main).md5
        facts = {"job": job, "raw_file": raw_file, "settings": "search", "pid": pid}
        self.ledger.write("start", **facts)
        self.ledger.write("saw", **facts, input=main, md5=md5 or seen)

    def backup(self, path: str) -> Path:
        return self.root / "backup" / path

    def set(self, name: str, **fields: Any) -> None:
        self.database.raw_file.update_one({"_id": name}, {"$set": fields})

    def found(self) -> list[Finding]:
        places = Places(
            disks=self.root,
            instruments=("thermo1", "bruker1"),
            notes=self.notes.path,
            ledger=self.ledger.path,
            mongodb_uri=self.uri,
            below=self.root / "below",
        )
        return judge(gather(places))


Case = Callable[[PlantedLaboratory], None]


@pytest.fixture
def planted(tmp_path: Path, mongodb_uri: str) -> PlantedLaboratory:
    return PlantedLaboratory(tmp_path, mongodb_uri)


def _a_bit_flips(services: PlantedLaboratory, path: str = "thermo1/2026_11/a.raw") -> None:
    file = services.backup(path)
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)


def _a_flip_is_noted(services: PlantedLaboratory) -> None:
    _a_bit_flips(services)
    path = "thermo1/2026_11/a.raw"
    services.notes.write("flipped", path=path, md5=content_of(services.backup(path)).md5)


def _no_trace_of_the_purged(services: PlantedLaboratory) -> None:
    services.backup("thermo1/2026_11/c.raw").unlink()


def _a_copy_is_cut(services: PlantedLaboratory) -> None:
    services.backup("thermo1/2026_11/a.raw").write_bytes(WHOLE[:1000])


def _a_member_lacks(services: PlantedLaboratory) -> None:
    services.backup("bruker1/2026_11/b.d/analysis.tdf").unlink()


def _a_part_is_left(services: PlantedLaboratory) -> None:
    services.backup("thermo1/2026_11/.kraken-part-1-2").write_bytes(WHOLE)


def _a_second_record(services: PlantedLaboratory) -> None:
    services.record("thermo1", "20261127-1-a.raw", original_name="a.raw")
    shutil.copyfile(
        services.backup("thermo1/2026_11/a.raw"),
        services.backup("thermo1/2026_11/20261127-1-a.raw"),
    )
    services.process("20261127-1-a.raw")


def _a_second_result(services: PlantedLaboratory) -> None:
    services.database.metrics.insert_one({"raw_file": "a.raw", "provenance": {"job": "job-a.raw"}})


def _one_attempt_begins_twice(services: PlantedLaboratory) -> None:
    services.start("job-a.raw", "a.raw", pid=8)


def _two_attempts_at_once(services: PlantedLaboratory) -> None:
    services.start("job-a.raw-2", "a.raw", pid=8)
    services.start("job-a.raw-3", "a.raw", pid=9)
    services.ledger.write("end", job="job-a.raw-2", raw_file="a.raw", pid=8, exit=0)


def _a_job_sees_other_bytes(services: PlantedLaboratory) -> None:
    services.start("job-a.raw-2", "a.raw", pid=8, md5="0" * 32)


def _it_goes_while_the_backup_is_damaged(services: PlantedLaboratory) -> None:
    services.notes.write("vanished", instrument="thermo1", name="c.raw", whole=False)


def _it_goes_and_nothing_is_recorded(services: PlantedLaboratory) -> None:
    services.set("c.raw", backup_status="copying_in_progress")


def _done_without_a_result(services: PlantedLaboratory) -> None:
    services.database.metrics.delete_many({"raw_file": "a.raw"})


def _done_although_its_job_failed(services: PlantedLaboratory) -> None:
    lines = services.ledger.path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"end"' not in line or '"job-a.raw"' not in line]
    services.ledger.path.write_text("".join(kept))


def _done_and_the_output_is_empty(services: PlantedLaboratory) -> None:
    shutil.rmtree(services.root / "output" / "_FALLBACK" / "out_a.raw")


def _failed_although_its_job_went_well(services: PlantedLaboratory) -> None:
    services.set("a.raw", status="quanting_failed")


def _an_error_that_is_none(services: PlantedLaboratory) -> None:
    services.set("a.raw", status="error", status_details="no words for: OSError")


def _a_good_acquisition_counts_as_failed(services: PlantedLaboratory) -> None:
    services.set("a.raw", status="acquisition_failed")


def _not_processed_for_no_reason(services: PlantedLaboratory) -> None:
    services.set("a.raw", status="done_not_quanted")


def _moved_by_its_record_only(services: PlantedLaboratory) -> None:
    services.set("a.raw", instrument_file_status="moved")


def _purged_by_its_record_only(services: PlantedLaboratory) -> None:
    services.set("b.d", instrument_file_status="purged")


def _a_record_of_nothing(services: PlantedLaboratory) -> None:
    services.record("thermo1", "._a.raw", file_info={}, backup_status=None)


def _still_copying(services: PlantedLaboratory) -> None:
    services.set("a.raw", status="copying")


def _waits_for_a_retry(services: PlantedLaboratory) -> None:
    services.set("a.raw", retry_at=datetime(2030, 1, 1, tzinfo=UTC))


def _a_job_is_never_collected(services: PlantedLaboratory) -> None:
    services.database.quant_job.update_one({"_id": "job-a.raw"}, {"$set": {"uncollected": True}})


def _never_noticed(services: PlantedLaboratory) -> None:
    services.write(services.root / "thermo1", "d.raw", WHOLE + b"d")
    services.written("thermo1", "d.raw", number=4)


def _written_below_a_mount_point(services: PlantedLaboratory) -> None:
    (services.root / "below" / "thermo1" / "a.raw").write_bytes(WHOLE)


def _a_foreign_file_goes(services: PlantedLaboratory) -> None:
    path = services.root / "thermo1" / "notes.txt"
    path.write_text("of the operator")
    services.notes.write("planted", path="thermo1/notes.txt", content=content_of(path))
    path.unlink()


def _an_instruments_file_changes(services: PlantedLaboratory) -> None:
    (services.root / "thermo1" / "a.raw").write_bytes(OTHER)


PLANTED: list[tuple[Case, set[Kind]]] = [
    (_a_bit_flips, {Kind.ALTERED, Kind.LYING}),
    (_a_flip_is_noted, {Kind.LYING}),
    (_no_trace_of_the_purged, {Kind.LOST, Kind.LYING}),
    (_a_copy_is_cut, {Kind.PARTIAL, Kind.LYING}),
    (_a_member_lacks, {Kind.PARTIAL, Kind.LYING}),
    (_a_part_is_left, {Kind.PARTIAL}),
    (_a_second_record, {Kind.DOUBLED}),
    (_a_second_result, {Kind.DOUBLED}),
    (_one_attempt_begins_twice, {Kind.STARTED_TWICE}),
    (_two_attempts_at_once, {Kind.STARTED_TWICE}),
    (_a_job_sees_other_bytes, {Kind.ALTERED}),
    (_it_goes_while_the_backup_is_damaged, {Kind.DELETED_UNPROVEN}),
    (_it_goes_and_nothing_is_recorded, {Kind.DELETED_UNPROVEN}),
    (_done_without_a_result, {Kind.LYING}),
    (_done_although_its_job_failed, {Kind.LYING}),
    (_done_and_the_output_is_empty, {Kind.LYING}),
    (_failed_although_its_job_went_well, {Kind.LYING}),
    (_an_error_that_is_none, {Kind.LYING}),
    (_a_good_acquisition_counts_as_failed, {Kind.LYING}),
    (_not_processed_for_no_reason, {Kind.LYING}),
    (_moved_by_its_record_only, {Kind.LYING}),
    (_purged_by_its_record_only, {Kind.LYING}),
    (_a_record_of_nothing, {Kind.LYING}),
    (_still_copying, {Kind.NEVER_ENDED}),
    (_waits_for_a_retry, {Kind.NEVER_ENDED}),
    (_a_job_is_never_collected, {Kind.NEVER_ENDED}),
    (_never_noticed, {Kind.NEVER_ENDED}),
    (_written_below_a_mount_point, {Kind.STRAY}),
    (_a_foreign_file_goes, {Kind.FOREIGN}),
    (_an_instruments_file_changes, {Kind.ALTERED, Kind.LYING}),
]


def test_where_all_is_well_the_judge_finds_nothing(planted: PlantedLaboratory) -> None:
    assert planted.found() == []


@pytest.mark.parametrize(
    ("spoil", "kinds"), PLANTED, ids=[spoil.__name__.strip("_") for spoil, _ in PLANTED]
)
def test_the_judge_finds_what_is_planted_and_nothing_else(
    planted: PlantedLaboratory, spoil: Case, kinds: set[Kind]
) -> None:
    spoil(planted)
    assert {finding.kind for finding in planted.found()} == kinds


def test_a_damaged_backup_that_is_told_as_such_is_no_finding(planted: PlantedLaboratory) -> None:
    _a_flip_is_noted(planted)
    planted.set("a.raw", status="error", status_details="The backup is not what was recorded")
    assert planted.found() == []


def test_what_a_person_took_away_is_not_lost_by_kraken(planted: PlantedLaboratory) -> None:
    (planted.root / "thermo1" / "a.raw").unlink()
    planted.backup("thermo1/2026_11/a.raw").unlink()
    planted.notes.write("removed", acquisition=1, whole=False)
    planted.database.raw_file.delete_one({"_id": "a.raw"})
    assert planted.found() == []


def test_what_a_person_took_away_once_it_was_backed_up_must_be_in_the_backup(
    planted: PlantedLaboratory,
) -> None:
    (planted.root / "thermo1" / "a.raw").unlink()
    planted.notes.write("removed", acquisition=1, whole=True)
    assert planted.found() == []
    planted.backup("thermo1/2026_11/a.raw").unlink()
    assert Kind.LOST in {finding.kind for finding in planted.found()}


def test_a_job_that_was_killed_may_have_failed(planted: PlantedLaboratory) -> None:
    planted.set("a.raw", status="quanting_failed")
    planted.notes.write("job hurt", raw_file="a.raw")
    assert planted.found() == []


def test_a_file_that_was_renamed_may_be_known_by_both_names(planted: PlantedLaboratory) -> None:
    (planted.root / "thermo1" / "a.raw").rename(planted.root / "thermo1" / "e.raw")
    planted.notes.write("renamed", acquisition=1, to="e.raw")
    shutil.copyfile(
        planted.backup("thermo1/2026_11/a.raw"), planted.backup("thermo1/2026_11/e.raw")
    )
    planted.record("thermo1", "e.raw")
    planted.process("e.raw")
    assert planted.found() == []


def test_what_was_taken_away_before_its_backup_may_be_looked_for_for_ever(
    planted: PlantedLaboratory,
) -> None:
    (planted.root / "thermo1" / "a.raw").unlink()
    planted.notes.write("removed", acquisition=1, whole=False)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    planted.set("a.raw", status="error", retry_at=later)
    assert planted.found() == []


def test_what_was_taken_from_an_otherwise_empty_folder_may_be_watched_for_ever(
    planted: PlantedLaboratory,
) -> None:
    (planted.root / "thermo1" / "a.raw").unlink()
    planted.notes.write("removed", acquisition=1, whole=False)
    planted.set("a.raw", status="monitoring_acquisition", file_info={}, backup_status=None)
    planted.backup("thermo1/2026_11/a.raw").unlink()
    assert planted.found() == []
    _never_noticed(planted)
    assert len(planted.found()) == 2
