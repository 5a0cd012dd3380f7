"""What is read of a backup, what is kept of it, and what a bad file costs: nothing else."""

import errno
import os
from datetime import timedelta

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.catchup.catchup import CatchupOptions, due
from kraken_dagster.cli.screens.tic import show_tic
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.model.raw_metrics import RawMetricsStatus
from kraken_dagster.model.retention.rules import why_not_purge
from kraken_dagster.operations import file_report
from kraken_dagster.raw_metrics.measure import RawOutcome, measure
from kraken_dagster.raw_metrics.trace_files import read_traces
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.file_systems.foreign import foreign
from kraken_dagster_tests.file_systems.test_share_errors import erring
from kraken_dagster_tests.raw_readers.real_files import small_raw, vendor
from kraken_dagster_tests.support.helpers import backed_up, finish, long_name

NAME = "small.raw"


def real(services: Services, name: str = NAME, content: bytes | None = None) -> None:
    """A real file of a Thermo, which is backed up."""
    folder = services.instrument_folder("thermo1")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(small_raw() if content is None else content)
    finish(services, "thermo1")
    back_up(services, name, run_id="backup", options=BackupOptions())


def measured(services: Services, name: str = NAME) -> RawOutcome:
    """What came of it, which is what MongoDB has."""
    before = services.store.raw_files.get(name)
    outcome = measure(services, name)
    after = services.store.raw_files.get(name)
    assert after.raw_metrics == outcome.state
    assert (after.status, after.history) == (before.status, before.history)
    return outcome


def test_a_real_backup_has_metrics_traces_and_provenance(services: Services) -> None:
    real(services)
    outcome = measured(services)
    assert outcome.state is not None
    assert (outcome.state.status, outcome.state.complete) == (RawMetricsStatus.DONE, True)
    [document] = services.store.metrics.of_raw_file(NAME)
    assert document["ms1_median_tic"] == vendor()["summary"]["ms1_median_tic"]
    assert (document["type"], document["complete"]) == ("raw", 1)
    provenance = document["provenance"]
    assert (provenance["reader"], provenance["format_version"]) == ("thermo", "57")
    assert provenance["facts"]["instrument_serial"] == "SN06061F"
    assert document["output_path"] == outcome.state.traces
    traces = read_traces(services, str(outcome.state.traces))
    tic = [one["tic"] for one in vendor()["scans"] if one["ms"] == 1]
    assert traces["tic"].values.tolist() == tic
    assert services.store.metrics.of(NAME) == []  # no result of any job


def test_reading_it_again_adds_nothing(services: Services) -> None:
    real(services)
    first = measured(services)
    second = measured(services)
    assert first.metrics == second.metrics
    assert len(services.store.metrics.of_raw_file(NAME)) == 1
    folder = services.config.locations.output.path / "raw_metrics"
    assert [path.name for path in folder.rglob("*.npz")] == [f"{NAME}.npz"]
    assert [path.name for path in folder.rglob(".kraken*")] == []


@pytest.mark.parametrize("instrument_id", ["bruker1", "sciex1"])
def test_other_vendors_files_are_read_as_far_as_can_be(
    services: Services, instrument_id: str
) -> None:
    name = {"bruker1": "x.d", "sciex1": "x.wiff"}[instrument_id]
    backed_up(services, instrument_id, name, size_bytes=300_000)
    outcome = measured(services, name)
    assert outcome.state is not None
    assert outcome.state.status is RawMetricsStatus.DONE
    if instrument_id == "bruker1":
        assert (outcome.state.complete, outcome.metrics["tic_drops"]) == (True, 0)
        assert outcome.state.traces is not None
    else:
        assert (outcome.state.complete, outcome.metrics["complete"]) == (None, None)
        assert outcome.state.traces is None


BAD = {
    "no Thermo file": (b"x" * 5000, "failed", "This is no Thermo raw file"),
    "cut": (small_raw()[:1_484_000], "failed", "ends before the end of its scan index"),
    "version": (small_raw()[:0x24] + b"\x7b" + small_raw()[0x25:], "unsupported", "Version 123"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_a_state_of_its_own_and_costs_nothing_else(
    services: Services, name: str
) -> None:
    content, status, reported = BAD[name]
    real(services, content=content)
    outcome = measured(services)
    assert outcome.state is not None
    assert outcome.state.status == status
    assert reported in str(outcome.state.problem)
    assert outcome.state.is_sound is (status == "unsupported")
    assert services.store.raw_files.get(NAME).is_backed_up
    assert services.store.metrics.of_raw_file(NAME) == []


def test_a_file_that_ends_its_reader_is_told(make_services, config) -> None:
    limits = ReadingLimits(memory_mb=256, cpu_s=1)
    services = make_services(config.model_copy(update={"reading_limits": limits}))
    backed_up(services, "bruker1", "x.d", size_bytes=300_000)
    place = services.backup_folder(services.store.raw_files.get("x.d")) / "x.d"
    for path in (place, place / "analysis.tdf"):
        path.chmod(0o755)
    os.truncate(place / "analysis.tdf", 0)
    (place / "analysis.tdf").unlink()
    os.mkfifo(place / "analysis.tdf")
    outcome = measured(services, "x.d")
    assert outcome.state is not None
    assert outcome.state.status is RawMetricsStatus.FAILED


def test_without_a_backup_nothing_is_read(services: Services) -> None:
    folder = services.instrument_folder("thermo1")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(small_raw())
    finish(services, "thermo1")
    assert measured(services).state is None


def test_while_the_backup_store_is_away_it_stays_missing(services: Services) -> None:
    real(services)
    root = services.config.locations.backup.path
    root.rename(root.with_name("away"))
    assert measured(services).state is None
    root.with_name("away").rename(root)
    assert services.store.raw_metrics.missing("thermo1") == [NAME]
    measured(services)
    assert services.store.raw_metrics.missing("thermo1") == []


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("instrument_id", "operation", "part"),
    [
        ("thermo1", "read", NAME),
        ("bruker1", "read", "analysis.tdf"),
        ("sciex1", "open", "x.wiff"),
        ("sciex1", "getattr", ".wiff.scan"),
    ],
)
def test_a_backup_that_gives_errors_stays_missing_and_is_read_later(
    services: Services, instrument_id: str, operation: str, part: str
) -> None:
    name = {"thermo1": NAME, "bruker1": "x.d", "sciex1": "x.wiff"}[instrument_id]
    if instrument_id == "thermo1":
        real(services)
    else:
        backed_up(services, instrument_id, name, size_bytes=300_000)
    with erring(services.config.locations.backup.path) as share:
        share.answers(operation, part, errno.EIO)
        outcome = measured(services, name)
        assert outcome.state is None
        assert "Input/output error" in outcome.reason
        assert services.store.raw_metrics.missing(instrument_id) == [name]
        share.is_well()
        state = measured(services, name).state
    assert state is not None
    assert state.status is RawMetricsStatus.DONE
    assert "There is no" not in str(state.incomplete)


@pytest.mark.fuse
def test_two_files_that_are_one_name_to_the_output_keep_their_traces(services: Services) -> None:
    real(services, "SMALL.raw")
    real(services, "small.raw")
    with foreign(services.config.locations.output.path, "nocase") as files:
        places = []
        for name in ("SMALL.raw", "small.raw", "small.raw"):
            state = measured(services, name).state
            assert state is not None
            places.append(str(state.traces))
            assert "tic" in read_traces(services, places[-1])
        assert places[1] == places[2]
        assert len({place.casefold() for place in places}) == 2
        assert len([*files.rglob("*.npz")]) == 2


def test_a_catch_up_takes_what_was_backed_up_before_if_it_is_told_to(services: Services) -> None:
    real(services)
    for options, found in ((CatchupOptions(), []), (CatchupOptions(raw_metrics=True), [NAME])):
        waves, _ = due(services, "thermo1", options, now=services.now())
        assert [item.id for wave in waves if wave.raw_metrics for item in wave.files] == found
    measured(services)
    waves, _ = due(services, "thermo1", CatchupOptions(raw_metrics=True), now=services.now())
    assert not any(wave.raw_metrics for wave in waves)


def test_while_the_output_is_away_there_are_metrics_without_traces(services: Services) -> None:
    real(services)
    root = services.config.locations.output.path
    root.rename(root.with_name("away"))
    outcome = measured(services)
    assert outcome.state is not None
    assert (outcome.state.complete, outcome.state.traces) == (True, None)
    [note] = services.store.metrics.of_raw_file(NAME)[0]["provenance"]["notes"]
    assert note.startswith("the traces were not kept: ")


def test_a_name_as_long_as_can_be_has_its_traces(services: Services) -> None:
    name = long_name(".raw")
    real(services, name)
    state = measured(services, name).state
    assert state is not None
    assert "tic" in read_traces(services, str(state.traces))


def test_a_purge_needs_a_complete_index_if_it_is_told_to(services: Services) -> None:
    real(services)
    real(services, "cut.raw", small_raw()[:-1])
    now = services.now() + timedelta(days=100)

    def reason(name: str, *, needed: bool) -> str | None:
        changes = {"instrument_file_status": InstrumentFileStatus.MOVED, "status": Status.DONE}
        record = services.store.raw_files.get(name).model_copy(update=changes)
        return why_not_purge(record, now=now, min_age_days=14, needs_complete_index=needed)

    assert "was not read yet" in str(reason(NAME, needed=True))
    assert reason(NAME, needed=False) is None
    measured(services)
    measured(services, "cut.raw")
    assert reason(NAME, needed=True) is None
    assert reason("cut.raw", needed=False) is None
    assert "Expected 1504354 bytes, found 1504353" in str(reason("cut.raw", needed=True))


def test_the_command_shows_it_and_draws_its_tic(services: Services, capsys) -> None:
    real(services)
    with pytest.raises(FileFormatError, match="There is no chromatogram"):
        show_tic(services, NAME, as_json=False)
    measured(services)
    found = file_report.show(services, NAME)
    assert found["raw_metrics"]["complete"] is True
    assert [item["type"] for item in found["metrics"]] == ["raw"]
    show_tic(services, NAME, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"tic of {NAME}"
    assert lines[1].startswith(" 2.21e+07 │")
    assert any("█" in line for line in lines)
    assert lines[-1].split() == ["0.00494", "0.433", "min"]


def test_a_file_of_traces_that_is_gone_is_told(services: Services) -> None:
    real(services)
    state = measured(services).state
    assert state is not None
    (services.config.locations.output.path / str(state.traces)).unlink()
    with pytest.raises(FileFormatError, match="There is no such file of traces"):
        read_traces(services, str(state.traces))
