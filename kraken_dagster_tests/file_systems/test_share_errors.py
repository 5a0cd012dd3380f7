"""A share that gives an error is not one on which nothing is there: every step waits, and goes on.

A FUSE folder answers with the errors that dead, hanging and closed shares give. What is asked for
meanwhile changes no status for good, deletes and moves nothing, and is done once the error is gone.
"""

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kraken_dagster.acquisition.watch import due_for_backup
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.restore import restore
from kraken_dagster.backup.verify import Verdict, verify_backup
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model import errors
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.quant.collect import collect, results_of
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.retention.archiving.archive import archive_members, due_for_move
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.retention.retention_cases import (
    aside,
    content,
    created,
    done,
    move_all,
    moved,
    purge_all,
)
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import (
    Bench,
    acquire,
    backed_up,
    each,
    finish,
    tick_until_idle,
    wait_for_jobs,
    wait_until,
)

pytestmark = pytest.mark.fuse

NAMES = ("ESTALE", "EHOSTDOWN", "EACCES", "ENOTCONN", "EIO", "ETIMEDOUT", "ENODEV")
NUMBERS = tuple(getattr(errno, name) for name in NAMES)
UNWORDED = ("Traceback", "OSError", "no words", "doesn't know")


class Erring:
    """A folder that shows what was in it, and answers as it is told."""

    def __init__(self, rules: Path) -> None:
        self._rules = rules

    def answers(self, operation: str, part: str, number: int) -> None:
        new = self._rules.with_suffix(".new")
        new.write_text(json.dumps([[operation, part, number]]))
        new.replace(self._rules)

    def is_well(self) -> None:
        self._rules.unlink(missing_ok=True)


@contextmanager
def erring(folder: Path) -> Iterator[Erring]:
    """Mounts a folder over itself, by a process of its own."""
    if not Path("/dev/fuse").exists() or shutil.which("fusermount3") is None:
        unavailable("no FUSE: /dev/fuse or fusermount3 is missing")
    real, rules = folder.with_name(f"{folder.name}.real"), folder.with_name(f"{folder.name}.rules")
    folder.rename(real)
    folder.mkdir()
    program = [sys.executable, "-m", "kraken_dagster_tests.file_systems.erring_folder"]
    process = subprocess.Popen([*program, real, folder, rules])
    try:
        wait_until(lambda: folder.is_mount() or process.poll() is not None, "the mount")
        if process.poll() is not None:
            unavailable("FUSE can't mount")
        yield Erring(rules)
    finally:
        subprocess.run(["fusermount3", "-u", "-z", folder], check=False)
        process.wait(20)
        folder.rmdir()
        real.rename(folder)


def ask(services, raw_file_id):
    """What the watcher's runs do with a file that is due."""
    return back_up(services, raw_file_id, run_id="b", options=BackupOptions(), by_hand=False)


def due(services, instrument_id):
    services.now.forward(minutes=31)
    return [item.id for item in due_for_backup(services.store, instrument_id, services.now())]


def waits(services, raw_file_id):
    """The file says what is wrong with its share, and is tried again."""
    raw_file = services.store.raw_files.get(raw_file_id)
    assert raw_file.status is Status.ERROR
    assert raw_file.retry_at is not None
    reported = str(raw_file.status_details)
    assert not any(word in reported for word in UNWORDED), reported


def vanished(services, instrument_id, name) -> Path:
    """A file whose main file was away so long that its acquisition is over, and that is back."""
    bench = Bench(services, instrument_id)
    path = bench.write(name)
    bench.write(f"another.{name.rpartition('.')[2]}")
    bench.scan()
    hidden = path.rename(services.config.locations.output.path.parent / "hidden")
    for minutes in (5, 61, 61):
        bench.scan(minutes=minutes)
    assert "Main file vanished" in str(bench.acquisition(name)["errors"])
    return hidden.rename(path)


@pytest.mark.parametrize(
    ("instrument_id", "name"), [("thermo1", "x.raw"), ("bruker1", "x.d"), ("sciex1", "x.wiff")]
)
def test_a_main_file_that_is_said_to_be_missing_is_not_given_up_while_nobody_can_look(
    services, instrument_id, name
):
    vanished(services, instrument_id, name)
    main = services.rules(instrument_id).main_file(name).rpartition("/")[2]
    with erring(services.instrument_folder(instrument_id)) as share:
        for number in NUMBERS:
            share.answers("getattr", main, number)
            with pytest.raises(errors.SourceUnreadable):
                ask(services, name)
            waits(services, name)
        share.is_well()
        assert name in due(services, instrument_id)
        ask(services, name)
        assert services.store.raw_files.get(name).status is Status.QUEUED_FOR_MONITORING


@pytest.mark.parametrize("mount_point", [False, True])
def test_a_missing_main_file_is_not_given_up_while_the_instruments_folder_is_not_there(
    services, mount_point
):
    vanished(services, "thermo1", "x.raw").unlink()
    folder = services.instrument_folder("thermo1")
    away = folder.rename(folder.with_name("away"))
    if mount_point:
        folder.mkdir()
    with pytest.raises(errors.FolderMissing):
        ask(services, "x.raw")
    assert services.store.raw_files.get("x.raw").retry_at is not None
    if mount_point:
        folder.rmdir()
    away.rename(folder)
    assert "x.raw" in due(services, "thermo1")
    ask(services, "x.raw")
    assert services.store.raw_files.get("x.raw").status is Status.ACQUISITION_FAILED


@pytest.mark.parametrize("operation", ["getattr", "readdir", "open", "read"])
def test_a_source_that_gives_errors_is_copied_once_it_gives_none(services, operation):
    acquire(services, "bruker1", "x.d")
    finish(services, "bruker1")
    part = "/x.d" if operation == "readdir" else "analysis.tdf_bin"
    with erring(services.instrument_folder("bruker1")) as share:
        for number in NUMBERS:
            share.answers(operation, part, number)
            with pytest.raises(errors.SourceUnreadable):
                ask(services, "x.d")
            waits(services, "x.d")
        share.is_well()
        assert due(services, "bruker1") == ["x.d"]
        assert ask(services, "x.d").done
    assert services.store.raw_files.get("x.d").status is Status.COPYING_DONE


@pytest.mark.parametrize("operation", ["getattr", "open"])
def test_a_backup_store_that_gives_errors_gets_its_copy_once_it_gives_none(services, operation):
    acquire(services, "thermo1", "x.raw")
    finish(services, "thermo1")
    part = "x.raw" if operation == "getattr" else ".kraken-part-"
    with erring(services.config.locations.backup.path) as share:
        for number in NUMBERS:
            share.answers(operation, part, number)
            with pytest.raises(errors.BackupUnwritable):
                ask(services, "x.raw")
            waits(services, "x.raw")
        share.is_well()
        assert "x.raw" in due(services, "thermo1")
        assert ask(services, "x.raw").done


@pytest.mark.parametrize("operation", ["getattr", "open", "read"])
@pytest.mark.parametrize(("instrument_id", "name"), [("thermo1", "x.raw"), ("bruker1", "x.d")])
def test_a_backup_that_can_not_be_read_is_not_damaged_and_nothing_is_deleted(
    services, tmp_path, instrument_id, name, operation
):
    raw_file = moved(services, instrument_id, name)
    before = content(aside(services, instrument_id))
    (tmp_path / "out").mkdir()
    with erring(services.config.locations.backup.path) as share:
        for number in NUMBERS:
            share.answers(operation, services.rules(instrument_id).main_file(name), number)
            outcome = purge_all(services, instrument_id)
            assert outcome.deleted == ()
            assert not any(item.damaged for item in outcome.kept)
            found = verify_backup(services, name, run_id="v", rate_limit=RateLimit())
            assert found.verdict is Verdict.UNREADABLE
            with pytest.raises(errors.BackupUnwritable):
                restore(services, name, tmp_path / "out")
            now = services.store.raw_files.get(name)
            assert (now.status, now.backup_status) == (raw_file.status, raw_file.backup_status)
            assert now.instrument_file_status is InstrumentFileStatus.MOVED
        share.is_well()
        assert content(aside(services, instrument_id)) == before
        assert (
            verify_backup(services, name, run_id="v", rate_limit=RateLimit()).verdict
            is Verdict.VERIFIED
        )
        services.now.forward(minutes=31)
        assert [item.raw_file_id for item in purge_all(services, instrument_id).deleted] == [name]


def test_a_backup_whose_folder_can_not_be_listed_is_not_verified(services):
    done(services, "bruker1", "x.d")
    with erring(services.config.locations.backup.path) as share:
        for number in NUMBERS:
            share.answers("readdir", "/x.d", number)
            found = verify_backup(services, "x.d", run_id="v", rate_limit=RateLimit())
            assert found.verdict is Verdict.UNREADABLE
            assert services.store.raw_files.get("x.d").status is Status.DONE_NOT_QUANTED
        share.is_well()
        found = verify_backup(services, "x.d", run_id="v", rate_limit=RateLimit())
        assert found.verdict is Verdict.VERIFIED


def test_a_folder_in_the_backup_that_can_not_be_listed_is_not_taken_for_the_copy(services):
    """A file that the source doesn't have may stand in it."""
    acquire(services, "bruker1", "x.d")
    finish(services, "bruker1")
    top = services.backup_folder(services.store.raw_files.get("x.d")) / "x.d"
    (top / "odd.m").mkdir(parents=True)
    (top / "odd.m" / "somebody else's").touch()
    with erring(services.config.locations.backup.path) as share:
        for number in NUMBERS:
            share.answers("readdir", "odd.m", number)
            with pytest.raises(errors.BackupUnwritable):
                ask(services, "x.d")
            waits(services, "x.d")
            assert [item.name for item in top.iterdir()] == ["odd.m"]
        share.is_well()
        assert due(services, "bruker1") == ["x.d"]
        with pytest.raises(errors.BackupConflict):
            ask(services, "x.d")


@pytest.mark.parametrize("operation", ["getattr", "readdir"])
def test_a_file_that_can_not_be_looked_at_is_moved_aside_later(services, operation):
    done(services, "bruker1", "x.d")
    with erring(services.instrument_folder("bruker1")) as share:
        for number in NUMBERS:
            share.answers(operation, "/x.d", number)
            (outcome,) = move_all(services, "bruker1")
            assert not outcome.moved
            found = services.store.raw_files.get("x.d")
            assert found.instrument_file_status is InstrumentFileStatus.INITIAL
            assert found.status is Status.DONE_NOT_QUANTED
            assert found.archive is not None
            assert found.archive.retry_at is not None
            assert not any(word in found.archive.problem for word in UNWORDED)
            services.now.forward(minutes=31)
        share.is_well()
        assert [item.id for item in due_for_move(services, "bruker1", services.now())] == ["x.d"]
        assert archive_members(services, "x.d", run_id="m").moved


@pytest.mark.parametrize(
    ("operation", "part"),
    [("readdir", "/x.d/"), ("readdir", "/Backup"), ("getattr", "/x.d"), ("open", "tdf_bin")],
)
def test_what_can_not_be_listed_is_neither_empty_nor_gone(services, operation, part):
    folder = services.instrument_folder("bruker1") / "x.d" / "1.m"
    acquire(services, "bruker1", "x.d")
    folder.mkdir(exist_ok=True)
    (folder / "method").write_text("settings")
    moved_file(services)
    before = content(aside(services, "bruker1"))
    with erring(services.instrument_folder("bruker1")) as share:
        for number in NUMBERS:
            share.answers(operation, part, number)
            try:
                outcome = purge_all(services, "bruker1")
            except (errors.FolderError, errors.InstrumentBusy) as away:
                assert away.transient  # noqa: PT017 - which of both depends on what was asked
            else:
                assert outcome.deleted == ()
            found = services.store.raw_files.get("x.d")
            assert found.instrument_file_status is InstrumentFileStatus.MOVED
            assert found.purge is None or found.purge.retry_at is not None
            services.now.forward(minutes=31)
        share.is_well()
        assert content(aside(services, "bruker1")) == before
        assert [item.raw_file_id for item in purge_all(services, "bruker1").deleted] == ["x.d"]


def moved_file(services) -> None:
    finish(services, "bruker1")
    raw_file = ask(services, "x.d").raw_file
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=services.now())
    services.now.forward(minutes=6)
    assert archive_members(services, "x.d", run_id="m").moved
    created(services, "x.d", days_ago=15)


WRITES = """
printf 'ms1_scans\\n5\\n' > "$OUTPUT_PATH/msqc_results.tsv"
echo once >> "$OUTPUT_PATH.ran"
"""


@pytest.mark.parametrize("operation", ["getattr", "open", "read"])
def test_a_result_that_can_not_be_read_is_collected_later_and_its_job_is_not_run_again(
    services, operation
):
    backed_up(services, "thermo1", "x.raw")
    custom_settings(services, "s", WRITES, metrics_type="msqc")
    with erring(services.config.locations.output.path) as share:
        submit_jobs(services, "x.raw", run_id="q", slots=each(2), by_hand=False)
        wait_for_jobs(services)
        poll(services, slots={"local": 2})
        (job,) = services.store.jobs.of("x.raw")
        for number in NUMBERS:
            share.answers(operation, "msqc_results", number)
            with pytest.raises(errors.OutputUnreadable):
                collect(services, "x.raw", run_id="c")
            waits(services, "x.raw")
            assert services.store.jobs.get(job.id).collected_at is None
        share.is_well()
        tick_until_idle(services)
        assert services.store.raw_files.get("x.raw").status is Status.DONE
        assert services.store.metrics.of("x.raw")[0]["ms1_scans"] == 5
        ran = services.result_folder(job)
        assert ran.with_name(f"{ran.name}.ran").read_text() == "once\n"
        assert len(services.store.jobs.of("x.raw")) == 1


def test_a_result_folder_that_can_not_be_listed_is_not_empty(services):
    backed_up(services, "thermo1", "x.raw")
    custom_settings(services, "s", WRITES, metrics_type="msqc")
    with erring(services.config.locations.output.path) as share:
        submit_jobs(services, "x.raw", run_id="q", slots=each(2), by_hand=False)
        wait_for_jobs(services)
        poll(services, slots={"local": 2})
        for number in NUMBERS:
            share.answers("readdir", "out_x.raw", number)
            with pytest.raises(errors.OutputUnreadable):
                results_of(services, "x.raw")
        share.is_well()
        ((result,), _) = results_of(services, "x.raw")
        assert result.files >= 1


@pytest.mark.parametrize("operation", ["getattr", "readdir"])
def test_no_job_is_submitted_while_nobody_knows_what_stands_in_its_output(services, operation):
    raw_file = backed_up(services, "thermo1", "x.raw")
    custom_settings(services, "s", WRITES, metrics_type="msqc")
    output = services.config.locations.output.path / f"_FALLBACK/{raw_file.year_month}/out_x.raw"
    (output / "custom").mkdir(parents=True)
    with erring(services.config.locations.output.path) as share:
        for number in NUMBERS:
            share.answers(operation, "out_x.raw", number)
            with pytest.raises(errors.OutputUnreadable):
                submit_jobs(services, "x.raw", run_id="q", slots=each(2), by_hand=False)
            waits(services, "x.raw")
            services.now.forward(minutes=31)
        assert services.store.jobs.of("x.raw") == []
        share.is_well()
        tick_until_idle(services)
        assert services.store.raw_files.get("x.raw").status is Status.DONE
