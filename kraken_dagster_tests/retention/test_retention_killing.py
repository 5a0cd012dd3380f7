"""kill -9 before and after everything that moving and purging do: nothing is lost, and it ends."""

import os
import signal

import pytest

from kraken_dagster.model.raw_file import InstrumentFileStatus
from kraken_dagster_tests.retention.killable import run
from kraken_dagster_tests.retention.retention_cases import (
    aside,
    content,
    done,
    files_in,
    moved,
    notes,
    purge_all,
)

ENDINGS = {"bruker1": ".d", "sciex1": ".wiff", "thermo1": ".raw"}
# The least that a walk must have died of: taking the lease, the change itself, recording it.
LEAST = {"move": 10, "purge": 20}


def lapse(services) -> None:
    """The dead run's lease stays behind, and ends by itself."""
    services.now.forward(seconds=services.config.defaults.lease_s + 1)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("instrument_id", ENDINGS)
def test_a_move_may_be_killed_anywhere_and_the_next_run_ends_it(services, instrument_id):
    for die_at in range(1, 200):
        name = f"k{die_at}{ENDINGS[instrument_id]}"
        done(services, instrument_id, name)
        folder = services.instrument_folder(instrument_id)
        before = sorted(files_in(folder).values())
        code = run(services, "move", instrument_id, die_at=die_at)
        assert sorted(files_in(folder).values()) == before
        if code == 0:
            break
        assert code == -signal.SIGKILL
        lapse(services)
        assert run(services, "move", instrument_id) == 0
        after = services.store.raw_files.get(name)
        assert after.instrument_file_status is InstrumentFileStatus.MOVED, notes(after)
        assert after.leased(services.now()) is None
        assert os.listdir(folder) == ["Backup"]
        assert sorted(files_in(aside(services, instrument_id)).values()) == before
        assert sum("Backup/" in note for note in notes(after)) == 1
    assert LEAST["move"] < die_at < 199


@pytest.mark.timeout(240)
@pytest.mark.parametrize("instrument_id", ENDINGS)
def test_a_purge_may_be_killed_anywhere_and_the_next_run_ends_it(services, instrument_id):
    store = services.config.locations.backup.path
    for die_at in range(1, 400):
        name = f"k{die_at}{ENDINGS[instrument_id]}"
        moved(services, instrument_id, name)
        for folder in aside(services, instrument_id).rglob("*.m"):
            folder.chmod(0o555)
        kept = content(store)
        code = run(services, "purge", instrument_id, die_at=die_at)
        assert content(store) == kept
        if code == 0:
            break
        assert code == -signal.SIGKILL
        recorded = services.store.raw_files.get(name)
        if recorded.instrument_file_status is InstrumentFileStatus.PURGED:
            assert files_in(aside(services, instrument_id)) == {}
        lapse(services)
        assert run(services, "purge", instrument_id) == 0
        after = services.store.raw_files.get(name)
        assert after.instrument_file_status is InstrumentFileStatus.PURGED, notes(after)
        assert (after.leased(services.now()), after.purge_intent) == (None, None)
        assert content(aside(services, instrument_id)) == {}
        assert content(store) == kept
        assert sum("purged" in note for note in notes(after)) == 1
    assert LEAST["purge"] < die_at < 399


def test_a_dead_runs_lease_keeps_others_away_until_it_lapses(services):
    moved(services, "thermo1", "x.raw")
    die_at = 1
    # What a dead process sent last may arrive after it; a run that meets that lease does nothing.
    while run(services, "purge", "thermo1", die_at=die_at) == -signal.SIGKILL:
        if services.store.raw_files.get("x.raw").lease is not None:
            break
        die_at += 1
    assert services.store.raw_files.get("x.raw").lease is not None
    assert run(services, "purge", "thermo1") == 0
    assert "x.raw" in files_in(aside(services, "thermo1"))
    lapse(services)
    assert run(services, "purge", "thermo1") == 0
    assert files_in(aside(services, "thermo1")) == {}


def test_what_was_begun_is_ended_although_enough_is_free_by_then(services):
    """Half a folder is of no use to anybody."""
    moved(services, "bruker1", "x.d")
    die_at, before = 0, files_in(aside(services, "bruker1"))
    while files_in(aside(services, "bruker1")) == before:
        die_at += 1
        assert run(services, "purge", "bruker1", die_at=die_at) == -signal.SIGKILL
        lapse(services)
    assert files_in(aside(services, "bruker1"))
    outcome = purge_all(services, "bruker1", min_free_space_gb=1e-9)
    assert [item.raw_file_id for item in outcome.deleted] == ["x.d"]
    assert outcome.deleted[0].gone >= 1
    assert files_in(aside(services, "bruker1")) == {}
