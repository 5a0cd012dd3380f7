"""A folder whose files are not those of its instrument's `type`: told, and not green."""

import json
from pathlib import Path

import click.testing
import dagster as dg
import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.cli.main import main
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.operations import report as reports
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.dagster_bench import Bench as DagsterBench
from kraken_dagster_tests.support.helpers import Bench, write_config

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    # Checks by partition are a preview in Dagster 1.13.
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
THERMO = tuple(f"{number}.raw" for number in range(100))
BRUKER = tuple(f"{number}.d/analysis.tdf_bin" for number in range(5))


def put(folder: Path, *names: str) -> None:
    """Files, and folders by a name that ends in `/`."""
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")


def wrong_with(services: Services, instrument_id: str) -> list[str]:
    """What `kraken status` says of an instrument after a look."""
    look_at(services, instrument_id)
    (found,) = [it for it in reports.status(services)["instruments"] if it["id"] == instrument_id]
    return [problem.partition(": ")[2] for problem in found["wrong"]]


@pytest.mark.parametrize(
    ("instrument_id", "names", "words"),
    [
        (
            "bruker1",
            (*THERMO, "methods/", "notes.txt"),
            "102 entries, none is a Bruker acquisition, 100 look like Thermo's: check "
            "`type: bruker` and `path` of bruker1 in instruments.yaml",
        ),
        ("thermo1", BRUKER, "5 entries, none is a Thermo acquisition, 5 look like Bruker's: "),
        (
            "thermo1",
            ("a.wiff", "a.wiff.scan", "a.wiff2", "x.d/analysis.tdf"),
            "4 entries, none is a Thermo acquisition, 1 looks like Sciex's, 1 looks like Bruker's",
        ),
        ("sciex1", ("a.RAW",), "1 entry, none is a Sciex acquisition, 1 looks like Thermo's: "),
        # another vendor's that has names as Thermo's, but folders
        ("thermo1", ("a.raw/",), "1 entry, none is a Thermo acquisition, nor another vendor's: "),
    ],
)
def test_the_files_of_another_vendor_are_no_green_instrument(services, instrument_id, names, words):
    put(services.instrument_folder(instrument_id), *names)
    (problem,) = wrong_with(services, instrument_id)
    assert words in problem
    assert services.store.health.get(instrument_id)["status"] == "error"


@pytest.mark.parametrize(
    ("names", "details"),
    [
        ((), None),
        (("Backup/", "desktop.ini", "._x.raw", "x.d.deleteme"), None),
        (("x.d/analysis.tdf_bin",), None),
        (
            ("methods/", "notes.txt"),
            "2 entries, none is a Bruker acquisition, nor another vendor's",
        ),
        (
            ("x.d/analysis.tdf_bin", *THERMO, "notes.txt"),
            "102 entries, 1 is a Bruker acquisition, 100 look like Thermo's",
        ),
        (
            (*BRUKER, "a.wiff"),
            "6 entries, 5 are Bruker acquisitions, 1 looks like Sciex's",
        ),
    ],
)
def test_an_empty_or_mixed_folder_is_well_and_what_is_left_out_is_told(services, names, details):
    put(services.instrument_folder("bruker1"), *names)
    assert wrong_with(services, "bruker1") == []
    health = services.store.health.get("bruker1")
    assert health["status"] == "ok"
    if details is None:
        assert "entries" not in health["status_details"]
    else:
        assert details in health["status_details"]


def test_an_instrument_of_which_all_was_moved_aside_has_no_wrong_type(services):
    bench = Bench(services, "bruker1")
    path = bench.write("x.d")
    bench.scan()
    (bench.folder / "Backup").mkdir()
    path.parent.rename(bench.folder / "Backup" / "x.d")
    services.store._database["raw_file"].update_one(
        {"_id": "x.d"},
        {"$set": {"instrument_file_status": "moved", "status": "done"}},
    )
    put(bench.folder, "methods/")
    assert wrong_with(services, "bruker1") == []
    assert "entr" not in services.store.health.get("bruker1")["status_details"]
    put(bench.folder, "stray.raw")
    assert wrong_with(services, "bruker1") == []
    assert "1 looks like Thermo's" in services.store.health.get("bruker1")["status_details"]


def test_a_right_type_is_green_again_by_itself(services, config, make_services):
    put(services.instrument_folder("bruker1"), "x.raw")
    assert wrong_with(services, "bruker1")
    entry = config.instruments["bruker1"].model_copy(update={"type": Vendor.THERMO})
    changed = {**config.instruments, "bruker1": entry}
    mended = make_services(config.model_copy(update={"instruments": changed}))
    assert wrong_with(mended, "bruker1") == []


def test_the_watchers_tick_says_that_the_type_is_wrong(config, store):
    with dg.DagsterInstance.ephemeral() as instance:
        bench = DagsterBench(config, store, instance)
        put(bench.services.instrument_folder("bruker1"), *THERMO)
        put(bench.services.instrument_folder("thermo1"), "x.raw", *BRUKER)
        reported = bench.tick("bruker1_watcher").skip_message
        assert "100 entries, none is a Bruker acquisition, 100 look like Thermo's" in reported
        mixed = bench.tick("thermo1_watcher").skip_message
        assert "6 entries, 1 is a Thermo acquisition, 5 look like Bruker's" in mixed


@pytest.mark.parametrize(
    ("names", "level", "words"),
    [
        (THERMO, "error", "none is a Bruker acquisition, 100 look like Thermo's: check `type"),
        ((*BRUKER, "x.raw"), "warning", "5 are Bruker acquisitions, 1 looks like Thermo's"),
        (("notes.txt",), "warning", "1 entry, none is a Bruker acquisition, nor another vendor's"),
        ((), "ok", "0 entries"),
    ],
)
def test_doctor_says_that_a_folder_has_another_vendors_files(
    tmp_path, mongodb_uri, names, level, words
):
    path = write_config(tmp_path, mongodb_uri)
    put(tmp_path / "instruments" / "bruker1", *names)
    result = click.testing.CliRunner().invoke(main, ["--config", str(path), "doctor", "--json"])
    found = {item["what"]: item for item in json.loads(result.stdout)}
    assert (found["bruker1"]["level"], result.exit_code) == (level, int(level == "error"))
    assert words in found["bruker1"]["found"]
