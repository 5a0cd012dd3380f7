"""What a person sees in Dagit who asks for a done file again, ends a run in mid-copy, cancels a
backfill, makes a mistake in instruments.yaml, or gives an instrument another id."""

# ruff: noqa: F811 fixtures of another module

import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterRunStatus
from playwright.sync_api import Browser, Page, Response, expect

from kraken_dagster.config.dagit import Role
from kraken_dagster.model.raw_file import Status
from kraken_dagster_tests.dagit.dagit_queries import IN_KRAKEN, START_SENSOR
from kraken_dagster_tests.dagit.test_browser import (
    _backfills,
    _logged_in,
    _register,
    _shows,
    browser,  # noqa: F401 fixture
    started_browser,  # noqa: F401 fixture
)
from kraken_dagster_tests.support.helpers import database_uri, wait_until
from kraken_dagster_tests.support.laboratory import KRAKEN, PATIENCE_S, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.nightly,
    pytest.mark.timeout(1800),  # a guard against hanging; each wait has its own
    pytest.mark.xdist_group("browser"),
]
_STOP_SENSOR = """mutation($id: String!) { stopSensor(id: $id) { __typename } }"""
_SENSOR = """query($sensorSelector: SensorSelector!) {
  sensorOrError(sensorSelector: $sensorSelector) { ... on Sensor { sensorState { id } } } }"""
_RELOAD = "mutation ReloadRepositoryLocationMutation"
_RUNS = """{ runsOrError(limit: 100) { ... on Runs { results {
  runId assetSelection { path } } } } }"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[Lab]:
    """With all sensors on. One file is done."""
    home = tmp_path_factory.mktemp("browser_runs") / "lab"
    lab = Lab(home, uri=database_uri(server_uri, "browser_runs"))
    settings = yaml.safe_load(lab.config_path.read_text())
    settings["defaults"]["lease_s"] = 2 * PATIENCE_S  # so that a run may be held for so long
    settings["defaults"]["catchup_threads"] = 1  # so that of several files some are not begun
    settings["instruments"]["share1"].pop("copy_stall_s")  # a run that is held is no stall
    settings["instruments"]["bruker1"]["move_files"] = False  # a rename finds them in its folder
    lab.config_path.write_text(yaml.safe_dump(settings))
    dagster = yaml.safe_load((home / "dagster.yaml").read_text())
    dagster["run_monitoring"]["start_timeout_seconds"] = PATIENCE_S  # here nobody kills runs
    (home / "dagster.yaml").write_text(yaml.safe_dump(dagster))
    try:
        lab.up()
        lab.wait_for_dagit()
        lab.wait_until_done([lab.add_thermo("done.raw")])
        yield lab
    finally:
        if lab.process is not None and lab.process.poll() is None:
            lab.stop()


def _runs_of(lab: Lab, asset: str) -> set[str]:
    """The ids of the runs that are for this asset of `thermo1` alone."""
    found: list[Any] = lab.graphql(_RUNS)["runsOrError"]["results"]
    wanted = [{"path": ["thermo1", asset]}]
    return {item["runId"] for item in found if item["assetSelection"] == wanted}


def test_materialising_over_a_done_file_changes_nothing_and_says_so(
    lab: Lab, browser: Browser, tmp_path: Path
) -> None:
    dagit, page = f"http://127.0.0.1:{lab.port}", _logged_in(browser, lab, Role.OPERATOR)
    before = _runs_of(lab, "quant_job")
    _shows(page, f"{dagit}/assets/thermo1/quant_job?view=partitions", "done.raw")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name=re.compile("^Launch (run|backfill|1 run)$")).click()
    [run] = _until(lambda: _runs_of(lab, "quant_job") - before, "the run is there")
    _until(lambda: lab.run_status(run) is DagsterRunStatus.FAILURE, "the run has failed")
    _shows(page, f"{dagit}/runs/{run}", "Nothing was begun, and the file stays done")
    page.screenshot(path=tmp_path / "materialised_over_done.png")
    _shows(
        page, f"{dagit}/assets/thermo1/quant_job?view=partitions&partition=done.raw", "not begun"
    )
    page.screenshot(path=tmp_path / "partition_as_before.png")
    file = lab.file("done.raw")
    assert file is not None
    assert (file.status, file.status_details, file.lease) == (Status.DONE, None, None)
    assert "not done, and nothing has changed" in file.history[-1]["reason"]


def test_a_copy_that_is_terminated_is_explained_and_made_anew(
    lab: Lab, browser: Browser, tmp_path: Path
) -> None:
    dagit, page = f"http://127.0.0.1:{lab.port}", _logged_in(browser, lab, Role.OPERATOR)
    name = lab.add_thermo("big.raw", megabytes=300)
    pid, _ = lab.mid_copy(at_least_bytes=1_000_000)
    os.kill(pid, signal.SIGSTOP)  # as slow as a hand is
    try:
        run = lab.run_of(name)
        reloaded = _kraken(lab, "reload")  # it is another code server's then
        assert reloaded.returncode == 0, reloaded.stderr
        assert "is loaded: bruker1, share1, thermo1; runs at work go on" in reloaded.stdout
        page.goto(f"{dagit}/runs/{run}")
        page.get_by_role("button", name="Terminate").first.click()
        page.screenshot(path=tmp_path / "terminate.png")
        page.get_by_role("dialog").get_by_role("button", name=re.compile("^Terminate")).click()
        _until(lambda: lab.run_status(run) is DagsterRunStatus.CANCELING, "it is to end")
    finally:
        os.kill(pid, signal.SIGCONT)

    def reported() -> Any:
        file = lab.file(name)
        events = file.history if file else []
        return [item for item in events if "the run ended before" in str(item["reason"])]

    [event] = _until(reported, "the file's history says so")
    assert event["run_id"] == run
    assert event["at"].tzinfo is not None
    assert "its termination was asked for in Dagster" in event["reason"]
    assert "thermo1_watcher requests at its next tick" in event["reason"]
    _shows(page, f"{dagit}/runs/{run}", "1 of 1 file was stopped in its midst")
    expect(page.get_by_text("Canceled").first).to_be_visible()
    page.screenshot(path=tmp_path / "terminated.png")

    def copied() -> bool:
        file = lab.file(name)
        return file is not None and file.is_backed_up

    _until(copied, "the next run has copied it")


def test_a_backfill_that_is_cancelled_says_what_was_not_begun(
    lab: Lab, browser: Browser, tmp_path: Path
) -> None:
    dagit, page = f"http://127.0.0.1:{lab.port}", _logged_in(browser, lab, Role.OPERATOR)
    folder = lab.folders / "instruments" / "share1"
    lab.wait_until_done([lab.add_thermo("a_done.raw", folder=folder)])
    names = ["b_first.raw", "b_second.raw", "b_third.raw"]
    with _switched_off(lab, "share1_watcher"):
        for name in names:
            lab.add_thermo(name, megabytes=300, folder=folder)
        _register(lab, "share1", names)
        before = _backfills(lab)
        _shows(page, f"{dagit}/assets/share1/backup?view=partitions", *names)
        page.get_by_role("button", name="Materialize").first.click()
        page.get_by_role("button", name="All", exact=True).click()
        page.get_by_role("button", name="Launch backfill").click()
        pid, _ = lab.mid_copy(at_least_bytes=1_000_000)
        os.kill(pid, signal.SIGSTOP)  # as slow as a hand is
        try:
            [held] = [name for name in names if lab.status(name) is Status.COPYING]
            run, [backfill] = lab.run_of(held), _backfills(lab) - before
            _cancel_backfill(page, f"{dagit}/runs/b/{backfill}", tmp_path / "cancel_backfill.png")
            _until(lambda: lab.run_status(run) is DagsterRunStatus.CANCELING, "its run is told")
        finally:
            os.kill(pid, signal.SIGCONT)
        _until(lambda: lab.run_status(run) is DagsterRunStatus.CANCELED, "its run has ended")
        left = [name for name in names if name != held]
        counts = "1 of 4 files was stopped in its midst, 2 were not begun"
        each = [f"'{name}': not begun" for name in left]
        _shows(page, f"{dagit}/runs/{run}", counts, *each)
        page.screenshot(path=tmp_path / "cancelled_run.png")
        _shows(page, f"{dagit}/runs/b/{backfill}", "Canceled")
        page.screenshot(path=tmp_path / "cancelled_backfill.png")
        for name in left:
            file = lab.file(name)
            assert file is not None
            assert (file.status, file.lease) == (Status.MONITORING_DONE, None)
        assert lab.status("a_done.raw") is Status.DONE
    lab.wait_until_done(names)


def _cancel_backfill(page: Page, url: str, picture: Path) -> None:
    page.goto(url)
    # The menu's button has no text, only a picture.
    page.get_by_role("button", name="expand_more", exact=True).click()
    page.get_by_role("menuitem", name="Cancel backfill").click()
    page.screenshot(path=picture)
    page.get_by_role("dialog").get_by_role("button", name="Cancel backfill").click()


def test_a_mistake_in_the_configuration_is_told_where_it_is_reloaded(
    lab: Lab, browser: Browser, tmp_path: Path
) -> None:
    page = _logged_in(browser, lab, Role.OPERATOR)
    good = lab.config_path.read_text()
    lab.config_path.write_text(good.replace("type: bruker", "type: brucker"))
    try:
        _the_mistake_is_told(lab, page, tmp_path)
    finally:
        lab.config_path.write_text(f"# corrected\n{good}")

    def taken_up() -> bool:
        [known] = [item for one in lab.store.instances.all() for item in one.loaded]
        content = lab.config_path.read_bytes()
        return known.digest == hashlib.sha256(content).hexdigest()[:12] and known.problem is None

    _until(taken_up, "it is loaded by itself")


def _the_mistake_is_told(lab: Lab, page: Page, pictures: Path) -> None:
    dagit = f"http://127.0.0.1:{lab.port}"
    _reload(page, dagit)
    mistake = "key 'instruments.bruker1.type': Input should be 'thermo', 'bruker' or 'sciex'"
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(mistake)).to_be_visible()
    expect(dialog.get_by_text("What was loaded before goes on")).to_be_visible()
    page.screenshot(path=pictures / "mistake_dialog.png")
    _shows(page, f"{dagit}/locations", "Loaded")
    _shows(page, f"{dagit}/automation", "thermo1_watcher")
    page.screenshot(path=pictures / "mistake_automation.png")
    told = _kraken(lab, "status")
    assert told.returncode == 1
    assert "code_server knows the configuration that was written at" in told.stderr
    assert "sensors, runs and jobs go on" in told.stderr
    assert mistake in told.stderr
    lab.wait_until_done([lab.add_thermo("meanwhile.raw")])  # also its runs load the definitions


def test_a_renamed_instrument_is_not_scanned_until_a_person_says_so(
    lab: Lab, browser: Browser, tmp_path: Path
) -> None:
    dagit, page = f"http://127.0.0.1:{lab.port}", _logged_in(browser, lab, Role.OPERATOR)
    names, command = ["early_1.d", "early_2.d"], "kraken instrument rename bruker1 timstof1"
    lab.wait_until_done([lab.add_bruker(name) for name in names])
    settings = yaml.safe_load(lab.config_path.read_text())
    place = {"path": str(lab.folders / "instruments" / "bruker1")}
    settings["instruments"]["timstof1"] = settings["instruments"].pop("bruker1") | place
    lab.config_path.write_text(yaml.safe_dump(settings))
    _reload(page, dagit)
    _until(lambda: lab.health("timstof1").get("status") == "error", "its watcher has looked")
    lab.add_bruker("late.d")
    page.goto(f"{dagit}/locations/kraken/sensors/timstof1_watcher")
    ticks = page.get_by_role("row").filter(has_not_text="Evaluating")
    ticks.get_by_role("button", name="0 runs requested").first.click()
    expect(page.get_by_role("dialog").get_by_text(command)).to_be_visible()
    page.screenshot(path=tmp_path / "rename_asked_for.png")
    for words in (["status"], ["doctor"]):
        assert command in _kraken(lab, *words).stdout
    assert lab.store.bulk.ids("timstof1") == []

    _until(lambda: _renamed(lab), "no process serves it under its old id any more")
    lab.wait_until_done(["late.d"])
    assert lab.store.bulk.ids("bruker1") == []
    names.append("late.d")
    assert sorted(lab.store.bulk.ids("timstof1")) == names
    assert lab.health("timstof1")["status"] == "ok"
    _shows(page, f"{dagit}/assets/timstof1/backup?view=partitions", *names)
    page.screenshot(path=tmp_path / "renamed_partitions.png")
    backups = {name: len(list(lab.backup.rglob(name))) for name in names}
    assert backups == dict.fromkeys(names, 1)


@contextmanager
def _switched_off(lab: Lab, sensor: str) -> Iterator[None]:
    selector = {**IN_KRAKEN, "sensorName": sensor}
    state = lab.graphql(_SENSOR, sensorSelector=selector)["sensorOrError"]["sensorState"]
    lab.graphql(_STOP_SENSOR, id=state["id"])
    try:
        yield
    finally:
        lab.graphql(START_SENSOR, sensorSelector=selector)


def _until(condition: Callable[[], Any], what: str) -> Any:
    return wait_until(condition, what, timeout_s=PATIENCE_S, every_s=1)


def _reload(page: Page, dagit: str) -> None:
    """Waits until Dagit's new code server has loaded the definitions, or has failed to."""
    page.goto(f"{dagit}/locations")
    # Its name for screen readers begins with that of its picture.
    button = page.get_by_role("button", name=re.compile("Reload$"))
    with page.expect_response(_is_reload, timeout=PATIENCE_S * 1000):
        button.click()


def _is_reload(response: Response) -> bool:
    request = response.request
    return request.method == "POST" and _RELOAD in (request.post_data or "")


def _kraken(lab: Lab, *arguments: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    command = [KRAKEN, "--config", str(lab.config_path), *arguments]
    return subprocess.run(command, env=kept, capture_output=True, text=True, timeout=PATIENCE_S)


def _renamed(lab: Lab) -> bool:
    """It is refused while the daemon has not taken up the new configuration."""
    told = _kraken(lab, "instrument", "rename", "bruker1", "timstof1", "--yes")
    return told.returncode == 0
