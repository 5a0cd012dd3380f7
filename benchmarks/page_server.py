"""The page over many made-up files, in a process of its own, whose CPU and memory can be read.

The files are put into the page's table straight away: MongoDB is not measured.
"""

import multiprocessing
import os
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from kraken_dagster.config.dagit import Dagit, Place
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.dagit.access import Access
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster.web.app import guarded_page
from kraken_dagster.web.column_config import ColumnChoice, ColumnEntry
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.table.columns import Table

METRICS = 30
PLOTTED = ("metric_00", "metric_01", "metric_02")
_INSTRUMENTS = [f"astral{number}" for number in range(6)]
_START_S = 600.0


@dataclass(frozen=True)
class Served:
    """`changing`: while it is set a file changes every second."""

    port: int
    process: int
    changing: Any

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """CPU-seconds so far."""
        facts = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> int:
        """The most memory that it has had."""
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


@contextmanager
def serving(count: int) -> Iterator[Served]:
    spawning = multiprocessing.get_context("spawn")
    port, changing = free_port(), spawning.Event()
    process = spawning.Process(target=_serve, args=(count, port, changing), daemon=True)
    process.start()
    try:
        _wait_for(f"http://127.0.0.1:{port}/healthz")
        assert process.pid is not None
        yield Served(port, process.pid, changing)
    finally:
        process.terminate()
        process.join()


def load() -> str:
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def fill(table: Table, count: int) -> None:
    random, begin = np.random.default_rng(1), utc_now() - timedelta(minutes=10 * count)
    metrics = random.normal(100, 10, (count, METRICS))
    for number in range(count):
        cells: dict[str, Any] = {
            "instrument_id": f"astral{number % 6}",
            "status": "done",
            "project_id": f"P{number % 50:03d}",
            "created_at": begin + timedelta(minutes=10 * number),
            "size_gb": 1.5,
        }
        for place in range(METRICS):
            cells[f"metric_{place:02d}"] = float(metrics[number, place])
        table.put(f"20260101_OA{number % 6}_Evo_HeLa_{number:06d}.raw", cells)


def _wait_for(address: str) -> None:
    until = time.time() + _START_S
    while time.time() < until:
        with suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.2)
    raise TimeoutError(f"{address} has not answered within {_START_S:.0f} s")


def _serve(count: int, port: int, changing: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        feed = _feed(count, Path(folder))
        choice = ColumnChoice(tuple(ColumnEntry(name=name, plot=True) for name in PLOTTED))
        place = Place(Dagit(), port=port, name="The page")
        app = guarded_page(feed, choice, place, Access(feed.services.config.home))
        threading.Thread(target=_change, args=(feed, changing), daemon=True).start()
        uvicorn.run(app, port=port, lifespan="off", log_level="error")


def _feed(count: int, folder: Path) -> Feed:
    config = KrakenConfig.model_validate(
        {
            "home": folder,
            "locations": dict.fromkeys(("instruments", "backup", "output"), str(folder)),
            "instruments": {name: {"type": "thermo"} for name in _INSTRUMENTS},
        }
    )
    services = Services(config=config, store=connect("mongodb://127.0.0.1:1/x"), engines={})
    feed = Feed(services)
    fill(feed.table, count)
    feed.seen_at = utc_now()
    space = {"free_space_gb": 500, "total_space_gb": 1000}
    of_one = {"type": "thermo", "status": "ok", "details": "", "wrong": [], **space}
    feed.report = {
        "instruments": [{**of_one, "id": name, "looked_at": utc_now()} for name in _INSTRUMENTS]
    }
    return feed


def _change(feed: Feed, changing: Any) -> None:
    while changing.wait():
        cells = {"instrument_id": "astral1", "status": "copying", "created_at": utc_now()}
        with feed.table.lock:
            feed.table.put("now.raw", cells)
            feed.stamp += 1
        time.sleep(1)
