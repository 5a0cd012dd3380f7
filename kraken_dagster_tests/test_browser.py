"""Dagit in a real browser: what a person sees after `kraken up`."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from kraken_dagster.clients.processes import accepts, free_port
from kraken_dagster.partitions import ASSETS
from kraken_dagster_tests.copying_cases import unavailable
from kraken_dagster_tests.helpers import wait_until
from kraken_dagster_tests.laboratory import KRAKEN, Lab

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--window-size=1700,600", "--virtual-time-budget=30000", "--dump-dom"),
)


def _page(browser: str, profile: Path, url: str) -> str:
    command = [browser, *_FLAGS, f"--user-data-dir={profile}", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.lab
@pytest.mark.timeout(300)
def test_dagit_shows_the_lineage_and_the_sensors_of_an_instrument(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        unavailable("no Chromium to look at Dagit with")
        return
    lab, port = Lab(tmp_path / "lab"), free_port()
    command = [KRAKEN, "--config", str(lab.config_path), "up", "--port", str(port)]
    with (tmp_path / "up.log").open("wb") as log:
        kraken = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: accepts(port), "Dagit listens")
        dagit = f"http://127.0.0.1:{port}"
        pages: dict[str, str] = {}

        def shown(path: str, *texts: str) -> bool:
            pages[path] = _page(browser, tmp_path / "profile", dagit + path)
            return all(text in pages[path] for text in texts)

        lineage = "/locations/kraken/asset-groups/bruker1/lineage"
        wait_until(lambda: shown(lineage, "bruker1", *ASSETS), "the lineage is shown")
        sensors = ("bruker1_watcher", "thermo1_watcher", "cluster_jobs")
        wait_until(lambda: shown("/automation", *sensors), "the sensors are shown")
        assert "Join the Dagster community" not in pages[lineage]
    finally:
        kraken.send_signal(signal.SIGINT)
        kraken.wait(60)
