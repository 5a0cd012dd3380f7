"""The simulated laboratory writes what real instruments write, and keeps to its plan."""

import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from kraken_dagster.simulation import search_program
from kraken_dagster.simulation.clock import LabClock, LaboratoryClosed
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.simulation.laboratory import Laboratory
from kraken_dagster.simulation.operator import Operator
from kraken_dagster.simulation.plans import (
    ExpectedFile,
    WaitUntilMoved,
    demo_plan,
    expected_outcomes,
)
from kraken_dagster_tests.support.helpers import wait_until

FAST = 20_000.0
START = datetime(2024, 8, 1, 9, 30, 0, tzinfo=UTC)
MARKER = b"SIMULATED BY KRAKEN, not a measurement"
VENDORS = ("thermo", "bruker", "sciex")
MAIN_FILES = {"thermo": "x.raw", "bruker": "x.d/analysis.tdf_bin", "sciex": "x.wiff"}
NAMES = {"thermo": "x.raw", "bruker": "x.d", "sciex": "x.wiff"}


def acquisition_of(vendor: str, **changes: object) -> Acquisition:
    standard = Acquisition(NAMES[vendor], vendor, minutes=20, size_bytes=300_000, seed=7)
    return replace(standard, **changes)


def begin(folder: Path, acquisition: Acquisition, speed: float = FAST) -> Iterator[float]:
    return SimulatedInstrument(folder, acquisition.vendor, LabClock(speed)).steps(acquisition)


def write(folder: Path, acquisition: Acquisition) -> None:
    for _ in begin(folder, acquisition):
        pass


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def metadata(tdf: Path) -> dict[str, str]:
    with closing(sqlite3.connect(tdf)) as database:
        return dict(database.execute("SELECT Key, Value FROM GlobalMetadata"))


# --- instruments ---


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_main_file_grows_in_at_least_ten_appends(tmp_path: Path, vendor: str) -> None:
    main_file = tmp_path / MAIN_FILES[vendor]
    sizes = {
        main_file.stat().st_size
        for _ in begin(tmp_path, acquisition_of(vendor))
        if main_file.exists()
    }
    assert len(sizes) >= 10


@pytest.mark.parametrize("vendor", VENDORS)
def test_something_grows_at_every_step_even_on_a_slow_clock(tmp_path: Path, vendor: str) -> None:
    totals = [
        sum(len(content) for content in tree(tmp_path).values())
        for _ in begin(tmp_path, acquisition_of(vendor), speed=30)
    ]
    assert len(totals) >= 80  # 20 min at speed 30 are 40 s, with an append every half second
    assert all(later > earlier for earlier, later in pairwise(totals))


@pytest.mark.parametrize("speed", [1.0, 400.0, FAST])
@pytest.mark.parametrize("vendor", VENDORS)
def test_the_waits_add_up_to_the_minutes_and_each_is_below_half_a_second(
    tmp_path: Path, vendor: str, speed: float
) -> None:
    waits = list(begin(tmp_path, acquisition_of(vendor), speed=speed))
    assert sum(waits) == pytest.approx(20)
    assert max(waits) * 60 / speed < 0.5


@pytest.mark.parametrize(
    ("vendor", "file", "magic"),
    [
        ("bruker", "x.d/analysis.tdf_bin", b""),
        ("sciex", "x.wiff2", b"SQLite format 3\0"),
    ],
)
def test_files_begin_with_the_vendors_magic_and_say_that_they_are_simulated(
    tmp_path: Path, vendor: str, file: str, magic: bytes
) -> None:
    for _ in begin(tmp_path, acquisition_of(vendor)):
        path = tmp_path / file
        if path.exists():
            assert path.read_bytes().startswith(magic + MARKER)
    assert (tmp_path / file).exists()


@pytest.mark.parametrize("size_bytes", [9_000, 300_000])
def test_a_thermo_file_has_its_magic_and_says_in_its_header_that_it_is_simulated(
    tmp_path: Path, size_bytes: int
) -> None:
    for _ in begin(tmp_path, acquisition_of("thermo", size_bytes=size_bytes)):
        content = (tmp_path / "x.raw").read_bytes()
        assert content.startswith(b"\x01\xa1F\0i\0n\0n\0i\0g\0a\0n\0")
        assert MARKER in content[:1356]


@pytest.mark.parametrize("size_bytes", [9_000, 300_000])
def test_a_sciex_container_says_that_it_is_simulated(tmp_path: Path, size_bytes: int) -> None:
    write(tmp_path, acquisition_of("sciex", size_bytes=size_bytes))
    content = (tmp_path / "x.wiff").read_bytes()
    assert content.startswith(bytes.fromhex("D0CF11E0A1B11AE1"))
    assert MARKER in content[:2000]


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_size_is_the_one_asked_for(tmp_path: Path, vendor: str) -> None:
    write(tmp_path, acquisition_of(vendor, size_bytes=123_457))
    files = tree(tmp_path)
    counted = [MAIN_FILES["bruker"]] if vendor == "bruker" else files
    assert sum(len(files[name]) for name in counted) == 123_457


@pytest.mark.parametrize("vendor", VENDORS)
def test_equal_seeds_give_equal_data_whatever_the_speed(tmp_path: Path, vendor: str) -> None:
    for folder, speed, seed in (("a", FAST, 7), ("b", 100.0, 7), ("c", FAST, 8)):
        list(begin(tmp_path / folder, acquisition_of(vendor, seed=seed), speed))
    one, same, other = (tree(tmp_path / folder) for folder in "abc")
    main_file = MAIN_FILES[vendor]
    assert one.keys() == same.keys() == other.keys()
    assert one[main_file] == same[main_file]
    assert one[main_file] != other[main_file]
    if vendor == "sciex":
        assert one == same
    if vendor == "bruker":
        assert frames(tmp_path / "a/x.d") == frames(tmp_path / "b/x.d")
        assert frames(tmp_path / "a/x.d") != frames(tmp_path / "c/x.d")


def frames(raw: Path) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(raw / "analysis.tdf")) as database:
        return database.execute("SELECT * FROM Frames ORDER BY Id").fetchall()


def test_a_corrupted_thermo_is_renamed_after_a_part_of_its_data(tmp_path: Path) -> None:
    before = []
    for _ in begin(tmp_path, acquisition_of("thermo", outcome="corrupted")):
        before.append(sorted(tree(tmp_path)))
    assert len(before) >= 10
    assert all(names == ["x.raw"] for names in before)
    assert sorted(tree(tmp_path)) == ["x_CORRUPTED.raw"]
    assert 0 < (tmp_path / "x_CORRUPTED.raw").stat().st_size < 300_000


def test_a_brukers_main_file_shows_up_after_its_folder(tmp_path: Path) -> None:
    steps = begin(tmp_path, acquisition_of("bruker"))
    next(steps)
    assert sorted(tree(tmp_path)) == [
        "x.d/4711.m/hystar.method",
        "x.d/4711.m/microTOFQImpacTemAcquisition.method",
        "x.d/SampleInfo.xml",
        "x.d/analysis.tdf",
    ]
    next(steps)
    assert (tmp_path / MAIN_FILES["bruker"]).stat().st_size > 0


def test_a_brukers_database_says_when_the_acquisition_is_closed(tmp_path: Path) -> None:
    tdf = tmp_path / "x.d/analysis.tdf"
    for _ in begin(tmp_path, acquisition_of("bruker")):
        assert metadata(tdf)["ClosedProperly"] == "0"
        assert not list(tdf.parent.glob("analysis.tdf-*"))
    written = metadata(tdf)
    assert written["ClosedProperly"] == "1"
    assert written["InstrumentName"] == "timsTOF Pro (simulated)"
    assert written["SimulatedBy"] == "Kraken"
    assert written["SampleName"] == "x"
    assert datetime.fromisoformat(written["AcquisitionDateTime"]).tzinfo is not None
    assert not list(tdf.parent.glob("analysis.tdf-*"))


def test_a_brukers_frames_are_those_of_a_dia_pasef_run(tmp_path: Path) -> None:
    write(tmp_path, acquisition_of("bruker"))
    with closing(sqlite3.connect(tmp_path / "x.d/analysis.tdf")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.row_factory = sqlite3.Row
        rows = database.execute("SELECT * FROM Frames ORDER BY Id").fetchall()
    assert {row["MsMsType"] for row in rows[:9]} == {0, 9}
    assert [row["Id"] for row in rows if row["MsMsType"] == 0] == list(range(1, len(rows) + 1, 9))
    times = [row["Time"] for row in rows]
    assert times == sorted(times)
    assert 0 < times[0] < 5
    assert 1190 < times[-1] < 1205
    assert all(99 < row["AccumulationTime"] < 101 for row in rows)
    assert len({row["AccumulationTime"] for row in rows}) > 10


def test_a_brukers_ion_current_rises_and_falls_over_the_gradient(tmp_path: Path) -> None:
    write(tmp_path, acquisition_of("bruker"))
    with closing(sqlite3.connect(tmp_path / "x.d/analysis.tdf")) as database:
        query = "SELECT SummedIntensities FROM Frames WHERE MsMsType = 0 ORDER BY Id"
        current = [row[0] for row in database.execute(query)]
    start, middle, end = current[0], sorted(current)[len(current) // 2], current[-1]
    assert middle > 3 * start
    assert middle > 3 * end
    assert max(current) > 1.2 * middle


def test_a_bruker_without_main_file_never_gets_one_and_stays_open(tmp_path: Path) -> None:
    for _ in begin(tmp_path, acquisition_of("bruker", outcome="no_main_file")):
        assert not (tmp_path / MAIN_FILES["bruker"]).exists()
    assert not (tmp_path / MAIN_FILES["bruker"]).exists()
    assert metadata(tmp_path / "x.d/analysis.tdf")["ClosedProperly"] == "0"


def test_a_sciex_scan_file_stays_at_100_bytes_until_the_conversion(tmp_path: Path) -> None:
    scan, wiff = tmp_path / "x.wiff.scan", tmp_path / "x.wiff"
    sizes = [
        (scan.stat().st_size, wiff.stat().st_size) for _ in begin(tmp_path, acquisition_of("sciex"))
    ]
    final = wiff.stat().st_size
    assert sum(scan_size == 100 for scan_size, _ in sizes) >= 10
    assert all(wiff_size == final for scan_size, wiff_size in sizes if scan_size > 100)
    assert scan.stat().st_size > 200_000
    assert sorted(tree(tmp_path)) == ["x.timeseries.data", "x.wiff", "x.wiff.scan", "x.wiff2"]


@pytest.mark.parametrize(
    ("vendor", "outcome", "there"),
    [
        ("thermo", "ok", "x.raw"),
        ("thermo", "corrupted", "x_CORRUPTED.raw"),
        ("bruker", "ok", "x.d"),
        ("sciex", "ok", "x.wiff.scan"),
    ],
)
def test_what_stands_in_the_folder_is_never_overwritten(
    tmp_path: Path, vendor: str, outcome: str, there: str
) -> None:
    (tmp_path / there).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=re.escape(there)):
        next(begin(tmp_path, acquisition_of(vendor, outcome=outcome)))
    assert tree(tmp_path) == {there: b"precious"}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x.raw"},
        {"name": "a/x.raw"},
        {"name": ".raw"},
        {"name": "x.d"},
        {"vendor": "waters"},
        {"outcome": "no_main_file"},
        {"minutes": 0},
        {"size_bytes": 10},
    ],
)
def test_an_acquisition_that_no_thermo_makes_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Expected|no outcome"):
        replace(acquisition_of("thermo"), **changes)


def test_an_instrument_refuses_an_acquisition_of_another_vendor(tmp_path: Path) -> None:
    instrument = SimulatedInstrument(tmp_path, "thermo", LabClock(FAST))
    with pytest.raises(ValueError, match="thermo"):
        instrument.acquire(acquisition_of("sciex"))


def test_acquire_writes_what_the_steps_write(tmp_path: Path) -> None:
    write(tmp_path / "steps", acquisition_of("thermo"))
    SimulatedInstrument(tmp_path / "whole", "thermo", LabClock(FAST)).acquire(
        acquisition_of("thermo")
    )
    assert tree(tmp_path / "whole") == tree(tmp_path / "steps")


# --- clock ---


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_clock_that_does_not_run_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        LabClock(speed)


def test_twenty_minutes_at_speed_400_are_three_seconds() -> None:
    assert LabClock(400).real_seconds(20) == pytest.approx(3)


def test_closing_the_clock_ends_an_acquisition_in_the_middle(tmp_path: Path) -> None:
    clock = LabClock(1)
    clock.close()
    instrument = SimulatedInstrument(tmp_path, "bruker", clock)
    with pytest.raises(LaboratoryClosed):
        instrument.acquire(acquisition_of("bruker"))
    assert metadata(tmp_path / "x.d/analysis.tdf")["ClosedProperly"] == "0"


# --- plans ---


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("files", [1, 3, 120])
def test_planned_names_are_unique_and_carry_the_project(vendor: str, files: int) -> None:
    plan = demo_plan(vendor, files=files, start=START, project="SIM1")
    names = [item.name for item in plan if isinstance(item, Acquisition)]
    twice = 1 if vendor == "thermo" else 0
    assert len(set(names)) == len(names) - twice
    for name in names:
        assert re.fullmatch(r"20240801_[A-Za-z0-9_+.-]+", name)
        assert "SIM1" in name.split("_")


@pytest.mark.parametrize("vendor", VENDORS)
def test_only_one_planned_name_says_dda_and_it_is_a_thermos(vendor: str) -> None:
    plan = demo_plan(vendor, files=5, start=START, project="SIM1")
    dda = {item.name for item in plan if "dda" in item.name.lower()}
    assert len(dda) == (1 if vendor == "thermo" else 0)


def test_a_plan_is_the_same_for_the_same_arguments_and_new_for_another_start() -> None:
    first, same, later = (
        demo_plan("bruker", files=4, start=start, project="SIM1")
        for start in (START, START, START.replace(minute=31))
    )
    assert first == same
    assert not {item.name for item in first} & {item.name for item in later}


def test_without_a_project_no_token_is_left_empty() -> None:
    (item,) = demo_plan("sciex", files=1, start=START, project="", practice=False)
    assert "__" not in item.name
    assert "SIM1" not in item.name


@pytest.mark.parametrize("files", [1, 2, 5])
def test_a_thermo_plan_has_a_corrupted_a_dda_and_a_colliding_file(files: int) -> None:
    plan = demo_plan("thermo", files=files, start=START, project="SIM1")
    *before, action, again = plan
    assert isinstance(action, WaitUntilMoved)
    first = before[0]
    assert again.name == action.name == first.name
    assert again.size_bytes != first.size_bytes
    assert [item.outcome for item in before].count("corrupted") == 1
    assert len(before) == files + 2


@pytest.mark.parametrize("vendor", ["bruker", "sciex"])
def test_the_other_vendors_plans_are_ordinary(vendor: str) -> None:
    plan = demo_plan(vendor, files=6, start=START, project="SIM1", practice=False)
    assert [item.outcome for item in plan] == ["ok"] * 6
    assert expected_outcomes(plan) == [ExpectedFile(item.name, "done") for item in plan]


def test_one_file_is_to_practise_on_and_says_so() -> None:
    plan = demo_plan("sciex", files=2, start=START, project="SIM1")
    *_, practice = expected_outcomes(plan)
    assert (len(plan), practice.expected_status) == (3, "quanting_failed")
    assert "on purpose" in practice.explanation


def test_a_search_to_practise_on_fails_once(tmp_path: Path) -> None:
    raw = tmp_path / "x_PRACTICE_1.wiff"
    raw.write_bytes(b"x" * 100)
    command = ["--state", str(tmp_path / "state"), str(raw), str(tmp_path / "out")]
    assert [search_program.main(command) for _ in range(3)] == [7, 0, 0]
    assert "`kraken retry` it" in (tmp_path / "out" / "log.txt").read_text()


def test_a_thermo_plan_says_how_every_file_should_end() -> None:
    plan = demo_plan("thermo", files=3, start=START, project="SIM1")
    expected = expected_outcomes(plan)
    corrupted = next(item for item in plan if getattr(item, "outcome", "") == "corrupted")
    dda = next(item for item in plan if "DDA" in item.name)
    assert Counter(file.expected_status for file in expected) == {
        "done": 4,
        "acquisition_failed": 2,
        "done_not_quanted": 1,
    }
    assert [file.expected_status for file in expected if file.original_name == plan[0].name] == [
        "done",
        "done",
    ]
    renamed = corrupted.name.replace(".raw", "_CORRUPTED.raw")
    reasons = {item.original_name: item.reason_contains for item in expected}
    assert reasons[corrupted.name] == "File got renamed"
    assert reasons[renamed] == "File name indicates failed acquisition."
    # On a slow machine nobody may have looked before it had its other name.
    assert [item.original_name for item in expected if item.may_be_missed] == [corrupted.name]
    assert ExpectedFile(dda.name, "done_not_quanted", "Filename contains 'dda'.") in expected


@pytest.mark.parametrize(("files", "project"), [(0, "SIM1"), (1, "sim"), (1, "DDA12"), (1, "A_B1")])
def test_a_plan_that_cannot_be_is_refused(files: int, project: str) -> None:
    with pytest.raises(ValueError, match=r"plan|project"):
        demo_plan("thermo", files=files, start=START, project=project)


# --- an operator ---


def test_a_name_is_used_again_once_the_file_was_moved_aside(tmp_path: Path) -> None:
    first = acquisition_of("thermo")
    again = replace(first, size_bytes=9_000)
    said: list[str] = []
    bench = Operator(tmp_path, "thermo", clock=LabClock(FAST), announce=said.append)

    def archive_members() -> None:
        wait_until(lambda: any("waits until" in line for line in said), "an operator waits")
        (tmp_path / "Backup").mkdir()
        (tmp_path / "x.raw").rename(tmp_path / "Backup" / "x.raw")

    with ThreadPoolExecutor(1) as other:
        moved = other.submit(archive_members)
        bench.carry_out([first, WaitUntilMoved("x.raw"), again])
        moved.result()
    assert bench.problems == []
    sizes = {name: len(content) for name, content in tree(tmp_path).items()}
    assert sizes == {"x.raw": 9_000, "Backup/x.raw": 300_000}


# --- the laboratory ---


def test_two_instruments_of_one_model_never_share_a_name(tmp_path: Path) -> None:
    laboratory = Laboratory(
        tmp_path,
        speed=FAST,
        files_per_instrument=3,
        start=START,
        instruments={"tims1": "bruker", "tims2": "bruker"},
    )
    one, two = ({item.name for item in plan} for plan in laboratory.plans.values())
    assert not one & two


def test_an_instrument_that_cannot_write_ends_the_laboratory_with_its_error(tmp_path: Path) -> None:
    laboratory = Laboratory(
        tmp_path,
        speed=0.001,  # all others would take days
        files_per_instrument=1,
        start=START,
        instruments={"sim_thermo": "thermo", "sim_bruker": "bruker"},
        announce=lambda _: None,
    )
    (tmp_path / "sim_bruker").write_text("no folder")
    with pytest.raises(FileExistsError):
        laboratory.run()


def command(tmp_path: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "kraken_dagster.simulation.laboratory"),
        *("--root", str(tmp_path / "instruments"), "--speed", str(FAST), "--files", "2"),
        *("--start", START.isoformat()),
        *more,
    ]


def archive_members(tmp_path: Path, stop: threading.Event) -> None:
    """In Kraken's place: the first file of the Thermo, once its name is to be used again."""
    folder = tmp_path / "instruments/sim_thermo"
    plan = demo_plan("thermo", files=2, start=START, project="SIM1")
    first, last = plan[0].name, plan[-3].name
    while not stop.wait(0.02):
        if (folder / last).exists() and (folder / last).stat().st_size == plan[-3].size_bytes:
            (folder / "Backup").mkdir()
            (folder / first).rename(folder / "Backup" / first)
            return


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=archive_members, args=(tmp_path, stop))
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("moving")
def test_the_laboratory_as_a_process_leaves_what_the_plans_say(tmp_path: Path) -> None:
    finished = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=90)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    assert all(line.startswith("SIMULATION") for line in finished.stdout.splitlines())
    root = tmp_path / "instruments"
    assert {path.name for path in root.iterdir()} == {
        *("sim_thermo", "sim_bruker", "sim_sciex", "THIS_IS_A_SIMULATION.txt")
    }
    for instrument_id, vendor in (("sim_bruker", "bruker"), ("sim_sciex", "sciex")):
        plan = demo_plan(vendor, files=2, start=START, project="SIM1")
        assert all((root / instrument_id / item.name).exists() for item in plan)
    plan = demo_plan("thermo", files=2, start=START, project="SIM1")
    names = {item.name for item in plan if getattr(item, "outcome", "") == "ok"}
    left = {path.name for path in (root / "sim_thermo").glob("*.raw")}
    assert left >= names
    assert [name.endswith("_CORRUPTED.raw") for name in left - names] == [True]
    colliding = plan[-1]
    assert (root / "sim_thermo/Backup" / colliding.name).stat().st_size == plan[0].size_bytes
    assert (root / "sim_thermo" / colliding.name).stat().st_size == colliding.size_bytes


def test_sigterm_ends_a_laboratory_that_goes_on_for_ever_with_exit_code_0(tmp_path: Path) -> None:
    """Meanwhile the Thermo's operator waits for a move that never comes."""
    folder = tmp_path / "instruments/sim_bruker"
    with subprocess.Popen(
        command(tmp_path, "--forever"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while len(list(folder.glob("*.d"))) < 4 and time.monotonic() < deadline:
                time.sleep(0.05)
            went_on = len(list(folder.glob("*.d")))
            process.terminate()
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
    assert went_on >= 4
    assert process.returncode == 0, stdout + stderr
    assert stderr == ""
    assert stdout.splitlines()[-1] == "SIMULATION ended: without problems"


@pytest.mark.usefixtures("moving")
def test_a_plan_that_could_not_be_carried_out_is_exit_code_1(tmp_path: Path) -> None:
    name = demo_plan("bruker", files=2, start=START, project="SIM1")[0].name
    (tmp_path / "instruments/sim_bruker" / name).mkdir(parents=True)
    finished = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=90)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert f"Not overwritten by an acquisition: {tmp_path}" in finished.stdout.splitlines()[-1]


def test_wrong_use_is_exit_code_2_with_a_message(tmp_path: Path) -> None:
    finished = subprocess.run(
        command(tmp_path, "--project", "dda"), capture_output=True, text=True, timeout=30
    )
    assert finished.returncode == 2
    assert "found project id 'dda'" in finished.stderr
    assert not (tmp_path / "instruments").exists()
