"""Quality control in a real database: verdicts that stay, and what people say of runs."""

import json
from datetime import datetime, timedelta

import click.testing
import numpy as np
import pytest

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.quality import Outcome, Verdict
from kraken_dagster.operations.instruments.rename import rename
from kraken_dagster.quality.evaluate import evaluate, judge_due, newest_of_each_class
from kraken_dagster.quality.runs import qc_runs
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import Store, connect
from kraken_dagster_tests.metrics.test_mzqc import valid
from kraken_dagster_tests.quality.laboratory import BEGAN, EVERY, event, good_metrics
from kraken_dagster_tests.support.helpers import job, record, write_config

QC = {
    "classes": {"hela": {"pattern": "hela"}, "blank": {"pattern": "blank", "metrics": {}}},
    "metrics": {
        "proteins": {"side": "low"},
        "ms1_signal": {"log": True},
        "precursor.charge_mean": {},
    },
}


class Recorded:
    """Runs with results in the database, each a settings' version."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.chance = np.random.default_rng(8)

    def add(self, number: int, name: str | None = None, *, version: int = 1, **metrics) -> str:
        name = name or f"x_hela_{number:03}.raw"
        made_at = BEGAN + number * EVERY
        fields = {"created_at": made_at, "created_at_": made_at, "updated_at_": made_at}
        self.store.raw_files.register(record(name, **fields), reason="test")
        self.result(name, number, version=version, **metrics)
        return name

    def result(self, name: str, number: int, *, version: int = 1, **metrics) -> None:
        good = good_metrics(self.chance)
        found = {
            "proteins": good["proteins"],
            "ms1_signal": good["ms1_signal"],
            "precursor:charge_mean": self.chance.normal(2.5, 0.05),
            "gradient_length": 21.0,
            **metrics,
        }
        done = job(f"{name}-{version}", raw_file=name, settings_version=version)
        now = BEGAN + number * EVERY + timedelta(hours=1)
        self.store.metrics.add(done, found, provenance={}, now=now)


@pytest.fixture
def path(tmp_path, mongodb_uri):
    return write_config(tmp_path, mongodb_uri, qc=QC)


@pytest.fixture
def store(mongodb_uri):
    store = connect(mongodb_uri)
    store.prepare()
    yield store
    store.close()


@pytest.fixture
def recorded(store) -> Recorded:
    return Recorded(store)


@pytest.fixture
def services(path, store) -> Services:
    return Services(config=load_config(path, environment={}), store=store, engines={})


@pytest.fixture
def kraken(path):
    def run(*arguments: str, exit_code: int = 0) -> str:
        result = click.testing.CliRunner().invoke(main, ["--config", str(path), *arguments])
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


def newest(services: Services) -> Verdict:
    (found,) = newest_of_each_class(services.store.quality.newest("thermo1", limit=30))
    return found


def test_runs_are_judged_once_and_by_what_is_recorded(services, recorded):
    for number in range(8):
        recorded.add(number)
    recorded.add(8, "sample.raw", proteins=1.0)
    first = judge_due(services, "thermo1", by="run 1")
    assert [item.verdict.outcome for item in first] == [Outcome.NOT_JUDGED] * 5 + [
        Outcome.IN_CONTROL
    ] * 3
    assert judge_due(services, "thermo1", by="run 2") == []
    recorded.add(9, proteins=100.0)
    (bad,) = judge_due(services, "thermo1", by="run 3")
    assert newest(services) == bad.verdict
    assert bad.verdict.outcome is Outcome.OUT_OF_CONTROL
    assert bad.verdict.last_good == "x_hela_007.raw"
    assert {item.name for item in bad.verdict.metrics} == {
        "proteins",
        "ms1_signal",
        "precursor:charge_mean",
    }


def test_of_two_that_judge_the_same_run_one_records_it(services, recorded):
    recorded.add(0)
    (one,) = judge_due(services, "thermo1", by="one")
    assert not services.store.quality.record(one.verdict.model_copy(update={"by": "another"}))
    (kept,) = services.store.quality.verdicts_of("x_hela_000.raw")
    assert kept == one.verdict


def test_a_run_that_is_judged_anew_keeps_its_old_verdict(services, recorded):
    for number in range(10):
        recorded.add(number)
    recorded.add(10, proteins=5_000.0)
    judge_due(services, "thermo1", by="run")
    assert newest(services).outcome is Outcome.OUT_OF_CONTROL
    assert evaluate(services, "thermo1", by="anna") == []
    services.store.quality.annotate(event(10, instrument_id="thermo1", text="new method"))
    assert judge_due(services, "thermo1", by="run") == []
    changed = evaluate(services, "thermo1", by="anna")
    assert [item.verdict.raw_file for item in changed] == ["x_hela_010.raw"]
    before, after = services.store.quality.verdicts_of("x_hela_010.raw")
    assert (before.outcome, before.revision) == (Outcome.OUT_OF_CONTROL, 1)
    assert (after.outcome, after.revision, after.by) == (Outcome.NOT_JUDGED, 2, "anna")
    assert newest(services) == after


def test_an_automatic_guide_set_is_recorded_and_used(services, recorded):
    services.store.quality.annotate(event(instrument_id="thermo1"))
    for number in range(22):
        recorded.add(number)
        judge_due(services, "thermo1", by="run")
    (guide_set,) = services.store.quality.guide_sets("thermo1")
    assert len(guide_set.runs) == 20
    verdicts = services.store.quality.newest("thermo1", limit=30)
    assert [item.guide_set for item in verdicts[:3]] == [guide_set.id] * 3
    assert verdicts[3].guide_set is None
    assert evaluate(services, "thermo1", by="anna", sample_class="blank") == []


def test_an_instrument_whose_clock_is_ahead_has_no_newest_run_for_ever(services, recorded):
    made_at = BEGAN + 400 * EVERY
    seen = {"created_at_": BEGAN, "updated_at_": BEGAN}
    wrong = record("early_hela.raw", created_at=made_at, **seen)
    services.store.raw_files.register(wrong, reason="test")
    recorded.result("early_hela.raw", 0)
    recorded.add(1)
    judge_due(services, "thermo1", by="run")
    assert newest(services).raw_file == "x_hela_001.raw"


def test_two_versions_of_settings_never_meet(services, recorded):
    for number in range(12):
        name = recorded.add(number)
        recorded.result(name, number, version=2, proteins=9_000.0 + number)
    judge_due(services, "thermo1", by="run")
    runs = qc_runs(services, "thermo1")
    assert len(runs) == 24
    assert {item.gradient_min for item in runs} == {21.0}
    centres = {
        item.series.settings_version: round(item.metrics[0].centre, -3)
        for item in services.store.quality.latest(["x_hela_011.raw"]).values()
    }
    assert centres == {1: 6_000, 2: 9_000}


def test_a_renamed_instrument_keeps_its_verdicts(services, recorded):
    recorded.add(0)
    judge_due(services, "thermo1", by="run")
    services.store.quality.annotate(event(instrument_id="thermo1"))
    elsewhere = services.config.model_copy(update={"instruments": {}})
    rename(
        Services(config=elsewhere, store=services.store, engines={}), "thermo1", "thermo9", by="me"
    )
    assert [item.raw_file for item in services.store.quality.newest("thermo9", limit=3)] == [
        "x_hela_000.raw"
    ]
    assert len(services.store.quality.annotations("thermo9")) == 1


def test_the_command_tells_verdicts_and_why(kraken, services, recorded):
    for number in range(9):
        recorded.add(number)
    recorded.add(9, proteins=100.0)
    judge_due(services, "thermo1", by="run")
    rows = json.loads(kraken("quality", "verdicts", "--limit", "2", "--json", exit_code=1))
    assert [item["verdict"] for item in rows] == ["out_of_control", "in_control"]
    assert "98 % below the mean" in kraken("quality", "verdicts", exit_code=1)
    shown = kraken("quality", "show", "x_hela_009.raw")
    assert "compared with the last 9 good runs" in shown
    assert "levey_jennings" in shown
    assert "quality         out_of_control (hela, s:1): proteins" in kraken(
        "show", "x_hela_009.raw"
    )
    kraken("quality", "show", "nothing.raw", exit_code=1)
    (verdict,) = json.loads(kraken("quality", "show", "x_hela_009.raw", "--json"))
    assert verdict["metrics"][0]["n"] == 9
    kraken("quality", "verdicts", "--instrument", "other", exit_code=2)


def test_the_command_excludes_annotates_and_takes_back(kraken, services, recorded):
    for number in range(9):
        recorded.add(number)
    recorded.add(9, proteins=100.0)
    judge_due(services, "thermo1", by="run")
    reported = kraken("quality", "exclude", "x_hela_009.raw", "--why", "empty vial")
    assert "excluded already" in kraken("quality", "exclude", "x_hela_009.raw", "--why", "x")
    assert "out_of_control -> not_judged" in kraken("quality", "evaluate")
    assert "excluded by" in kraken("quality", "verdicts")
    kraken("quality", "withdraw", reported.split()[1].rstrip(":"))
    kraken("quality", "evaluate", "--instrument", "thermo1")
    kraken("quality", "verdicts", exit_code=1)
    kraken("quality", "withdraw", "nothing", exit_code=1)
    at = ("--at", "2026-01-02 12:00")
    kraken("quality", "annotate", "thermo1", "column", "new one", *at, "--new-guide-set")
    kraken(
        "quality", "annotate", "thermo1", "other", "x", *at, "--until", "2026-01-01", exit_code=1
    )
    (annotation,) = json.loads(kraken("quality", "annotations", "--json"))
    assert annotation["new_guide_set"] is True
    assert (
        datetime.fromisoformat(annotation["begins_at"]).isoformat() == "2026-01-02T12:00:00+00:00"
    )
    kraken("quality", "evaluate")
    assert "only 0 good runs" in kraken("quality", "verdicts")


def test_the_command_makes_a_guide_set_of_runs(kraken, services, recorded):
    names = [recorded.add(number) for number in range(10)]
    names.append(recorded.add(10, proteins=100.0))
    judge_due(services, "thermo1", by="run")
    reported = kraken("quality", "guide-set", "add", *names, "--why", "looked good")
    assert "11 runs of hela on thermo1, s:1" in reported
    assert "looks like an outlier: proteins of x_hela_010.raw" in reported
    (row,) = json.loads(kraken("quality", "guide-set", "list", "--json"))
    assert (row["why"], len(row["runs"])) == ("looked good", 11)
    assert "looked good" in kraken("quality", "guide-set", "list")
    few = kraken("quality", "guide-set", "add", *names[:3], "--why", "x", exit_code=1)
    assert "at least 5" in few
    sample = recorded.add(11, "sample.raw")
    kraken("quality", "guide-set", "add", sample, *names, "--why", "x", exit_code=1)
    recorded.result(names[0], 0, version=2)
    unclear = kraken("quality", "guide-set", "add", *names, "--why", "x", exit_code=1)
    assert "--settings" in unclear
    kraken("quality", "guide-set", "add", *names, "--why", "x", "--settings", "s:1")


def test_the_command_writes_mzqc_of_a_run_and_of_a_series(kraken, services, recorded):
    for number in range(9):
        recorded.add(number)
    recorded.add(9, proteins=100.0)
    judge_due(services, "thermo1", by="run")
    document = json.loads(kraken("show", "x_hela_009.raw", "--mzqc"))
    valid(document)
    (run,) = document["mzQC"]["runQualities"]
    assert run["metadata"]["cvParameters"][0]["value"] == "out_of_control"
    assert {"MS:1003327", "MS:4000053"} <= {item["accession"] for item in run["qualityMetrics"]}
    document = json.loads(kraken("quality", "export", "--class", "hela", "--limit", "3"))
    valid(document)
    (one,) = document["mzQC"]["setQualities"]
    verdicts, limits = (item["value"] for item in one["qualityMetrics"])
    assert verdicts["verdict"] == ["out_of_control", "in_control", "in_control"]
    assert limits["runs"] == [9, 9, 9]
    assert limits["upper"][limits["metric"].index("proteins")] is None
    kraken("quality", "export", "--class", "blank", exit_code=1)
    recorded.add(10, "sample.raw", proteins=None)
    services.store.raw_files.register(record("nothing.raw"), reason="test")
    kraken("show", "nothing.raw", "--mzqc", exit_code=1)


def test_verdicts_of_a_class_that_went_out_of_use_are_still_shown(kraken, services, recorded):
    recorded.add(0)
    judge_due(services, "thermo1", by="run")
    change = {"series": newest(services).series.model_copy(update={"sample_class": "old"})}
    services.store.quality.record(
        newest(services).model_copy(update={**change, "raw_file": "y_hela_000.raw"})
    )
    assert "y_hela_000.raw" in kraken("quality", "verdicts", "--class", "old")
