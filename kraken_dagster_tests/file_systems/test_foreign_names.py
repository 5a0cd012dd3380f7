"""A store that takes two names for one: each backup is kept, and each file gets one."""

import unicodedata

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import UnsafePath
from kraken_dagster.model.files.names import folded, strangers, twins
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.output_folder import output_folder
from kraken_dagster_tests.backup.copying.copying_cases import content, make, write
from kraken_dagster_tests.file_systems.foreign import foreign
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import Bench, finish, job, manifest_holds

pytestmark = pytest.mark.fuse
NFC = unicodedata.normalize("NFC", "e\u0301")
NFD = unicodedata.normalize("NFD", NFC)
CASES = [
    ("nocase", "thermo1", "A.raw", "a.raw"),
    ("nocase", "thermo1", "x.raw", "x.RAW"),
    ("nocase", "bruker1", "S.d", "s.d"),
    ("nfd", "thermo1", f"{NFC}.raw", f"{NFD}.raw"),
    ("nfd", "thermo1", f"{NFD}.raw", f"{NFC}.raw"),
    ("nocase,nfd,newino,noutime,nochmod,nolink", "thermo1", f"{NFC}.raw", f"{NFD.upper()}.raw"),
]


def both_backed_up(services, instrument_id: str, first: str, second: str, **options: str):
    bench = Bench(services, instrument_id)
    for size, name in ((100, first), (200, second)):
        bench.write(name, size)
        finish(services, instrument_id)
        back_up(services, name, run_id="b", options=BackupOptions(**options))
        top = bench.folder / name
        top.rename(services.config.locations.output.path / f"{size}")
    return [services.store.raw_files.get(name) for name in (first, second)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("overwrite", [{}, {"backup_overwrite_file_id": "INSTRUMENT_{}"}])
def test_two_ids_that_are_one_name_to_the_store_are_both_proven(services, case, overwrite):
    way, instrument_id, first, second = case
    options = {key: value.format(instrument_id) for key, value in overwrite.items()}
    with foreign(services.config.locations.backup.path, way):
        for raw_file in both_backed_up(services, instrument_id, first, second, **options):
            assert raw_file.is_backed_up
            back_up(services, raw_file.id, run_id="verify", options=BackupOptions())
            assert manifest_holds(services.backup_folder(raw_file), f"{raw_file.id}.md5")
        folder = services.backup_folder(services.store.raw_files.get(first))
        assert not list(folder.glob("*.bkp"))
        own = services.store.raw_files.get(second)
        assert services.backup_folder(own).parent == folder
        assert any(ascii(first) in (event["reason"] or "") for event in own.history)


def test_where_case_is_told_apart_both_stand_beside_each_other(services):
    first, second = both_backed_up(services, "thermo1", "A.raw", "a.raw")
    assert services.backup_folder(first) == services.backup_folder(second)


def test_a_pair_of_which_one_was_refused_by_an_older_version_is_backed_up_too(services):
    with foreign(services.config.locations.backup.path, "nocase"):
        bench = Bench(services, "thermo1")
        bench.write("A.raw", 100), finish(services, "thermo1")
        back_up(services, "A.raw", run_id="b", options=BackupOptions())
        (bench.folder / "A.raw").unlink()
        bench.write("a.raw", 200), finish(services, "thermo1")
        record = services.store.raw_files.get("a.raw")
        services.store.raw_files.transition(
            record, Status.ERROR, now=services.now(), reason="conflict"
        )
        options = BackupOptions(backup_overwrite_file_id="a.raw")
        assert back_up(services, "a.raw", run_id="b", options=options).done
        assert back_up(services, "A.raw", run_id="verify", options=BackupOptions()).done


def test_a_damaged_backup_with_a_folder_of_its_own_is_mended_there(services):
    with foreign(services.config.locations.backup.path, "nocase") as real:
        _, second = both_backed_up(services, "thermo1", "A.raw", "a.raw")
        path = services.backup_folder(second) / "a.raw"
        path.chmod(0o644)
        path.write_bytes(b"y" * 200)
        with pytest.raises(Exception, match="not what was recorded"):
            back_up(services, "a.raw", run_id="finds", options=BackupOptions())
        source = services.config.locations.output.path / "200"
        source.rename(services.instrument_folder("thermo1") / "a.raw")
        options = BackupOptions(backup_overwrite_file_id="a.raw")
        assert back_up(services, "a.raw", run_id="mends", options=options).done
        for name in ("A.raw", "a.raw"):
            assert back_up(services, name, run_id="verify", options=BackupOptions()).done
        assert len(list(real.rglob("*.bkp"))) == 1


@pytest.mark.parametrize("way", ["nocase", "nocase,nolink"])
def test_two_members_that_are_one_name_to_the_store_are_refused_by_name(tmp_path, way):
    case = make(tmp_path, Vendor.BRUKER)
    write(case.source / "x.d" / "Method.txt", 10, seed=1)
    write(case.source / "x.d" / "method.TXT", 10, seed=2)
    with foreign(case.target, way):
        with pytest.raises(UnsafePath, match=r"(?i)names of two files.*also 'x\.d/method\.txt'"):
            case.run(threads=1)
        assert not case.final.exists()


@pytest.mark.parametrize("way", ["strip", "nfd"])
def test_a_folder_is_whole_on_a_store_that_spells_its_members_otherwise(tmp_path, way):
    case = make(tmp_path, Vendor.BRUKER)
    for name in ("ends in a dot.", "ends in a space ", f"{NFC}.txt"):
        write(case.source / "x.d" / name, 10, seed=len(name))
    with foreign(case.target, way):
        assert case.run().copied == len(case.members())
        assert case.run().proven == len(case.members())
        for member in case.members():
            assert content(case.target / member) == content(case.source / member)


@pytest.mark.parametrize(
    ("one", "other"),
    [("A.raw", "a.RAW"), (NFC, NFD), ("x.d/a. ", "X.d/A"), ("stra\u00dfe", "STRASSE")],
)
def test_names_that_some_file_system_takes_for_one_are_folded_together(one, other):
    assert folded(one) == folded(other)
    assert strangers([one], [other]) == []
    assert strangers([one], [one, other]) == [other]
    assert twins([one, other, "else"]) == {one: [other], other: [one]}


@pytest.mark.parametrize("mode", OutputExistsMode)
def test_the_result_of_another_id_is_neither_taken_nor_moved_aside(services, mode):
    settings = custom_settings(services, "search", metrics_type="custom")
    for name in ("A.raw", "a.raw"):
        Bench(services, "thermo1").write(name, 100), finish(services, "thermo1")
        back_up(services, name, run_id="b", options=BackupOptions())
    with foreign(services.config.locations.output.path, "nocase") as real:
        first, second = (services.store.raw_files.get(name) for name in ("A.raw", "a.raw"))
        theirs = output_folder(services, first, settings, "local", mode).relative
        services.store.jobs.intend(job("j", raw_file="A.raw", relative_output_path=theirs))
        (real / theirs).mkdir(parents=True)
        (real / theirs / "result.tsv").write_text("of A.raw")
        ours = output_folder(services, second, settings, "local", mode)
        assert (ours.done, ours.follow) == (None, None)
        assert folded(ours.relative) != folded(theirs)
        assert (real / theirs / "result.tsv").read_text() == "of A.raw"
