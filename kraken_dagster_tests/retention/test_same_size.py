"""Other content of the same size is another acquisition; and what dead copies left goes."""

import os

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.copying.staging import staging_folder
from kraken_dagster.fs.copying.part_files import PART_PREFIX, open_part, part_path
from kraken_dagster.model.errors import ContentChanged, SourceMissing
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.retention.archiving.archive import archive
from kraken_dagster_tests.support.helpers import acquire, backed_up, finish, md5sum

MAINS = {"thermo1": ("x.raw", ""), "bruker1": ("x.d", "analysis.tdf_bin")}


def overwrite(path, *, keeps_time: bool) -> None:
    """Other bytes, as many, into the file as it stands."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(byte ^ 255 for byte in path.read_bytes()))
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


@pytest.mark.parametrize("keeps_time", [False, True])
@pytest.mark.parametrize("instrument_id", MAINS)
def test_other_content_of_the_same_size_is_kept_beside_the_first(
    services, instrument_id, keeps_time
):
    name, main = MAINS[instrument_id]
    first = backed_up(services, instrument_id, name)
    path = services.instrument_folder(instrument_id) / name / main
    overwrite(path, keeps_time=keeps_time)
    other = md5sum(path)
    services.now.forward(minutes=10)
    (outcome,) = archive(services, instrument_id, run_id="a")
    assert isinstance(outcome.problem, ContentChanged)
    assert md5sum(path) == other  # it stands where it stood
    after = services.store.raw_files.get(name)
    assert after.instrument_file_status is InstrumentFileStatus.NOT_APPLICABLE
    (second,) = services.store.raw_files.in_status(instrument_id, {Status.QUEUED_FOR_MONITORING})
    assert (second.original_name, second.id) == (name, second.collision_flag + name)
    finish(services, instrument_id)
    back_up(services, second.id, run_id="b", options=BackupOptions())
    found = {fact.md5 for fact in services.store.raw_files.get(second.id).file_info.values()}
    assert other in found
    assert (
        back_up(services, name, run_id="verify", options=BackupOptions()).facts == first.file_info
    )
    services.now.forward(minutes=10)
    assert [item.moved for item in archive(services, instrument_id, run_id="a")] == [True]
    moved = services.instrument_folder(instrument_id) / "Backup" / second.id / main
    assert md5sum(moved) == other


def test_a_file_that_was_only_touched_is_moved_aside(services):
    backed_up(services, "thermo1", "x.raw")
    os.utime(services.instrument_folder("thermo1") / "x.raw", (1, 1))
    services.now.forward(minutes=10)
    assert [item.moved for item in archive(services, "thermo1", run_id="a")] == [True]


@pytest.mark.parametrize("instrument_id", MAINS)
def test_what_a_dead_copy_left_goes_once_its_source_is_gone(services, instrument_id):
    name, _ = MAINS[instrument_id]
    acquire(services, instrument_id, name)
    finish(services, instrument_id)
    raw_file = services.store.raw_files.get(name)
    folder = services.backup_folder(raw_file)
    staging = staging_folder(folder / name)
    for place in (folder / name, staging / "4711.m" / "member"):
        place.parent.mkdir(parents=True, exist_ok=True)
        os.close(open_part(part_path(place)))
    (staging / "analysis.tdf").write_bytes(b"x")
    other = folder / f"{PART_PREFIX}0123456789abcdef"
    other.mkdir()
    source = services.instrument_folder(instrument_id) / name
    source.rename(services.config.locations.output.path / "taken away")
    with pytest.raises(SourceMissing):
        back_up(services, name, run_id="b", options=BackupOptions())
    assert [path.name for path in folder.iterdir()] == [other.name]  # another file's
