"""The step `quant_job`: what is decided, what is submitted, with which arguments."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from kraken_dagster.config.instruments import InstrumentEntry, Options
from kraken_dagster.engines.job_script import MARKS
from kraken_dagster.model.errors import (
    LeaseHeld,
    SettingsRefused,
    UnsafePath,
)
from kraken_dagster.model.raw_file import Status
from kraken_dagster.quant.submit import QuantOutcome, submit_jobs
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings
from kraken_dagster_tests.support.helpers import (
    Bench,
    acquire,
    backed_up,
    each,
    finish,
    lease,
    tick_until_idle,
    unassign,
    wait_for_jobs,
)


@pytest.fixture
def engine():
    return MemoryEngine()


@pytest.fixture
def with_engine(services, engine):
    """The world, with an engine that starts nothing."""
    return replace(services, engines={"local": engine})


def submitted(
    services, name: str = "x.raw", *, slots: int = 2, by_hand: bool = False
) -> QuantOutcome:
    return submit_jobs(services, name, run_id="run-1", slots=each(slots), by_hand=by_hand)


def process(services, instrument_id: str) -> None:
    """Everything that the sensors request for the files that stand in the folder."""
    finish(services, instrument_id)
    tick_until_idle(services)


def test_a_bruker_file_goes_from_the_instrument_to_metrics_with_the_built_in_settings(services):
    acquire(services, "bruker1", "x.d")
    process(services, "bruker1")
    raw_file = services.store.raw_files.get("x.d")
    assert (raw_file.status, raw_file.status_details) == (Status.DONE, None)
    assert [event["to"] for event in raw_file.history][-6:] == [
        "monitoring_done",
        "copying",
        "copying_done",
        "queued_for_quanting",
        "quanting",
        "done",
    ]
    (result,) = services.store.metrics.of("x.d")
    assert result["ms1_scans"] + result["ms2_scans"] == int(60 / 0.1054)
    assert result["gradient_length"] == pytest.approx(1, abs=0.01)
    assert (result["settings_name"], result["settings_version"]) == ("rawqc", 1)
    assert result["type"] == "msqc"
    assert result["output_path"] == f"_FALLBACK/{raw_file.year_month}/out_x.d/msqc"
    provenance = result["provenance"]
    assert {item["path"]: item["md5"] for item in provenance["raw_file"]} == {
        name: fact.md5 for name, fact in raw_file.file_info.items()
    }
    assert provenance["software"] == "kraken-rawqc"
    assert provenance["software_version"] == provenance["kraken"]
    assert provenance["started_at"] <= provenance["ended_at"]
    (found,) = services.store.jobs.of("x.d")
    assert found.collected_at is not None
    assert (Path(found.output_path) / "msqc_results.tsv").is_file()


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("x.raw", "done_not_quanted", "No settings configured."),
        ("x_DDA_1.raw", "done_not_quanted", "Filename contains 'dda'."),
        ("x y.raw", "done_not_quanted", "Filename contains special characters."),
        ("x\n.raw", "done_not_quanted", "Filename contains special characters."),
        ("x_CORRUPTED.raw", "acquisition_failed", "File name indicates failed acquisition."),
    ],
)
def test_a_file_that_is_not_to_be_processed_ends_with_its_reason(services, name, status, reason):
    Bench(services, "thermo1").write(name)
    process(services, "thermo1")
    raw_file = services.store.raw_files.get(name)
    assert (raw_file.status, raw_file.status_details) == (status, reason)
    assert raw_file.is_backed_up
    assert services.store.jobs.of(name) == []


@pytest.mark.parametrize("option", ["skip_processing", "skip_quanting"])
def test_an_instrument_that_is_only_backed_up_processes_nothing(make_services, config, option):
    entry = InstrumentEntry(type="bruker", **{option: True})
    instruments = {**config.instruments, "bruker1": entry}
    services = make_services(config.model_copy(update={"instruments": instruments}))
    acquire(services, "bruker1", "x.d")
    process(services, "bruker1")
    raw_file = services.store.raw_files.get("x.d")
    assert (raw_file.status, raw_file.status_details) == (
        "done_not_quanted",
        "Processing disabled for this instrument.",
    )


@pytest.mark.parametrize(
    ("pattern", "name", "left_out"),
    [
        ("_blank_|_wash_", "a_wash_1.raw", True),
        ("_blank_|_wash_", "a_dda_1.raw", False),
        ("_Blank_", "a_blank_1.raw", False),
        ("", "a_dda_1.raw", False),
    ],
)
def test_which_names_are_backed_up_only_is_a_pattern_of_the_configuration(
    make_services, config, pattern, name, left_out
):
    defaults = config.defaults.model_copy(update={"skip_processing_pattern": pattern})
    services = make_services(config.model_copy(update={"defaults": defaults}))
    Bench(services, "thermo1").write(name)
    process(services, "thermo1")
    why = f"Filename matches skip_processing_pattern {pattern!r}."
    details = services.store.raw_files.get(name).status_details
    assert details == (why if left_out else "No settings configured.")


def test_an_empty_file_has_failed(make_services, config):
    options = Options(consider_old_files_acquired=True)
    services = make_services(config.model_copy(update={"options": options}))
    thermo = Bench(services, "thermo1")
    thermo.write("x.raw", 0, created_at=services.now() - timedelta(hours=6))
    thermo.write("y.raw", created_at=services.now())
    thermo.scan()
    process(services, "thermo1")
    raw_file = services.store.raw_files.get("x.raw")
    assert (raw_file.status, raw_file.status_details) == (
        "acquisition_failed",
        "File size is zero.",
    )


def test_a_bruker_file_without_its_main_file_is_backed_up_and_has_failed(services):
    acquire(services, "bruker1", "x.d", outcome="no_main_file")
    process(services, "bruker1")
    raw_file = services.store.raw_files.get("x.d")
    assert (raw_file.status, raw_file.status_details, raw_file.is_backed_up) == (
        "acquisition_failed",
        "Main file was not created: analysis.tdf_bin",
        True,
    )


def test_a_file_that_another_run_works_on_is_left_to_it(with_engine):
    backed_up(with_engine, "bruker1", "x.d")
    now = with_engine.now()
    with_engine.store.raw_files.take_lease("x.d", lease(until=now + timedelta(days=1)), now=now)
    with pytest.raises(LeaseHeld, match="run run-1 on pc7"):
        submit_jobs(with_engine, "x.d", run_id="run-2", slots=each(2))


def test_nothing_is_submitted_without_a_verified_backup(with_engine):
    Bench(with_engine, "thermo1").write("x.raw")
    finish(with_engine, "thermo1")
    outcome = submitted(with_engine, by_hand=True)
    assert outcome.submitted == ()
    assert "no verified backup yet" in outcome.reason
    assert with_engine.store.raw_files.get("x.raw").status is Status.MONITORING_DONE


def test_jobs_that_are_open_are_not_submitted_again(with_engine, engine):
    backed_up(with_engine, "bruker1", "x.d")
    submitted(with_engine, "x.d")
    outcome = submitted(with_engine, "x.d", by_hand=True)
    assert (outcome.submitted, outcome.reason) == (
        (),
        "its jobs are open already; `kraken show` lists them",
    )
    assert len(engine.started) == 1


def test_a_sensors_stale_request_on_a_final_file_does_nothing(services):
    backed_up(services, "thermo1", "x.raw")
    submitted(services)
    before = services.store.raw_files.get("x.raw")
    assert before.status is Status.DONE_NOT_QUANTED
    assert submitted(services).reason == "nothing is due: the file is done_not_quanted"
    assert services.store.raw_files.get("x.raw").history == before.history


def test_one_job_is_submitted_for_each_settings_that_apply(with_engine, engine):
    custom_settings(with_engine, "one")
    custom_settings(with_engine, "two", software_type="msqc")
    backed_up(with_engine, "thermo1", "x.raw")
    outcome = submitted(with_engine)
    assert [item.settings_name for item in outcome.submitted] == ["one", "two"]
    assert [item.id for item in outcome.submitted] == engine.started
    assert with_engine.store.raw_files.get("x.raw").status is Status.QUANTING


def test_settings_that_were_unassigned_after_the_decision_are_still_used(with_engine, engine):
    custom_settings(with_engine, "s", config_params="--as-decided")
    backed_up(with_engine, "thermo1", "x.raw")
    assert "every slot" in submitted(with_engine, slots=0).reason
    unassign(with_engine, "s")

    (found,) = submitted(with_engine).submitted
    assert found.command[1:] == ["--as-decided"]


HOSTILE_PARAMS = (
    "--plain 'a b' \"c d\" $(touch pwned) ;rm `id` '' --raw=RAW_FILE_PATH --id RAW_FILE_ID "
    "--threads NUM_THREADS 'quoted RAW_FILE_ID' \\* ~ %s {0}"
)


def test_hostile_parameters_arrive_as_the_arguments_that_they_are(services):
    script = 'for each in "$@"; do printf "%s\\n" "$each"; done > "$OUTPUT_PATH/arguments"'
    custom_settings(services, "s", script, config_params=HOSTILE_PARAMS, num_threads=3)
    name = "x_NUM_THREADS.raw"
    backed_up(services, "thermo1", name)
    (found,) = submitted(services, name).submitted
    wait_for_jobs(services)
    output = Path(found.output_path)
    arguments = (output / "arguments").read_text().splitlines()
    path = Path(arguments[8].removeprefix("--raw="))  # in the job's working folder
    assert (path.name, path.is_relative_to(services.config.locations.backup.path)) == (name, False)
    assert arguments == [
        *("--plain", "a b", "c d", "$(touch", "pwned)", ";rm", "`id`", "", f"--raw={path}"),
        *("--id", name, "--threads", "3", f"quoted {name}", "*", "~", "%s", "{0}"),
    ]
    assert {item.name for item in output.iterdir()} - MARKS == {"arguments"}


@pytest.mark.parametrize(
    ("fields", "error", "reported"),
    [
        ({"config_params": "--open 'quote"}, SettingsRefused, "balanced quotes"),
        ({"software": "../../bin/sh"}, UnsafePath, "lead out of its folder"),
        ({"software_type": "other"}, SettingsRefused, "make a new version of the settings"),
        ({"software_type": "alphadia", "software": "-n"}, SettingsRefused, "conda environment"),
    ],
)
def test_settings_that_can_not_be_run_are_told(with_engine, engine, fields, error, reported):
    custom_settings(with_engine, "s", **fields)
    backed_up(with_engine, "thermo1", "x.raw")
    with pytest.raises(error, match=reported):
        submitted(with_engine)
    raw_file = with_engine.store.raw_files.get("x.raw")
    assert raw_file.status is Status.ERROR
    assert reported in raw_file.status_details
    assert engine.started == []
