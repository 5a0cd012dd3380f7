"""Looks at folders with names that come twice, names that are hostile, and what is no raw file."""

import os
import re
from datetime import timedelta

import pytest

from kraken_dagster.config.instruments import Options
from kraken_dagster.model.files.file_ids import partition_key, raw_file_id_of
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.retry import retry
from kraken_dagster_tests.support.helpers import (
    HOSTILE_STEMS,
    NOW,
    Bench,
    backed_up,
    finish,
    long_name,
)

ENDINGS = {"thermo1": ".raw", "bruker1": ".d", "sciex1": ".wiff"}
FLAGGED = re.compile(r"20260301-\d{6}-\d{6}-x\.raw")


@pytest.fixture
def thermo(services):
    return Bench(services, "thermo1")


def flagged(bench: Bench) -> list[str]:
    return sorted(name for name in bench.statuses() if FLAGGED.fullmatch(name))


def test_another_acquisition_under_a_known_name_gets_an_id_of_its_own_and_both_stay(
    services, thermo
):
    before = backed_up(services, "thermo1", "x.raw")
    thermo.write("x.raw", 777)
    (new,) = thermo.scan().registered
    assert FLAGGED.fullmatch(new.id)
    assert (new.original_name, new.id) == ("x.raw", new.collision_flag + "x.raw")
    assert new.collision_flag.startswith(f"{services.now():%Y%m%d-%H%M%S}-")
    assert services.store.raw_files.get("x.raw") == before
    finish(services, "thermo1")
    assert services.store.raw_files.get(new.id).status is Status.MONITORING_DONE
    assert services.store.raw_files.get(new.id).acquisition["ended_size"] == 777


def test_a_name_can_come_back_again_and_again(services, thermo):
    backed_up(services, "thermo1", "x.raw")
    for count, size in enumerate((777, 778), start=1):
        thermo.write("x.raw", size)
        finish(services, "thermo1")
        assert len(flagged(thermo)) == count
        for name in flagged(thermo):
            raw_file = services.store.raw_files.get(name)
            if raw_file.status is Status.MONITORING_DONE:
                fields = {"acquisition.ended_size": size}
                services.store.raw_files.transition(
                    raw_file, Status.ACQUISITION_FAILED, now=services.now(), fields=fields
                )


def test_a_file_that_is_still_there_unchanged_is_no_new_acquisition(services, thermo):
    backed_up(services, "thermo1", "x.raw")
    assert thermo.scan(minutes=5).registered == ()
    assert list(thermo.statuses()) == ["x.raw"]


def test_a_file_that_changes_while_it_is_handled_is_no_new_acquisition(services, thermo):
    thermo.write("x.raw")
    finish(services, "thermo1")
    thermo.write("x.raw", 777)
    assert thermo.scan(minutes=5).registered == ()


def test_a_name_that_another_instrument_has_used_is_flagged(make_services, config):
    second = config.instruments["thermo1"].model_copy(update={"path": None})
    both = config.model_copy(update={"instruments": {**config.instruments, "thermo2": second}})
    services = make_services(both)
    services.instrument_folder("thermo2").mkdir()
    one, two = Bench(services, "thermo1"), Bench(services, "thermo2")
    one.write("x.raw")
    two.write("x.raw")
    one.scan()
    (new,) = two.scan(minutes=1).registered
    assert FLAGGED.fullmatch(new.id)
    assert (new.instrument_id, new.original_name) == ("thermo2", "x.raw")
    assert list(one.statuses()) == ["x.raw"]
    assert two.scan(minutes=1).registered == ()


@pytest.fixture
def with_age_limit(make_services, config):
    options = Options(debug_max_file_age_in_hours=10)
    return Bench(make_services(config.model_copy(update={"options": options})), "thermo1")


def test_a_file_over_the_age_limit_is_ignored_and_says_why(with_age_limit):
    with_age_limit.write("old.raw", created_at=NOW - timedelta(hours=11))
    with_age_limit.write("young.raw", created_at=NOW - timedelta(hours=9))
    with_age_limit.scan()
    for _ in range(3):
        with_age_limit.scan(minutes=61)
    assert with_age_limit.statuses() == {"old.raw": "ignored", "young.raw": "monitoring_done"}
    old = with_age_limit.services.store.raw_files.get("old.raw")
    assert old.status_details == "Older than debug_max_file_age_in_hours (10 h)."


def test_a_new_acquisition_under_the_name_of_an_ignored_one_is_registered(with_age_limit):
    with_age_limit.write("x.raw", created_at=NOW - timedelta(hours=11))
    with_age_limit.scan()
    with_age_limit.write("x.raw", 777, created_at=NOW)
    (new,) = with_age_limit.scan(minutes=1).registered
    assert FLAGGED.fullmatch(new.id)
    assert new.status is Status.QUEUED_FOR_MONITORING


def test_an_ignored_file_that_is_asked_for_is_watched_to_its_end(with_age_limit):
    with_age_limit.write("x.raw", created_at=NOW - timedelta(hours=11))
    with_age_limit.scan()
    retry(with_age_limit.services, "x.raw", asked_by="a person")
    for _ in range(4):
        with_age_limit.scan(minutes=61)
    assert with_age_limit.statuses() == {"x.raw": "monitoring_done"}


@pytest.mark.parametrize("instrument_id", ENDINGS)
def test_any_name_that_a_file_system_takes_is_watched_to_its_end(services, instrument_id):
    bench = Bench(services, instrument_id)
    ending = ENDINGS[instrument_id]
    names = [*(stem + ending for stem in HOSTILE_STEMS), long_name(ending)]
    for name in names:
        bench.write(name)
        if instrument_id == "sciex1" and name != names[-1]:
            (bench.folder / f"{name}.scan").write_bytes(b"x" * 200)
    assert sorted(item.id for item in bench.scan().registered) == sorted(names)
    finish(services, instrument_id)
    ended = dict.fromkeys(names, "monitoring_done")
    if instrument_id == "sciex1":  # no companion's name fits beside one of 255 bytes
        ended[names[-1]] = "monitoring_acquisition"
    assert bench.statuses() == ended


@pytest.mark.parametrize("stem", [*HOSTILE_STEMS, "x" * 251])
def test_the_partition_key_of_a_hostile_name_leads_back_to_it(stem):
    key = partition_key(f"{stem}.raw")
    assert raw_file_id_of(key) == f"{stem}.raw"
    assert key.isprintable()
    assert "..." not in key


def test_a_second_acquisition_under_a_name_of_255_bytes_gets_a_name_that_fits(services, thermo):
    name = long_name(".raw")
    thermo.write(name)
    finish(services, "thermo1")
    raw_file = services.store.raw_files.get(name)
    services.store.raw_files.transition(raw_file, Status.ACQUISITION_FAILED, now=services.now())
    thermo.write(name, 777)
    (new,) = thermo.scan().registered
    assert new.original_name == name
    assert len(new.id.encode()) < 255
    assert new.id.startswith(new.collision_flag)


def leave_alone(thermo: Bench, elsewhere) -> set[str]:
    (thermo.folder / ".raw").write_bytes(b"nothing but the extension")
    (thermo.folder / "folder.raw").mkdir()
    elsewhere.write_bytes(b"not the instrument's")
    (thermo.folder / "link.raw").symlink_to(elsewhere)
    (thermo.folder / "dangling.raw").symlink_to(thermo.folder / "nowhere")
    os.mkfifo(thermo.folder / "pipe.raw")
    no_utf8 = b"\xff.raw"
    (thermo.folder / os.fsdecode(no_utf8)).write_bytes(b"named in another encoding")
    return {".raw", "folder.raw", "link.raw", "dangling.raw", "pipe.raw", os.fsdecode(no_utf8)}


def test_what_looks_like_a_raw_file_and_is_none_is_left_alone_and_told_once(thermo, tmp_path):
    expected = leave_alone(thermo, tmp_path / "elsewhere")
    first = thermo.scan()
    assert {item.name for item in first.newly_left_alone} == expected
    assert all(item.reason for item in first.newly_left_alone)
    assert (first.registered, thermo.statuses()) == ((), {})
    second = thermo.scan(minutes=1)
    assert second.newly_left_alone == ()
    health = thermo.services.store.health.get("thermo1")
    assert f"{len(expected)} left alone" in health["status_details"]
    assert len(health["left_alone"]) == len(expected)


def test_what_is_left_alone_keeps_nobody_else_from_being_handled(thermo, tmp_path):
    leave_alone(thermo, tmp_path / "elsewhere")
    thermo.write("good.raw")
    finish(thermo.services, "thermo1")
    assert thermo.statuses() == {"good.raw": "monitoring_done"}


def test_a_bruker_folder_that_is_a_file_or_a_link_is_left_alone(services, tmp_path):
    bruker = Bench(services, "bruker1")
    (bruker.folder / "file.d").write_bytes(b"a file")
    (tmp_path / "real.d").mkdir()
    (bruker.folder / "link.d").symlink_to(tmp_path / "real.d")
    found = bruker.scan()
    assert {item.name for item in found.newly_left_alone} == {"file.d", "link.d"}
    assert found.registered == ()


def test_a_main_file_that_is_a_link_is_none(services, tmp_path):
    bruker = Bench(services, "bruker1")
    (tmp_path / "data").write_bytes(b"not the instrument's")
    (bruker.folder / "x.d").mkdir()
    (bruker.folder / "x.d" / "analysis.tdf_bin").symlink_to(tmp_path / "data")
    bruker.scan()
    bruker.scan(minutes=120)
    assert bruker.acquisition("x.d")["errors"] == ["Main file was not created: analysis.tdf_bin"]


def test_two_collisions_of_one_look_get_ids_of_their_own(services, thermo):
    names = ("x.raw", "y.raw")
    for name in names:
        thermo.write(name)
    finish(services, "thermo1")
    for name in names:
        raw_file = services.store.raw_files.get(name)
        services.store.raw_files.transition(raw_file, Status.ACQUISITION_FAILED, now=services.now())
        thermo.write(name, 777)
    found = thermo.scan().registered
    assert sorted(item.original_name for item in found) == ["x.raw", "y.raw"]
    assert len({item.collision_flag for item in found}) == 2
