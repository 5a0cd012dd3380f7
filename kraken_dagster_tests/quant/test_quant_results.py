"""The step `quant_result` and what a person asks for again: failures, existing results, retries."""

from pathlib import Path

import pytest

from kraken_dagster.acquisition.watch import due_for_backup
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.engines.job_script import MARKS
from kraken_dagster.model.errors import OutputExists
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.collect import collect, results_of
from kraken_dagster.quant.jobs.poll import poll
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import (
    backed_up,
    each,
    tick,
    tick_until_idle,
    wait_for_jobs,
)

WRITES = 'echo result > "$OUTPUT_PATH/result.txt"'
FAILS_ONCE = f"""
if [ -e "$SETTINGS_PATH.failed" ]; then {WRITES}; exit 0; fi
mkdir -p "$(dirname "$SETTINGS_PATH")" && touch "$SETTINGS_PATH.failed"
echo first > "$OUTPUT_PATH/first.txt"
echo 'out of luck'
exit 3
"""


@pytest.fixture
def raw_file(services):
    return backed_up(services, "thermo1", "x.raw")


def stored(services):
    return services.store.raw_files.get("x.raw")


def output(services) -> Path:
    root = services.config.locations.output.path
    return root / f"_FALLBACK/{stored(services).year_month}/out_x.raw/custom"


def asked_again(services, mode: OutputExistsMode = OutputExistsMode.RAISE) -> None:
    submit_jobs(services, "x.raw", run_id="by hand", slots=each(2), output_exists_mode=mode)
    tick_until_idle(services)


def test_a_job_that_fails_ends_the_file_with_its_exit_code_and_last_words(services, raw_file):
    custom_settings(services, "s", "echo one; echo 'last words'; exit 3")
    tick_until_idle(services)
    assert stored(services).status is Status.QUANTING_FAILED
    assert stored(services).status_details == (
        "error while processing: [s] failed with exit code 3; its log ends with 'last words'"
    )
    (found,) = services.store.jobs.of("x.raw")
    assert (found.exit_code, found.log_tail) == (3, "one\nlast words")
    assert services.store.metrics.of("x.raw") == []


def test_a_job_without_its_result_table_has_failed_and_the_table_is_named(services, raw_file):
    custom_settings(services, "s", WRITES, metrics_type="msqc")
    tick_until_idle(services)
    assert stored(services).status is Status.QUANTING_FAILED
    assert "[s] A result file is missing: msqc_results.tsv" in stored(services).status_details


def test_metrics_that_nobody_reads_are_a_failure_that_says_so(services, raw_file):
    custom_settings(services, "s", WRITES, metrics_type="unheard-of")
    tick_until_idle(services)
    assert "'unheard-of'" in stored(services).status_details


def test_of_two_jobs_the_one_that_failed_is_named_and_the_others_metrics_stay(services, raw_file):
    custom_settings(services, "good", WRITES)
    custom_settings(services, "bad", "exit 1", software_type="msqc", software="bad")
    tick_until_idle(services)
    assert stored(services).status is Status.QUANTING_FAILED
    assert (
        "[bad] failed" in stored(services).status_details
        or "bad" in stored(services).status_details
    )
    assert "[good]" not in stored(services).status_details
    assert [item["settings_name"] for item in services.store.metrics.of("x.raw")] == ["good"]


def test_nothing_is_collected_while_a_job_runs(services, raw_file, tmp_path):
    gate = tmp_path / "gate"
    custom_settings(services, "s", f"while [ ! -e '{gate}' ]; do sleep 0.05; done")
    tick(services)
    try:
        results, missing = results_of(services, "x.raw")
        assert results == []
        assert "is running" in missing
        assert poll(services, slots={"local": 2}).to_collect == ()
        assert "is running" in collect(services, "x.raw", run_id="c").reason
        assert stored(services).status is Status.QUANTING
    finally:
        gate.touch()
        wait_for_jobs(services)
    tick_until_idle(services)
    assert stored(services).status is Status.DONE


def test_a_result_that_is_there_is_not_touched_and_waits_for_a_person(services, raw_file):
    custom_settings(services, "s", WRITES)
    output(services).mkdir(parents=True)
    (output(services) / "earlier.txt").write_text("somebody's")
    with pytest.raises(OutputExists):
        submit_jobs(services, "x.raw", run_id="q", slots=each(2), by_hand=False)
    assert (stored(services).status, stored(services).retry_at) == (Status.ERROR, None)
    assert "`kraken retry ID --output-exists-mode add`" in stored(services).status_details
    assert [item.name for item in output(services).iterdir()] == ["earlier.txt"]
    services.now.forward(days=30)
    assert due_for_backup(services.store, "thermo1", services.now()) == []


def test_an_empty_output_folder_is_no_result(services, raw_file):
    custom_settings(services, "s", WRITES)
    output(services).mkdir(parents=True)
    tick_until_idle(services)
    assert stored(services).status is Status.DONE


def test_overwrite_moves_the_old_result_aside(services, raw_file):
    custom_settings(services, "s", WRITES)
    tick_until_idle(services)
    (output(services) / "result.txt").write_text("the old one")
    asked_again(services, OutputExistsMode.OVERWRITE)
    assert stored(services).status is Status.DONE
    assert (output(services) / "result.txt").read_text() == "result\n"
    aside = output(services).with_name("custom.1.alphakraken.bkp")
    assert (aside / "result.txt").read_text() == "the old one"
    assert len(services.store.metrics.of("x.raw")) == 2


def test_add_puts_every_further_result_beside_the_first(services, raw_file):
    custom_settings(services, "s", WRITES)
    tick_until_idle(services)
    for _ in range(2):
        asked_again(services, OutputExistsMode.ADD)
    found = sorted(item.name for item in output(services).parent.iterdir())
    assert found == ["custom", "custom.run2", "custom.run3"]
    paths = [item["output_path"].rpartition("/")[2] for item in services.store.metrics.of("x.raw")]
    assert paths == ["custom.run3", "custom.run2", "custom"]
    assert [item.attempt for item in services.store.jobs.of("x.raw")] == [1, 2, 3]


def test_a_file_that_was_refused_goes_on_once_its_mode_is_set(services, raw_file):
    custom_settings(services, "s", WRITES)
    tick_until_idle(services)
    with pytest.raises(OutputExists):
        asked_again(services)
    asked_again(services, OutputExistsMode.ADD)
    assert stored(services).status is Status.DONE
    assert len(services.store.metrics.of("x.raw")) == 2


def test_a_failed_file_that_is_tried_again_completes_and_both_results_are_kept(services, raw_file):
    custom_settings(services, "s", FAILS_ONCE)
    tick_until_idle(services)
    assert "out of luck" in stored(services).status_details
    _, what_follows = retry(services, "x.raw", asked_by="a person")
    assert what_follows == "cluster_jobs submits its jobs at its next tick"
    tick_until_idle(services)
    assert stored(services).status is Status.DONE
    assert (output(services) / "result.txt").is_file()
    aside = output(services).with_name("custom.1.alphakraken.bkp")
    assert {item.name for item in aside.iterdir()} - MARKS == {"first.txt"}
    first, second = services.store.jobs.of("x.raw")
    assert first.id != second.id
    assert (first.failure is not None, second.failure) == (True, None)
    assert "asked for again by a person" in [
        event["reason"]
        for event in stored(services).history
        if event["to"] == "queued_for_quanting"
    ]


def test_a_job_that_fails_again_and_again_keeps_every_result(services, raw_file):
    custom_settings(services, "s", 'echo x > "$OUTPUT_PATH/x"; exit 1')
    tick_until_idle(services)
    for _ in range(2):
        retry(services, "x.raw", asked_by="a person")
        tick_until_idle(services)
    assert stored(services).status is Status.QUANTING_FAILED
    assert sorted(item.name for item in output(services).parent.iterdir()) == [
        "custom",
        "custom.1.alphakraken.bkp",
        "custom.2.alphakraken.bkp",
    ]


def test_a_file_without_jobs_has_no_results(services, raw_file):
    assert results_of(services, "x.raw") == ([], "no job was submitted for this file yet")
    assert collect(services, "x.raw", run_id="c").reason == "no jobs"


def test_results_can_be_read_again_after_the_file_has_ended(services, raw_file):
    custom_settings(services, "s", WRITES)
    tick_until_idle(services)
    before = stored(services)
    outcome = collect(services, "x.raw", run_id="by hand")
    assert outcome.reason == "the file is done"
    assert stored(services).history == before.history
    assert len(services.store.metrics.of("x.raw")) == 1
    (result,), missing = results_of(services, "x.raw")
    assert (result.files, missing) == (1, "")
