"""Lists of members that don't fit into a raw file's document: kept whole, believed as a whole."""

import hashlib
from pathlib import Path

import pymongo
import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.restore import restore
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.manifest import manifest_text
from kraken_dagster.model.errors import NotRecorded, RecordRefused
from kraken_dagster.model.metric_values import storable
from kraken_dagster.model.raw_file import FileFact, InstrumentFileStatus, Status
from kraken_dagster.operations import file_report
from kraken_dagster.quant.provenance import provenance_of
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members
from kraken_dagster_tests.retention.retention_cases import created, purge_all
from kraken_dagster_tests.support.helpers import NOW, finish, job, manifest_holds, record

MAIN = "x.d/analysis.tdf_bin"


def long_list(count: int = 40_000) -> dict[str, FileFact]:
    """Members with paths as long as file systems take them: 18 MB of names."""
    folder = f"x.d/{'s' * 220}"
    facts = {
        f"{folder}/{number:05d}{'n' * 225}": FileFact(size=0, md5=f"{number:032x}")
        for number in range(count)
    }
    return {MAIN: FileFact(size=7, md5="f" * 32), **facts}


def as_record(facts: dict[str, FileFact]) -> dict[str, list[object]]:
    return {path: fact.to_record() for path, fact in facts.items()}


@pytest.fixture
def database(mongodb_uri):
    with pymongo.MongoClient(mongodb_uri) as client:
        yield client.get_default_database()


@pytest.fixture
def known(store):
    """A raw file whose list of members is longer than a document may be."""
    raw_file = record("x.d", instrument_id="bruker1")
    store.raw_files.register(raw_file, reason="seen")
    facts = long_list()
    store.raw_files.update(raw_file, {"file_info": as_record(facts)}, now=NOW, note="recorded")
    return facts


def test_a_list_that_no_document_can_hold_comes_back_as_it_was(store, known):
    for found in (
        store.raw_files.get("x.d"),
        store.raw_files.current("x.d"),
        store.raw_files.many(["x.d"])["x.d"],
        store.raw_files.in_status("bruker1", set(Status))[0],
        store.raw_files.latest(["bruker1"])[0],
        store.bulk.files(["x.d"])[0],
    ):
        assert len(found.file_info) == len(known)
        assert found.file_info == known


def test_the_document_keeps_the_largest_members_and_stays_small(store, database, known):
    document = database["raw_file"].find_one({"_id": "x.d"})
    assert document["file_info"][MAIN] == [7.0, "f" * 32]
    assert sum(map(len, document["file_info"])) < 100_000
    (found,) = store.raw_files.known("bruker1", ["x.d"])["x.d"]
    assert found.sizes[MAIN] == 7


def test_a_list_that_fits_stands_in_the_document_where_other_programs_read_it(store, database):
    raw_file = record("x.d", instrument_id="bruker1")
    store.raw_files.register(raw_file, reason="seen")
    facts = {f"x.d/{number}.m/method": FileFact(size=1, md5="a" * 32) for number in range(10_000)}
    store.raw_files.update(raw_file, {"file_info": as_record(facts)}, now=NOW, note="recorded")
    assert len(database["raw_file"].find_one({"_id": "x.d"})["file_info"]) == 10_000
    assert database["raw_file_members"].count_documents({}) == 0


def test_who_dies_before_the_document_names_the_list_leaves_what_was_recorded_before(
    store, database, known
):
    newer = as_record({MAIN: FileFact(size=8, md5="e" * 32), **long_list(39_999)})
    store.raw_files._members.kept("x.d", {"file_info": newer})  # and then it dies
    assert store.raw_files.get("x.d").file_info == known


def test_the_same_list_is_kept_once_however_often_it_is_written(store, database, known):
    before = sorted(item["_id"] for item in database["raw_file_members"].find({}, {"_id": 1}))
    raw_file = store.raw_files.get("x.d")
    store.raw_files.update(raw_file, {"file_info": as_record(known)}, now=NOW, note="again")
    assert before == sorted(i["_id"] for i in database["raw_file_members"].find({}, {"_id": 1}))
    assert len(before) > 1


def test_a_list_that_is_not_complete_proves_nothing(store, database, known):
    part = database["raw_file_members"].find_one({}, {"_id": 1})
    database["raw_file_members"].delete_one(part)
    found = store.raw_files.get("x.d")
    assert found.unreadable is None
    with pytest.raises(NotRecorded, match="raw_file_members"):
        dict(found.file_info)


def test_what_another_program_records_later_counts(store, database, known):
    theirs = {"x.d/other": [1.0, "b" * 32]}
    database["raw_file"].update_one({"_id": "x.d"}, {"$set": {"file_info": theirs}})
    assert store.raw_files.get("x.d").file_info == {"x.d/other": FileFact(size=1, md5="b" * 32)}


def test_an_etag_that_another_program_adds_makes_no_part_of_a_list_the_whole(
    store, database, known
):
    part = database["raw_file"].find_one({"_id": "x.d"})["file_info"]
    theirs = {path: [size, md5, "etag-1"] for path, (size, md5) in part.items()}
    database["raw_file"].update_one({"_id": "x.d"}, {"$set": {"file_info": theirs}})
    found = store.raw_files.get("x.d").file_info
    assert found.keys() == known.keys()
    assert {path: fact.md5 for path, fact in found.items()} == {
        path: fact.md5 for path, fact in known.items()
    }
    assert found[MAIN].etag == "etag-1"


def test_a_part_that_another_program_changed_proves_nothing_where_the_rest_is_lost(
    store, database, known
):
    part = database["raw_file"].find_one({"_id": "x.d"})["file_info"]
    theirs = {path: [size, md5, "etag-1"] for path, (size, md5) in part.items()}
    database["raw_file"].update_one({"_id": "x.d"}, {"$set": {"file_info": theirs}})
    database["raw_file_members"].delete_one({})
    with pytest.raises(NotRecorded, match="raw_file_members"):
        dict(store.raw_files.get("x.d").file_info)


def test_a_list_that_fits_again_replaces_one_that_did_not(store, known):
    facts = {MAIN: FileFact(size=7, md5="f" * 32)}
    raw_file = store.raw_files.get("x.d")
    store.raw_files.update(raw_file, {"file_info": as_record(facts)}, now=NOW, note="fewer")
    assert store.raw_files.get("x.d").file_info == facts


def test_what_no_document_can_hold_is_refused_in_words(store, known):
    raw_file = store.raw_files.get("x.d")
    for value in ("x" * 17_000_000, 2**70, {"a\0b": 1}, "\udcff"):
        with pytest.raises(RecordRefused) as caught:
            store.raw_files.update(raw_file, {"odd": value}, now=NOW, note="odd")
        assert not caught.value.transient
        assert "retry" in (caught.value.next_step or "")


@pytest.fixture
def folder(services) -> Path:
    """An acquisition with more names than a document takes: 4,500 of 458 bytes."""
    folder: Path = services.instrument_folder("bruker1") / "x.d" / ("s" * 220)
    folder.mkdir(parents=True)
    (folder.parent / "analysis.tdf_bin").write_bytes(b"content")
    for number in range(4_500):
        (folder / f"{number:05d}{'n' * 225}").touch()
    finish(services, "bruker1")
    return folder


def test_a_raw_file_of_very_many_members_goes_all_the_way(services, folder, database, tmp_path):
    back_up(services, "x.d", run_id="b", options=BackupOptions())
    raw_file = services.store.raw_files.get("x.d")
    assert (raw_file.status, raw_file.retry_at) == (Status.COPYING_DONE, None)
    assert database["raw_file"].find_one({"_id": "x.d"})["members"]["count"] == 4_501
    assert manifest_holds(services.backup_folder(raw_file), "x.d.md5")
    assert len(file_report.show(services, "x.d")["file_info"]) == 4_501
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=services.now())
    found = verify_backup(services, "x.d", run_id="v", rate_limit=RateLimit(None))
    assert (found.verdict, found.files) == (Verdict.VERIFIED, 4_501)
    services.now.forward(minutes=6)
    moved = archive_members(services, "x.d", run_id="m", options=ArchiveOptions())
    assert moved.moved, moved.reason
    created(services, "x.d", days_ago=15)
    purged = purge_all(services, "bruker1")
    assert [item.files for item in purged.deleted] == [4_501], purged
    status = services.store.raw_files.get("x.d").instrument_file_status
    assert status is InstrumentFileStatus.PURGED
    assert len(restore(services, "x.d", tmp_path).facts) == 4_501


def test_a_result_names_a_great_many_members_by_the_digest_of_their_manifest(services):
    raw_file = record("x.d", instrument_id="bruker1", file_info=long_list(), size=7)
    root = services.config.locations.output.path
    found = provenance_of(services, raw_file, job(instrument_id="bruker1"), root=root)
    (reported,) = found["raw_file"]
    manifest = manifest_text(raw_file.file_info).encode()
    assert (reported["members"], reported["size"]) == (40_001, 7)
    assert reported["manifest_md5"] == hashlib.md5(manifest).hexdigest()


def test_metrics_are_kept_as_far_as_a_document_holds_them():
    kept, faults = storable({f"n{number}": "x" * 1_000 for number in range(5_000)})
    assert len(kept) + len(faults) == 5_000
    assert sum(map(len, kept.values())) < 4_000_000
    assert "only 4000000 bytes" in faults[0][1]
