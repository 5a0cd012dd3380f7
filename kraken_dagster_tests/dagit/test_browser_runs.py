"""What a person sees in Dagit who asks for a done file again, ends a run in mid-copy, or makes a
mistake in instruments.yaml."""

# ruff: noqa: F811 fixtures of another module

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterRunStatus
from playwright.sync_api import Browser, Page, Response, expect

from kraken_dagster.config.dagit import Role
from kraken_dagster.model.raw_file import Status
from kraken_dagster_tests.dagit.test_browser import (
    _logged_in,
    _shows,
    browser,  # noqa: F401 fixture
)
from kraken_dagster_tests.support.helpers import database_uri, wait_until
from kraken_dagster_tests.support.laboratory import KRAKEN, PATIENCE_S, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(1800),  # a guard against hanging; each wait has its own
    pytest.mark.xdist_group("browser"),
]
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
    lab.config_path.write_text(yaml.safe_dump(settings))
    dagster = yaml.safe_load((home / "dagster.yaml").read_text())
    dagster["run_monitoring"]["start_timeout_seconds"] = PATIENCE_S  # here nobody kills runs
    dagster["code_servers"] = {"local_startup_timeout": PATIENCE_S}
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
    new = "the run that was asked for is there"
    [run] = wait_until(
        lambda: _runs_of(lab, "quant_job") - before, new, timeout_s=PATIENCE_S, every_s=1
    )
    failed = "the run has failed"
    wait_until(
        lambda: lab.run_status(run) is DagsterRunStatus.FAILURE,
        failed,
        timeout_s=PATIENCE_S,
        every_s=1,
    )
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
        page.goto(f"{dagit}/runs/{run}")
        page.get_by_role("button", name="Terminate").first.click()
        page.screenshot(path=tmp_path / "terminate.png")
        page.get_by_role("dialog").get_by_role("button", name=re.compile("^Terminate")).click()
        canceling = "Dagster was asked to end it"
        wait_until(
            lambda: lab.run_status(run) is DagsterRunStatus.CANCELING,
            canceling,
            timeout_s=PATIENCE_S,
        )
    finally:
        os.kill(pid, signal.SIGCONT)

    def reported() -> Any:
        file = lab.file(name)
        events = file.history if file else []
        return [item for item in events if "the run ended before" in str(item["reason"])]

    [event] = wait_until(reported, "the file's history says so", timeout_s=PATIENCE_S)
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

    wait_until(copied, "the next run has copied it", timeout_s=PATIENCE_S, every_s=0.5)


def test_a_mistake_in_the_configuration_is_told_where_it_is_reloaded(
    lab: Lab, browser: Browser, tmp_path: Path
) -> None:
    dagit, page = f"http://127.0.0.1:{lab.port}", _logged_in(browser, lab, Role.OPERATOR)
    good = lab.config_path.read_text()
    lab.config_path.write_text(good.replace("type: bruker", "type: brucker"))
    _reload(page, dagit)
    mistake = "key 'instruments.bruker1.type': Input should be 'thermo', 'bruker' or 'sciex'"
    expect(page.get_by_role("dialog").get_by_text(mistake)).to_be_visible()
    page.screenshot(path=tmp_path / "mistake_dialog.png")
    page.goto(f"{dagit}/automation")
    expect(page.get_by_text("thermo1_watcher")).to_have_count(0)
    _shows(page, f"{dagit}/locations", "Failed", "View error")
    page.screenshot(path=tmp_path / "mistake_deployment.png")
    told = _kraken(lab, "status")
    assert told.returncode == 1
    assert "dagit knows the configuration that was written at" in told.stderr
    assert mistake in told.stderr

    lab.config_path.write_text(good)
    _reload(page, dagit)
    _shows(page, f"{dagit}/locations", "Loaded")
    _shows(page, f"{dagit}/automation", "thermo1_watcher")
    page.screenshot(path=tmp_path / "mended_automation.png")


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
