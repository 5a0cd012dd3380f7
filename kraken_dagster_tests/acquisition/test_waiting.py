"""What a file waits for, in words and with the time: by its record, whoever asks."""

import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click.testing
import dagster as dg
import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.cli.main import main
from kraken_dagster.config.instruments import InstrumentEntry
from kraken_dagster.model.files import acquisition
from kraken_dagster.model.files.acquisition import FolderEntry, Timing, Watch
from kraken_dagster.model.files.dates import local
from kraken_dagster.model.files.vendors import RULES, Vendor, corrupted_name
from kraken_dagster.model.raw_file import (
    BackupStatus,
    DecidedSettings,
    FileFact,
    InstrumentFileStatus,
    RawFile,
    Status,
)
from kraken_dagster.model.retention.refusal import Refusal
from kraken_dagster.monitoring.waiting import what_they_wait_for
from kraken_dagster.monitoring.waiting_rules import Around, in_words, waits_for
from kraken_dagster.quant.jobs.engine_backoff import FIRST_WAIT_S as FIRST_WAIT_OF_AN_ENGINE_S
from kraken_dagster.quant.jobs.engine_backoff import LONGEST_WAIT_S as LONGEST_WAIT_OF_AN_ENGINE_S
from kraken_dagster.runtime.failures import LONGEST_WAIT_S
from kraken_dagster.runtime.refusals import LONGEST_REFUSAL_S
from kraken_dagster_tests.retention.retention_cases import done
from kraken_dagster_tests.support.dagster_bench import Bench as DagsterBench
from kraken_dagster_tests.support.helpers import NOW, Bench, lease, record, write_config

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    # Checks by partition are a preview in Dagster 1.13.
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
ROOT = Path(__file__).resolve().parents[2]
T = Timing()
BACKED_UP = {
    "backup_status": BackupStatus.COPYING_DONE,
    "file_info": {"x.raw": FileFact(size=5, md5="0" * 32)},
    "backed_up_at": NOW,
    "instrument_file_status": InstrumentFileStatus.INITIAL,
}


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def reported(
    raw_file: RawFile, *, around: Around | None = None, minutes: float = 0, **options
) -> str:
    entry = InstrumentEntry(**{"type": Vendor.THERMO, **options})
    now = NOW + timedelta(minutes=minutes)
    found = waits_for(raw_file, now=now, instrument=entry, timing=T, around=around or Around())
    return found or "nothing"


def clock(**later: float) -> str:
    return local(NOW + timedelta(**later), now=NOW)


def watched(*, main_file: bool = True, scan: int | None = None, **changes) -> RawFile:
    seen = FolderEntry("x.raw", NOW.timestamp(), 100 if main_file else None, 100, scan)
    watch = Watch.begin(NOW, main_file_seen=main_file, seen=seen if main_file else None)
    state = replace(watch, **changes).to_record()
    return record(status=Status.MONITORING_ACQUISITION, acquisition=state)


def test_times_are_local_with_their_zone_and_have_a_date_unless_it_is_todays():
    assert local(NOW, now=NOW).endswith(" CET")
    assert local(NOW.replace(month=7), now=NOW).endswith(" CEST")
    assert len(local(NOW, now=NOW)) == len("14:02 CET")
    assert local(NOW + timedelta(days=1), now=NOW)[:4] == f"{NOW:%Y}"
    assert in_words(timedelta(minutes=60)) == "60 min"
    assert in_words(T.sciex_size_check) == "24 h"
    assert in_words(T.hastened(400).size_check) == "9 s"


# -- what ends an acquisition ---------------------------------------------------------------------


def test_an_acquisition_says_what_ends_it_and_when():
    found = reported(watched())
    assert found.startswith("being acquired; over when the next acquisition begins, or once")
    assert f"two checks 60 min apart, at {clock(minutes=120)} if nothing more" in found
    checked = watched(size_bytes=100, total_bytes=100)
    assert f"at {clock(minutes=60)} if nothing more" in reported(checked)
    assert "at the next look if nothing more" in reported(checked, minutes=61)
    old = reported(watched(), consider_old_files_acquired=True)
    assert "or when it is more than 5 h older than the youngest there" in old


def test_a_sciex_waits_for_its_scan_for_a_day():
    checked = {"size_bytes": 100, "total_bytes": 100}
    found = reported(watched(**checked, scan=10), type=Vendor.SCIEX)
    assert "the next acquisition begins, and its .wiff.scan is complete, or once" in found
    assert f"24 h apart, at {clock(hours=24)} if nothing" in found
    whole = watched(**checked, scan=RULES[Vendor.SCIEX].complete_scan_bytes + 1)
    assert f"60 min apart, at {clock(minutes=60)} if nothing" in reported(whole, type=Vendor.SCIEX)


def test_a_main_file_that_is_missing_is_waited_for_two_hours():
    found = reported(watched(main_file=False), type=Vendor.BRUKER)
    assert found == (
        f"its main file is not there; it counts as failed at {clock(hours=2)} if it isn't until "
        "then (120 min)"
    ).replace("120 min", in_words(T.main_file_timeout))
    gone = watched(missing_since=NOW + timedelta(minutes=10))
    assert f"as failed at {clock(minutes=130)}" in reported(gone)
    assert "renamed it as failed" in reported(gone)


def test_a_folder_that_can_not_be_gone_by_ends_nothing():
    assert "can't be gone by: it hangs" in reported(watched(), around=Around(folder="it hangs"))
    empty = watched()
    empty.acquisition["seen_size"] = 0
    assert "over never, while its main file is empty" in reported(empty)
    assert "looked at for the first time" in reported(record(status=Status.QUEUED_FOR_MONITORING))


@pytest.mark.parametrize("vendor", list(Vendor))
def test_what_is_told_is_what_the_monitor_does(vendor):
    """It is over at the time that was told, and not at the look before."""
    names = {Vendor.THERMO: "x.raw", Vendor.BRUKER: "x.d", Vendor.SCIEX: "x.wiff"}
    scan = 10 if vendor is Vendor.SCIEX else None
    seen = FolderEntry(names[vendor], NOW.timestamp(), 100, 100, scan)
    watch, now, told_at = Watch.begin(NOW, main_file_seen=True, seen=seen), NOW, ""
    for _ in range(60 * 24 * 2):
        now += timedelta(minutes=1)
        verdict = acquisition.observe(
            watch,
            seen.name,
            vendor=vendor,
            folder={seen.name: seen},
            first_seen={seen.name: NOW},
            now=now,
            timing=T,
        )
        if verdict.over:
            break
        watch = verdict.watch
        state = record(status=Status.MONITORING_ACQUISITION, acquisition=watch.to_record())
        entry = InstrumentEntry(type=vendor)
        told_at = waits_for(state, now=now, instrument=entry, timing=T, around=Around())
    assert verdict.over
    assert f"at {local(now, now=now - timedelta(minutes=1))} if nothing more" in told_at


# -- what any other file waits for ----------------------------------------------------------------


def test_every_status_says_what_comes_next():
    for status in Status:
        found = reported(record(status=status, **BACKED_UP))
        assert found
        if status not in (Status.IGNORED,):
            assert found != "nothing", status


def test_a_backup_waits_for_a_slot_or_its_store():
    due = record(status=Status.MONITORING_DONE)
    assert "at most 2 of the instrument at once, oldest first" in reported(due)
    assert reported(due, around=Around(backup="the store is away")) == "the store is away"
    held = reported(record(status=Status.COPYING, lease=lease(until=NOW + timedelta(minutes=1))))
    assert held == (f"run run-1 works on it (step backup; its lease is until {clock(minutes=1)})")


def test_what_failed_says_when_it_is_tried_again():
    failed = record(status=Status.ERROR)
    assert "after `kraken retry`" in reported(failed)
    later = failed.model_copy(update={"retry_at": NOW + timedelta(minutes=4)})
    assert reported(later) == f"it is tried again at {clock(minutes=4)}"
    assert reported(later, minutes=5) == "it is tried again at the next look"
    assert reported(later, minutes=5, around=Around(backup="away")) == "away"


def test_a_queued_file_says_what_its_engine_is_at():
    queued = record(
        status=Status.QUEUED_FOR_QUANTING,
        quant_settings=[DecidedSettings(name="s", version=1, engine="slurm")],
    )
    assert "submitted to 'slurm' at the next tick" in reported(queued)
    full = Around(slots={"slurm": (7, 7), "local": (2, 2)})
    assert "wait for a slot: 7 jobs are open on 'slurm' and 7 may be" in reported(
        queued, around=full
    )
    assert reported(queued, around=Around(engines={"slurm": "asked again"})) == "asked again"
    assert reported(queued, around=Around(output="away")) == "away"


def test_a_file_that_is_done_says_when_it_is_moved_aside_and_deleted():
    file = record(status=Status.DONE, **BACKED_UP)
    assert reported(file) == (
        f"archived on the instrument at {clock(minutes=5)} (5 min after its backup)"
    )
    assert reported(file, move_files=False) == reported(file, file_move_delay_m=-1) == "nothing"
    busy = Refusal(problem="busy", at=NOW, retry_at=NOW + timedelta(minutes=2))
    hindered = reported(file.model_copy(update={"archive": busy}))
    assert hindered.startswith("its archiving: tried again at ")
    aside = file.model_copy(
        update={
            "instrument_file_status": InstrumentFileStatus.MOVED,
            "created_at": NOW,
            "created_at_": NOW,
        }
    )
    assert reported(aside) == "nothing"  # nothing is ever deleted
    found = reported(aside, min_free_space_gb=100)
    assert found == (
        "deleted from the instrument when less than 100 GB are free, not before "
        f"{clock(days=14)} (14 days old)"
    )
    assert reported(aside, min_free_space_gb=100, minutes=60 * 24 * 15).endswith("GB are free")


# -- who tells it ---------------------------------------------------------------------------------


def test_the_state_of_the_laboratory_is_read_from_mongodb_alone(services):
    bench = Bench(services, "thermo1")
    bench.write("x.raw")
    bench.scan()
    done(services, "bruker1", "x.d")
    health, now = services.store.health, services.now()
    health.file_system_unwell("backup", details="no marker in it", now=now)
    health.engine_unwell(
        "local", details="no answer", failures=1, ask_again_at=now + timedelta(minutes=1), now=now
    )
    files = {
        "open": services.store.raw_files.get("x.raw"),
        "due": record("a.raw", status=Status.MONITORING_DONE),
        "queued": record("b.raw", status=Status.QUEUED_FOR_QUANTING),
    }
    found = what_they_wait_for(services, files.values())
    assert found["x.raw"].startswith("being acquired; over when the next acquisition begins")
    assert found["a.raw"].startswith("the backup store is away, and is looked at again by itself")
    assert found["b.raw"].startswith("the engine 'local' is asked again at ")


def test_files_and_show_say_what_a_file_waits_for(tmp_path, mongodb_uri, store, services):
    path = write_config(tmp_path, mongodb_uri)
    Bench(services, "thermo1").write("x.raw")
    look_at(services, "thermo1")

    def kraken(*arguments: str) -> str:
        result = click.testing.CliRunner().invoke(main, ["--config", str(path), *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    words = "being acquired; over when the next acquisition begins"
    assert words in kraken("files")
    assert words in kraken("show", "x.raw")
    (row,) = json.loads(kraken("files", "--json"))
    assert row["waits_for"] == json.loads(kraken("show", "x.raw", "--json"))["waits_for"]


def test_the_ticks_of_watcher_and_archiver_say_what_files_wait_for(config, store, services):
    with dg.DagsterInstance.ephemeral() as instance:
        bench = DagsterBench(config, store, instance)
        for number in range(4):
            path = bench.services.instrument_folder("thermo1") / f"{number}.raw"
            path.write_bytes(b"raw")
        shown = bench.tick("thermo1_watcher").skip_message
        assert "'0.raw': being acquired; over when the next acquisition begins" in shown
        assert "1 more wait, see `kraken files`" in shown
        done(services, "bruker1", "x.d")
        store._database["raw_file"].update_one(
            {"_id": "x.d"}, {"$set": {"backed_up_at": bench.services.now()}}
        )
        assert "1 wait, the next until " in bench.tick("bruker1_archiver").skip_message


# -- the document ---------------------------------------------------------------------------------

TEXT = (ROOT / "docs" / "waiting.md").read_text(encoding="utf-8")


def row(begins: str) -> list[str]:
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_document_has_the_monitors_times_for_every_vendor():
    check, day = in_words(T.size_check), in_words(T.sciex_size_check)
    missing, old = in_words(T.main_file_timeout), in_words(T.old_file)
    scan = f"{RULES[Vendor.SCIEX].complete_scan_bytes} bytes"
    assert row("nothing was written")[1:] == [
        *[f"{check} apart"] * 2,
        f"{check} apart; {day} while the `.wiff.scan` has {scan} or less",
    ]
    assert row("there is no main file")[1:] == [f"after {missing}"] * 3
    assert [cell[: len(f"by more than {old}")] for cell in row("with `consider_old")[1:]] == [
        f"by more than {old}"
    ] * 3
    assert f"more than {scan}" in row("the next acquisition")[3]
    assert f"{check} after the file was first seen" in TEXT
    assert f"over {in_words(2 * T.size_check)} after it was first seen" in TEXT


def test_the_document_has_what_each_vendors_files_are_called():
    cells = row("what is watched")[1:]
    for vendor, cell in zip((Vendor.THERMO, Vendor.BRUKER, Vendor.SCIEX), cells, strict=True):
        for name in (*RULES[vendor].extensions, *RULES[vendor].main_files):
            assert f"{name}`" in cell
    assert row("the instrument has renamed")[1] == f"`{corrupted_name(Vendor.THERMO, 'x.raw')}`"


def test_the_document_has_the_defaults_and_the_longest_pauses():
    entry = InstrumentEntry(type=Vendor.THERMO)
    for name, unit in {
        "watch_interval_s": "s",
        "copy_slots": "",
        "lease_s": "s",
        "retry_after_s": "s",
        "file_move_delay_m": "min",
        "min_file_age_to_remove_in_days": "days",
    }.items():
        value = f"{getattr(entry, name):g} {unit}".strip()
        assert f"`{name}` ({value})" in TEXT
    assert row("of which a step failed | the next")[2] == in_words(
        timedelta(seconds=LONGEST_WAIT_S)
    )
    assert row("that can't be moved")[2] == in_words(timedelta(seconds=LONGEST_WAIT_S))
    assert row("whose move or purge")[2] == in_words(timedelta(seconds=LONGEST_REFUSAL_S))
    assert row("whose engine")[2] == in_words(timedelta(seconds=LONGEST_WAIT_OF_AN_ENGINE_S))
    first = in_words(timedelta(seconds=FIRST_WAIT_OF_AN_ENGINE_S))
    assert f"after {first}, twice" in row("whose engine")[1]
