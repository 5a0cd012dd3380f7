"""A second digest beside MD5: from the same reading, recorded, and compared wherever MD5 is."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.restore import restore
from kraken_dagster.backup.scrub import Selection, begin, verify_all
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.manifest import manifest_name
from kraken_dagster.model.errors import BackupDamaged
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.raw_file import Status
from kraken_dagster.retention.archiving.archive import ArchiveOptions, archive_members
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.raw_files import members as member_lists
from kraken_dagster_tests.retention.retention_cases import aside, created, done, moved, purge_all
from kraken_dagster_tests.support.helpers import acquire, backed_up, finish, manifest_holds, md5sum

# Wang and Yu, How to Break MD5 and Other Hash Functions, 2005: two blocks with one MD5.
_ONE = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
)
_OTHER = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
)
_TOOLS: dict[DigestKind, Callable[[bytes], str]] = {
    DigestKind.SHA256: lambda content: hashlib.sha256(content).hexdigest(),
    DigestKind.XXH3: lambda content: xxhash.xxh3_128(content).hexdigest(),
}


@pytest.fixture
def with_digest(
    config: KrakenConfig, make_services: Callable[[KrakenConfig], Services]
) -> Callable[[DigestKind | None], Services]:
    def made(kind: DigestKind | None) -> Services:
        defaults = config.defaults.model_copy(update={"second_digest": kind})
        return make_services(config.model_copy(update={"defaults": defaults}))

    return made


@pytest.fixture
def sha256(with_digest) -> Services:
    return with_digest(DigestKind.SHA256)


def backup_of(services: Services, name: str) -> Path:
    return services.backup_folder(services.store.raw_files.get(name)) / name


def document(services: Services, name: str) -> dict:
    return services.store._database["raw_file"].find_one({"_id": name})


def collide(services: Services, instrument_id: str, name: str = "x.raw") -> Path:
    """An acquisition whose bytes have a twin with the same MD5."""
    acquire(services, instrument_id, name)
    path = services.instrument_folder(instrument_id) / name
    path.write_bytes(_ONE + path.read_bytes())
    return path


def be_the_twin(path: Path) -> None:
    """Other bytes with the same size, MD5 and modification time."""
    facts, content = path.stat(), path.read_bytes()
    assert content.startswith(_ONE)
    twin = _OTHER + content[len(_ONE) :]
    assert hashlib.md5(twin).digest() == hashlib.md5(content).digest()
    path.chmod(0o644)
    path.write_bytes(twin)
    path.chmod(facts.st_mode)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def twin_in_backup(services: Services) -> None:
    """A backup that is done and archived, and of which only the second digest tells the damage."""
    collide(services, "thermo1")
    finish(services, "thermo1")
    back_up(services, "x.raw", run_id="b", options=BackupOptions())
    be_the_twin(backup_of(services, "x.raw"))


@pytest.mark.parametrize("kind", DigestKind)
@pytest.mark.parametrize(("instrument_id", "name"), [("thermo1", "x.raw"), ("bruker1", "x.d")])
def test_the_second_digest_is_recorded_beside_what_alphakraken_reads(
    with_digest, kind, instrument_id, name
):
    services = with_digest(kind)
    raw_file = backed_up(services, instrument_id, name)
    folder, written = services.backup_folder(raw_file), document(services, name)
    for path, fact in raw_file.file_info.items():
        content = (folder / path).read_bytes()
        assert fact.second == (kind, _TOOLS[kind](content))
        assert written["file_info"][path] == [float(len(content)), fact.md5]
        assert written["file_digests"][path] == [fact.md5, kind.value, fact.second.hex]
    assert written["file_info"].keys() == written["file_digests"].keys()


def test_without_the_option_nothing_of_it_is_recorded_or_written(services):
    raw_file = backed_up(services, "thermo1", "x.raw")
    assert document(services, "x.raw")["file_digests"] is None
    assert {fact.second for fact in raw_file.file_info.values()} == {None}
    folder = services.backup_folder(raw_file)
    assert sorted(path.name for path in folder.iterdir()) == ["x.raw", "x.raw.md5"]


def test_sha256sum_itself_accepts_the_manifest(sha256):
    name = "-odd.d"
    acquire(sha256, "bruker1", name)
    (sha256.instrument_folder("bruker1") / name / "a\\b\nc").write_bytes(b"an odd name")
    finish(sha256, "bruker1")
    raw_file = back_up(sha256, name, run_id="b", options=BackupOptions()).raw_file
    folder = sha256.backup_folder(raw_file)
    assert manifest_holds(folder, manifest_name(name))
    command = ["sha256sum", "--check", "--strict", "--quiet", "--"]
    manifest = manifest_name(name, DigestKind.SHA256)
    assert subprocess.run([*command, manifest], cwd=folder).returncode == 0
    member = folder / name / "analysis.tdf_bin"
    member.chmod(0o644)
    member.write_bytes(member.read_bytes()[::-1])
    assert subprocess.run([*command, manifest], cwd=folder).returncode == 1


def test_the_manifest_of_xxh3_has_the_lines_of_xxhsum(with_digest):
    services = with_digest(DigestKind.XXH3)
    raw_file = backed_up(services, "thermo1", "x.raw")
    folder = services.backup_folder(raw_file)
    digest = xxhash.xxh3_128((folder / "x.raw").read_bytes()).hexdigest()
    assert (folder / "x.raw.xxh128").read_text() == f"{digest}  x.raw\n"


def test_nothing_is_read_a_second_time_for_it(sha256, monkeypatch):
    acquire(sha256, "thermo1", "x.raw", size_bytes=300_000)
    source = sha256.instrument_folder("thermo1") / "x.raw"
    finish(sha256, "thermo1")
    read, inode = [0], source.stat().st_ino

    def counted(real: Callable[..., int]) -> Callable[..., int]:
        def reading(handle: int, *arguments) -> int:
            count = real(handle, *arguments)
            read[0] += count if os.fstat(handle).st_ino == inode else 0
            return count

        return reading

    for name in ("readv", "preadv"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    back_up(sha256, "x.raw", run_id="b", options=BackupOptions())
    assert read[0] == source.stat().st_size


def test_a_backup_that_stands_there_already_gets_its_second_digest_from_the_source(with_digest):
    services = with_digest(None)
    raw_file = backed_up(services, "thermo1", "x.raw")
    services.store.raw_files.update(
        raw_file, {"status": "error", "backup_status": None}, now=services.now(), note="a test"
    )
    later = with_digest(DigestKind.SHA256)
    outcome = back_up(later, "x.raw", run_id="b", options=BackupOptions())
    assert (outcome.proven, outcome.copied_bytes) == (1, 0)
    content = backup_of(later, "x.raw").read_bytes()
    found = later.store.raw_files.get("x.raw").file_info["x.raw"].second
    assert found == (DigestKind.SHA256, hashlib.sha256(content).hexdigest())


def test_an_absent_one_is_no_fault(with_digest):
    done(with_digest(None), "thermo1", "x.raw")
    later = with_digest(DigestKind.SHA256)
    found = verify_backup(later, "x.raw", run_id="v", rate_limit=RateLimit())
    assert (found.verdict, found.manifest_written) == (Verdict.VERIFIED, False)
    assert back_up(later, "x.raw", run_id="b", options=BackupOptions()).done
    assert not backup_of(later, "x.raw").with_name("x.raw.sha256").exists()


def test_one_that_another_program_has_written_past_counts_no_more(sha256):
    """Whoever records another MD5 knows nothing of our digest of the bytes before."""
    raw_file = backed_up(sha256, "thermo1", "x.raw")
    path = backup_of(sha256, "x.raw")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[::-1])
    changes = {"file_info": {"x.raw": [float(path.stat().st_size), md5sum(path)]}}
    sha256.store._database["raw_file"].update_one({"_id": "x.raw"}, {"$set": changes})
    after = sha256.store.raw_files.get("x.raw").file_info["x.raw"]
    assert (raw_file.file_info["x.raw"].second is None, after.second) == (False, None)


def test_verify_finds_a_mismatch_in_the_second_digest_alone(sha256):
    twin_in_backup(sha256)
    with pytest.raises(BackupDamaged, match="SHA-256"):
        back_up(sha256, "x.raw", run_id="b", options=BackupOptions())
    assert sha256.store.raw_files.get("x.raw").status is Status.ERROR


def test_md5_alone_would_not_have_found_it(services):
    """What the tests beside this one rest on."""
    twin_in_backup(services)
    assert back_up(services, "x.raw", run_id="b", options=BackupOptions()).done


def test_a_scrub_finds_a_mismatch_in_the_second_digest_alone(sha256):
    collide(sha256, "thermo1")
    done(sha256, "thermo1", "y.raw")
    finish(sha256, "thermo1")
    raw_file = back_up(sha256, "x.raw", run_id="b", options=BackupOptions()).raw_file
    sha256.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=sha256.now())
    be_the_twin(backup_of(sha256, "x.raw"))
    sha256.now.forward(minutes=1)
    todo = begin(sha256, Selection(instruments=("thermo1",)))
    found = verify_all(sha256, todo, run_id="v", rate_limit=RateLimit())
    verdicts = {item.raw_file_id: item.verdict for item in found}
    assert verdicts == {"x.raw": Verdict.MISMATCH, "y.raw": Verdict.VERIFIED}
    after = sha256.store.raw_files.get("x.raw")
    assert (after.status, after.backup_status) == (Status.ERROR, "copying_failed")


def test_a_manifest_that_says_otherwise_is_damage_and_a_missing_one_is_written_anew(sha256):
    done(sha256, "thermo1", "x.raw")
    manifest = backup_of(sha256, "x.raw").with_name("x.raw.sha256")
    content = manifest.read_bytes()
    manifest.unlink()
    found = verify_backup(sha256, "x.raw", run_id="v", rate_limit=RateLimit())
    assert (found.verdict, found.manifest_written) == (Verdict.VERIFIED, True)
    assert manifest.read_bytes() == content
    manifest.chmod(0o644)
    manifest.write_bytes(content.swapcase())
    found = verify_backup(sha256, "x.raw", run_id="v", rate_limit=RateLimit())
    assert found.verdict is Verdict.MISMATCH


def test_a_restore_copies_nothing_of_which_the_second_digest_is_another(sha256, tmp_path):
    twin_in_backup(sha256)
    target = tmp_path / "restored"
    target.mkdir()
    with pytest.raises(BackupDamaged, match="SHA-256"):
        restore(sha256, "x.raw", target)
    assert list(target.iterdir()) == []


def test_a_restore_compares_what_it_copied_with_the_second_digest(sha256, tmp_path, monkeypatch):
    """The backup is whole when it is compared, and another when it is copied out."""
    collide(sha256, "thermo1")
    finish(sha256, "thermo1")
    back_up(sha256, "x.raw", run_id="b", options=BackupOptions())
    target = tmp_path / "restored"
    target.mkdir()
    read_all = restore.__globals__["read_all"]

    def then_changed(*arguments, **options):
        found = read_all(*arguments, **options)
        be_the_twin(backup_of(sha256, "x.raw"))
        return found

    monkeypatch.setitem(restore.__globals__, "read_all", then_changed)
    with pytest.raises(BackupDamaged, match="in what was copied out"):
        restore(sha256, "x.raw", target)


@pytest.mark.parametrize("side", ["backup", "instrument"])
def test_nothing_is_deleted_of_which_the_second_digest_alone_differs(sha256, side):
    source = collide(sha256, "thermo1")
    moved_file(sha256)
    there = aside(sha256, "thermo1") / source.name
    be_the_twin(backup_of(sha256, "x.raw") if side == "backup" else there)
    before = there.read_bytes()
    outcome = purge_all(sha256, "thermo1")
    assert outcome.deleted == ()
    assert "SHA-256" in outcome.kept[0].reason
    assert there.read_bytes() == before


def test_what_has_both_digests_is_purged(sha256):
    moved(sha256, "thermo1", "x.raw")
    assert purge_all(sha256, "thermo1").deleted != ()


def moved_file(services: Services) -> None:
    """`x.raw` as it stands on the instrument, backed up, archived and old."""
    finish(services, "thermo1")
    raw_file = back_up(services, "x.raw", run_id="b", options=BackupOptions()).raw_file
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=services.now())
    services.now.forward(minutes=6)
    assert archive_members(services, "x.raw", run_id="move", options=ArchiveOptions()).moved
    created(services, "x.raw", days_ago=15)


def test_a_copy_of_other_bytes_leaves_no_manifest_that_says_otherwise(with_digest):
    services = with_digest(DigestKind.SHA256)
    raw_file = backed_up(services, "thermo1", "x.raw")
    folder = services.backup_folder(raw_file)
    old = (folder / "x.raw.sha256").read_text()
    source = services.instrument_folder("thermo1") / "x.raw"
    source.write_bytes(source.read_bytes()[::-1])
    services.store.raw_files.update(
        raw_file, {"status": "error", "backup_status": None}, now=services.now(), note="a test"
    )
    again = with_digest(None)
    options = BackupOptions("x.raw", "x.raw")
    assert back_up(again, "x.raw", run_id="b", options=options).done
    assert manifest_holds(folder, "x.raw.md5")
    assert not (folder / "x.raw.sha256").exists()
    assert (folder / "x.raw.sha256.1.alphakraken.bkp").read_text() == old


def test_a_long_list_keeps_its_second_digests(sha256, monkeypatch):
    monkeypatch.setattr(member_lists, "_MOST_BYTES_IN_DOCUMENT", 500)
    monkeypatch.setattr(member_lists, "_KEPT_BYTES", 200)
    raw_file = backed_up(sha256, "bruker1", "x.d")
    written = document(sha256, "x.d")
    assert (written["members"]["count"], written["file_digests"]) == (len(raw_file.file_info), None)
    folder = sha256.backup_folder(raw_file)
    for path, fact in raw_file.file_info.items():
        assert fact.second.hex == hashlib.sha256((folder / path).read_bytes()).hexdigest()
    etags = {path: [*said, "an-etag"] for path, said in written["file_info"].items()}
    sha256.store._database["raw_file"].update_one({"_id": "x.d"}, {"$set": {"file_info": etags}})
    after = sha256.store.raw_files.get("x.d").file_info
    assert {path: fact.second for path, fact in after.items()} == {
        path: fact.second for path, fact in raw_file.file_info.items()
    }
    assert {fact.etag for fact in after.values()} == {None, "an-etag"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (["crc", "12"], "crc"),
        (["sha256", "12"], "no SHA-256"),
        (["sha256", f"{'0' * 64}\n{'0' * 64}  another line"], "no SHA-256"),
        (["xxh3", 12], "expected string"),
        (["xxh3"], "not enough values"),
    ],
)
def test_a_second_digest_that_nobody_writes_is_told(sha256, record, words):
    backed_up(sha256, "thermo1", "x.raw")
    digests_of = {"x.raw": [document(sha256, "x.raw")["file_info"]["x.raw"][1], *record]}
    changes = {"$set": {"file_digests": digests_of}}
    sha256.store._database["raw_file"].update_one({"_id": "x.raw"}, changes)
    after = sha256.store.raw_files.get("x.raw")
    assert after.unreadable is not None
    assert words in after.status_details
