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


def lapse(world) -> None:
    """The dead run's lease stays behind, and ends by itself."""
    world.now.forward(seconds=world.config.defaults.lease_s + 1)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("instrument_id", ENDINGS)
def test_a_move_may_be_killed_anywhere_and_the_next_run_ends_it(world, instrument_id):
    for die_at in range(1, 200):
        name = f"k{die_at}{ENDINGS[instrument_id]}"
        done(world, instrument_id, name)
        folder = world.instrument_folder(instrument_id)
        before = sorted(files_in(folder).values())
        code = run(world, "move", instrument_id, die_at=die_at)
        assert sorted(files_in(folder).values()) == before
        if code == 0:
            break
        assert code == -signal.SIGKILL
        lapse(world)
        assert run(world, "move", instrument_id) == 0
        after = world.store.raw_files.get(name)
        assert after.instrument_file_status is InstrumentFileStatus.MOVED, notes(after)
        assert after.leased(world.now()) is None
        assert os.listdir(folder) == ["Backup"]
        assert sorted(files_in(aside(world, instrument_id)).values()) == before
        assert sum("Backup/" in note for note in notes(after)) == 1
    assert LEAST["move"] < die_at < 199


@pytest.mark.timeout(240)
@pytest.mark.parametrize("instrument_id", ENDINGS)
def test_a_purge_may_be_killed_anywhere_and_the_next_run_ends_it(world, instrument_id):
    store = world.config.locations.backup.path
    for die_at in range(1, 400):
        name = f"k{die_at}{ENDINGS[instrument_id]}"
        moved(world, instrument_id, name)
        for folder in aside(world, instrument_id).rglob("*.m"):
            folder.chmod(0o555)
        kept = content(store)
        code = run(world, "purge", instrument_id, die_at=die_at)
        assert content(store) == kept
        if code == 0:
            break
        assert code == -signal.SIGKILL
        recorded = world.store.raw_files.get(name)
        if recorded.instrument_file_status is InstrumentFileStatus.PURGED:
            assert files_in(aside(world, instrument_id)) == {}
        lapse(world)
        assert run(world, "purge", instrument_id) == 0
        after = world.store.raw_files.get(name)
        assert after.instrument_file_status is InstrumentFileStatus.PURGED, notes(after)
        assert (after.leased(world.now()), after.purge_intent) == (None, None)
        assert content(aside(world, instrument_id)) == {}
        assert content(store) == kept
        assert sum("purged" in note for note in notes(after)) == 1
    assert LEAST["purge"] < die_at < 399


def test_a_dead_runs_lease_keeps_others_away_until_it_lapses(world):
    moved(world, "thermo1", "x.raw")
    die_at = 1
    # What a dead process sent last may arrive after it; a run that meets that lease does nothing.
    while run(world, "purge", "thermo1", die_at=die_at) == -signal.SIGKILL:
        if world.store.raw_files.get("x.raw").lease is not None:
            break
        die_at += 1
    assert world.store.raw_files.get("x.raw").lease is not None
    assert run(world, "purge", "thermo1") == 0
    assert "x.raw" in files_in(aside(world, "thermo1"))
    lapse(world)
    assert run(world, "purge", "thermo1") == 0
    assert files_in(aside(world, "thermo1")) == {}


def test_what_was_begun_is_ended_although_enough_is_free_by_then(world):
    """Half a folder is of no use to anybody."""
    moved(world, "bruker1", "x.d")
    die_at, before = 0, files_in(aside(world, "bruker1"))
    while files_in(aside(world, "bruker1")) == before:
        die_at += 1
        assert run(world, "purge", "bruker1", die_at=die_at) == -signal.SIGKILL
        lapse(world)
    assert files_in(aside(world, "bruker1"))
    outcome = purge_all(world, "bruker1", min_free_space_gb=1e-9)
    assert [item.raw_file_id for item in outcome.deleted] == ["x.d"]
    assert outcome.deleted[0].gone >= 1
    assert files_in(aside(world, "bruker1")) == {}
