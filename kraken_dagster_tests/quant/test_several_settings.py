"""Several settings on one file: side by side, each with an end of its own, the failed one again."""

from dataclasses import replace

import pytest

from kraken_dagster.config.engines import LocalEngine
from kraken_dagster.model.errors import InputMissing, OutputExists
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import BackupStatus, Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.store.quant.metrics import current_results
from kraken_dagster_tests.support.fakes import MemoryEngine, custom_settings
from kraken_dagster_tests.support.helpers import (
    NOW,
    backed_up,
    each,
    job,
    md5sum,
    record,
    tick,
    tick_until_idle,
    unassign,
    wait_for_jobs,
    wait_until,
)

WRITES = 'echo result > "$OUTPUT_PATH/result.txt"'
TABLE = 'printf "ms1_scans\\n7\\n" > "$OUTPUT_PATH/msqc_results.tsv"'


def stored(services):
    return services.store.raw_files.get("x.raw")


def jobs(services) -> list[tuple[str, int, str]]:
    """Settings, attempt and state of every job there ever was."""
    found = services.store.jobs.of("x.raw")
    return sorted((item.settings_name, item.attempt, item.state.value) for item in found)


@pytest.fixture
def one_of_three_fails(services):
    """A file with three settings, of which `qc` fails until its program is mended."""
    custom_settings(services, "search", WRITES)
    custom_settings(services, "qc", "exit 3", software_type="msqc", metrics_type="msqc")
    custom_settings(services, "irt", WRITES, software_type="skyline")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    return services


def test_of_three_settings_the_failed_one_is_told_and_the_others_results_are_kept(
    one_of_three_fails,
):
    assert stored(one_of_three_fails).status is Status.QUANTING_FAILED
    assert stored(one_of_three_fails).status_details == (
        "error while processing: [qc] failed with exit code 3"
    )
    kept = {item["settings_name"] for item in one_of_three_fails.store.metrics.of("x.raw")}
    assert kept == {"search", "irt"}


def test_a_retry_does_only_what_failed_once_more(one_of_three_fails):
    services = one_of_three_fails
    program = services.config.locations.software.path / "qc"
    program.write_text(f"#!/bin/sh\n{TABLE}\n")
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert jobs(services) == [
        ("irt", 1, "succeeded"),
        ("qc", 1, "failed"),
        ("qc", 2, "succeeded"),
        ("search", 1, "succeeded"),
    ]
    results = {item["settings_name"]: item for item in services.store.metrics.of("x.raw")}
    assert sorted(results) == ["irt", "qc", "search"]
    assert results["qc"]["ms1_scans"] == 7


def test_a_person_who_asks_in_dagit_gets_only_what_failed_once_more(one_of_three_fails):
    services = one_of_three_fails
    outcome = submit_jobs(services, "x.raw", run_id="by hand", slots=each(9))
    assert {(item.settings_name, item.attempt) for item in outcome.submitted} == {
        ("search", 1),
        ("qc", 2),
        ("irt", 1),
    }
    tick_until_idle(services)
    assert [item for item in jobs(services) if item[1] == 2] == [("qc", 2, "failed")]


def test_a_new_version_of_what_failed_takes_its_place_and_the_others_stay(one_of_three_fails):
    services = one_of_three_fails
    unassign(services, "qc")
    custom_settings(services, "qc", TABLE, software_type="msqc", metrics_type="msqc", version=2)
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert [item for item in jobs(services) if item[1] == 2] == [("qc", 2, "succeeded")]
    versions = {(item.settings_name, item.settings_version) for item in latest(services)}
    assert versions == {("search", 1), ("qc", 2), ("irt", 1)}


def latest(services):
    from kraken_dagster.quant.jobs.attempts import latest_jobs

    return latest_jobs(services, stored(services))


def test_a_file_whose_failed_settings_are_not_wanted_any_more_is_done(one_of_three_fails):
    services = one_of_three_fails
    unassign(services, "qc")
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert len(jobs(services)) == 3


def test_a_backup_that_is_made_anew_costs_no_second_processing(services):
    custom_settings(services, "search", WRITES)
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    services.store.raw_files.transition(
        stored(services),
        Status.ERROR,
        now=services.now(),
        reason="the backup was found damaged",
        fields={"backup_status": BackupStatus.COPYING_FAILED, "retry_at": services.now()},
    )
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert jobs(services) == [("search", 1, "succeeded")]


def test_what_became_of_each_is_told_while_others_run(services, tmp_path):
    gate = tmp_path / "gate"
    custom_settings(services, "quick", WRITES)
    slow = f"until [ -e '{gate}' ]; do sleep 0.05; done"
    custom_settings(services, "slow", slow, software_type="skyline")
    custom_settings(services, "bad", "exit 4", software_type="msqc")
    backed_up(services, "thermo1", "x.raw")
    tick(services, slots=9)
    try:
        expected = "[quick] succeeded; [bad] failed with exit code 4; [slow] running"

        def reported() -> bool:
            tick(services, slots=9)
            return stored(services).status_details == expected

        wait_until(reported, expected)
        assert stored(services).status is Status.QUANTING
        assert [item["settings_name"] for item in services.store.metrics.of("x.raw")] == ["quick"]
    finally:
        gate.touch()
        wait_for_jobs(services)
    tick_until_idle(services)
    assert stored(services).status is Status.QUANTING_FAILED


def test_settings_that_are_refused_hold_up_no_other(services):
    custom_settings(services, "search", WRITES)
    custom_settings(services, "irt", WRITES, software_type="skyline")
    raw_file = backed_up(services, "thermo1", "x.raw")
    root = services.config.locations.output.path / f"_FALLBACK/{raw_file.year_month}/out_x.raw"
    (root / "custom").mkdir(parents=True)
    (root / "custom" / "somebody's").touch()
    with pytest.raises(OutputExists):
        submit_jobs(services, "x.raw", run_id="q", slots=each(9), by_hand=False)
    assert [name for name, *_ in jobs(services)] == ["irt"]
    tick_until_idle(services)
    assert (stored(services).status, stored(services).retry_at) == (Status.ERROR, None)
    assert [item["settings_name"] for item in services.store.metrics.of("x.raw")] == ["irt"]
    (root / "custom" / "somebody's").unlink()
    retry(services, "x.raw", asked_by="a person")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert jobs(services) == [("irt", 1, "succeeded"), ("search", 1, "succeeded")]


# -- engines --------------------------------------------------------------------------------------


@pytest.fixture
def two_engines(make_services, config):
    """The instrument's own engine, and `big`, which one of its two settings names."""
    engines = {"local": LocalEngine(type="local"), "big": LocalEngine(type="local")}
    services = make_services(config.model_copy(update={"engines": engines}))
    services = replace(services, engines={"local": MemoryEngine(), "big": MemoryEngine()})
    custom_settings(services, "small", WRITES)
    custom_settings(services, "large", WRITES, software_type="skyline", job_engine="big")
    backed_up(services, "thermo1", "x.raw")
    return services


def started(services) -> dict[str, int]:
    return {name: len(engine.started) for name, engine in services.engines.items()}


def test_a_job_runs_on_the_engine_that_its_settings_name(two_engines):
    tick(two_engines)
    assert started(two_engines) == {"local": 1, "big": 1}
    by_engine = {item.settings_name: item.engine for item in two_engines.store.jobs.of("x.raw")}
    assert by_engine == {"small": "local", "large": "big"}


def test_an_engine_without_a_free_slot_holds_up_no_other(two_engines):
    slots = {"local": 2, "big": 0}
    outcome = submit_jobs(two_engines, "x.raw", run_id="q", slots=slots, by_hand=False)
    assert started(two_engines) == {"local": 1, "big": 0}
    assert "every slot of the engine is taken" in outcome.reason
    assert poll(two_engines, slots=slots).to_submit == ()
    found = poll(two_engines, slots={"local": 1, "big": 1})
    assert [item.id for item in found.to_submit] == ["x.raw"]
    submit_jobs(two_engines, "x.raw", run_id="q2", slots={"local": 1, "big": 1}, by_hand=False)
    assert started(two_engines) == {"local": 1, "big": 1}
    assert stored(two_engines).status is Status.QUANTING


def test_settings_of_an_engine_that_is_none_of_ours_run_on_the_instruments_own(services):
    custom_settings(services, "s", WRITES, job_engine="slurm")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    assert [item.engine for item in services.store.jobs.of("x.raw")] == ["local"]
    assert stored(services).status is Status.DONE


def test_a_file_that_another_programs_jobs_process_is_queued_anew(services):
    custom_settings(services, "s", WRITES)
    raw_file = backed_up(services, "thermo1", "x.raw")
    services.store.raw_files.transition(
        services.store.raw_files.transition(
            raw_file, Status.QUEUED_FOR_QUANTING, now=services.now(), reason="by AlphaKraken"
        ),
        Status.QUANTING,
        now=services.now(),
        reason="by AlphaKraken",
    )
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert [item.state for item in services.store.jobs.of("x.raw")] == [JobState.SUCCEEDED]


# -- inputs and provenance ------------------------------------------------------------------------


def settings_file(services, name: str, text: str, *, settings: str = "s"):
    path = services.config.locations.settings.path / settings / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_result_tells_what_it_was_made_of(services):
    script = f"echo 'tool 1.2.3'; {TABLE}"
    custom_settings(
        services,
        "s",
        script,
        metrics_type="msqc",
        fasta_file_name="human.fasta",
        config_params="--lib SETTINGS_PATH/libs/x.speclib --out OUTPUT_PATH",
    )
    inputs = [
        settings_file(services, "human.fasta", ">sp|P1\nPEPTIDE\n"),
        settings_file(services, "libs/x.speclib", "library"),
    ]
    raw_file = backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    (result,) = services.store.metrics.of("x.raw")
    reported = result["provenance"]
    assert [(item["role"], item["path"], item["size"]) for item in reported["inputs"]] == [
        ("fasta", "human.fasta", 15),
        ("parameter", "libs/x.speclib", 7),
    ]
    assert [item["md5"] for item in reported["inputs"]] == [md5sum(path) for path in inputs]
    assert {item["changed"] for item in reported["inputs"]} == {False}
    (job,) = services.store.jobs.of("x.raw")
    assert reported["settings"] == {
        "name": "s",
        "version": 1,
        "digest": services.store.catalog.settings("s", 1).digest,
    }
    assert (reported["software"], reported["software_version"]) == ("s", "1.2.3")
    assert reported["command"] == job.command
    assert reported["raw_file"] == [
        {"path": "x.raw", "size": raw_file.size, "md5": raw_file.file_info["x.raw"].md5}
    ]
    assert (reported["job"], reported["engine"], reported["attempt"]) == (job.id, "local", 1)
    assert reported["submitted_at"] <= reported["ended_at"]


def test_an_input_that_is_missing_is_told_before_anything_is_submitted(services):
    custom_settings(services, "s", WRITES, speclib_file_name="x.speclib")
    backed_up(services, "thermo1", "x.raw")
    with pytest.raises(InputMissing, match="The library that the settings name"):
        submit_jobs(services, "x.raw", run_id="q", slots=each(9), by_hand=False)
    assert services.store.jobs.of("x.raw") == []
    assert "No such file" in stored(services).status_details
    settings_file(services, "x.speclib", "library")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE


def test_an_input_that_changes_while_the_job_runs_is_marked(services):
    path = settings_file(services, "x.speclib", "library")
    before = md5sum(path)
    custom_settings(services, "s", f"echo more >> '{path}'", speclib_file_name="x.speclib")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    (result,) = services.store.metrics.of("x.raw")
    (reported,) = result["provenance"]["inputs"]
    assert (reported["changed"], reported["md5"]) == (True, before)


def test_an_input_is_read_again_only_when_it_has_changed(services):
    path = settings_file(services, "x.speclib", "library")
    custom_settings(services, "s", WRITES, speclib_file_name="x.speclib")

    def digest_of(name: str) -> str:
        backed_up(services, "thermo1", name)
        submit_jobs(services, name, run_id="q", slots=each(9), by_hand=False)
        (job,) = services.store.jobs.of(name)
        (item,) = job.inputs
        return item.md5

    first = digest_of("a.raw")
    known = services.store.inputs.get(str(path))
    assert known.md5 == first
    # What MongoDB says of the unchanged file is believed: only so is it seen not to be read.
    services.store.inputs.put(str(path), known.model_copy(update={"md5": "believed"}), now=NOW)
    assert digest_of("b.raw") == "believed"
    path.write_text("another library")
    assert digest_of("c.raw") not in (first, "believed")
    wait_for_jobs(services)


def test_a_file_that_was_computing_msqc_goes_on(services):
    custom_settings(services, "s", WRITES)
    raw_file = backed_up(services, "thermo1", "x.raw")
    old = record(
        "y.raw",
        status=Status.COMPUTING_MSQC,
        backup_status=BackupStatus.COPYING_DONE,
        size=raw_file.size,
    )
    services.store.raw_files.register(old, reason="by AlphaKraken")
    tick_until_idle(services)
    assert services.store.raw_files.get("y.raw").status is Status.DONE


def test_metrics_that_can_be_had_are_kept_beside_the_problem(services):
    script = """
printf 'run\\tproteins\\tprecursors\\nr\\t7000\\t80000\\n' > "$OUTPUT_PATH/stat.tsv"
printf 'run\\tduration_optimization\\nr\\t1.5\\n' > "$OUTPUT_PATH/internal.tsv"
"""
    custom_settings(services, "s", script, metrics_type="alphadia")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    assert stored(services).status is Status.QUANTING_FAILED
    assert "precursors.parquet" in stored(services).status_details
    (result,) = services.store.metrics.of("x.raw")
    assert (result["proteins"], result["duration_optimization"]) == (7000, 1.5)
    assert "precursors.parquet" in result["provenance"]["problem"]


def test_a_result_says_over_which_rows_its_metrics_were_made(services):
    script = """
printf 'run\\tproteins\\tprecursors\\nr\\t3\\t2\\n' > "$OUTPUT_PATH/stat.tsv"
printf 'charge\\tsequence\\tdecoy\\n2\\tAAK\\t0\\n9\\tAAK\\t1\\n' > "$OUTPUT_PATH/precursors.tsv"
"""
    custom_settings(services, "s", script, metrics_type="alphadia")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    (result,) = services.store.metrics.of("x.raw")
    assert result["precursor:charge_mean"] == 2
    rows, version = result["provenance"]["notes"]
    assert "rows with decoy = 0 (it has no column precursor.qval or qval)" in rows
    assert "AlphaDIA 1.7" in version


def result(name: str, minute: int, *, problem: str | None = None, version: int = 1) -> dict:
    return {
        "_id": minute,
        "settings_name": name,
        "settings_version": version,
        "provenance": {"problem": problem},
    }


def test_a_failed_rerun_hides_no_complete_result():
    newest_first = [
        result("s", 5, problem="cut off"),
        result("s", 4),
        result("s", 3),
        result("s", 2, version=2),
        result("t", 1, problem="cut off"),
        {"_id": 0, "proteins": 5000},  # as older programs wrote it
    ]
    assert [item["_id"] for item in current_results(newest_first)] == [4, 2, 1, 0]


def test_a_result_that_is_read_again_is_another_one_only_if_it_says_something_else(store):
    for metrics, problem in (
        ({"a": 1.0}, "cut"),
        ({"a": 1.0}, "cut"),
        ({"a": 1.0, "b": 2.0}, None),
    ):
        for _ in range(2):
            store.metrics.add(job(), metrics, provenance={"problem": problem}, now=NOW)
    found = store.metrics.of("x.raw")
    assert sorted(len(item.keys() & {"a", "b"}) for item in found) == [1, 2]


def test_a_sites_own_function_reads_the_results_of_a_job(
    make_services, config, monkeypatch, tmp_path
):
    (tmp_path / "our_metrics.py").write_text(
        "def read(folder):\n    return {'lines': len((folder / 'result.txt').read_text())}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    services = make_services(config.model_copy(update={"metrics": {"ours": "our_metrics:read"}}))
    custom_settings(services, "s", WRITES, metrics_type="ours")
    backed_up(services, "thermo1", "x.raw")
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    (found,) = services.store.metrics.of("x.raw")
    assert (found["lines"], found["type"]) == (7, "ours")
