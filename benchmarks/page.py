"""The laboratory's page with 100,000 files of 30 metrics each, in Chromium.

Prints when the page is painted and drawn, how long a keystroke in the filter takes, bytes to the
browser, the server's CPU and memory, what 50 open pages cost while something changes every
second, and the CPU of a term of the filter beside that of a regular
expression over every cell, which is AlphaKraken's way. The files are put into the page's table
straight away: MongoDB is not measured.

    python benchmarks/page.py [FILES]
"""

import http.client
import json
import multiprocessing
import re
import resource
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import sync_playwright

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
from kraken_dagster.web.table.selection import select

METRICS = 30
BROWSERS = 50
WATCHED_S = 20.0
PLOTTED = ("metric_00", "metric_01", "metric_02")
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"
BYTES = "performance.getEntries().reduce((sum, item) => sum + (item.transferSize || 0), 0)"


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


def of_every_cell(table: Table, text: str) -> int:
    """A term as AlphaKraken's page has it: a regular expression over the text of every cell."""
    rows = range(len(table))
    return sum(
        any(re.search(text, table.text(name, row), re.IGNORECASE) for name in table.columns)
        or re.search(text, table.ids[row], re.IGNORECASE) is not None
        for row in rows
    )


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def scan(origin: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        for path, mark in (("/", None), ("/files", None), ("/plots", "kraken:plots")):
            size = {"width": 1400, "height": 900}
            page = browser.new_context(viewport=size, bypass_csp=True).new_page()
            before = cpu()
            page.goto(origin + path)
            drawn = page.evaluate("performance.now()")
            if mark:
                page.wait_for_function(f"performance.getEntriesByName('{mark}').length")
                drawn = page.evaluate(f"performance.getEntriesByName('{mark}')[0].startTime")
            page.wait_for_timeout(300)
            print(
                f"{path:8} painted {page.evaluate(PAINTED):6.0f} ms, drawn {drawn:6.0f} ms, "
                f"{page.evaluate(BYTES) / 1000:6.1f} kB, server {cpu() - before:.2f} s CPU"
            )
            if path == "/files":
                keystrokes(page)
            page.close()
        browser.close()


def keystrokes(page: Any) -> None:
    page.focus("#filter")
    for letter in "hela":
        page.evaluate("performance.clearMarks(); window.typed = performance.now()")
        page.keyboard.type(letter)
        page.wait_for_function("performance.getEntriesByName('kraken:rows').length")
        took = page.evaluate(
            "performance.getEntriesByName('kraken:rows')[0].startTime - window.typed"
        )
        print(f"         keystroke {letter!r} shown after {took:.0f} ms")


def watch(port: int, until: float, answered: Any) -> None:
    """What an open page does: it hears events, and asks for its part anew after each change."""
    events = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    events.request("GET", "/events")
    answer, stamp = events.getresponse(), None
    pages = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.time() < until:
        line = answer.readline()
        if not line.startswith(b"data:"):
            continue
        heard = json.loads(line[5:])["stamp"]
        if heard != stamp:
            stamp = heard
            pages.request("GET", "/?part=1", headers={"Accept-Encoding": "gzip"})
            pages.getresponse().read()
            with answered.get_lock():
                answered.value += 1


def watch_many(port: int, count: int, until: float, answered: Any) -> None:
    threads = [threading.Thread(target=watch, args=(port, until, answered)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def many_browsers(feed: Feed, port: int) -> None:
    """50 pages on the fleet for 20 s, in a process of their own; a file changes every second."""
    until = time.time() + WATCHED_S
    spawning = multiprocessing.get_context("spawn")
    answered = spawning.Value("i", 0)
    watchers = spawning.Process(target=watch_many, args=(port, BROWSERS, until, answered))
    watchers.start()
    time.sleep(WATCHED_S / 4)  # until all are there
    before, begun, first = cpu(), time.time(), answered.value
    while time.time() < until:
        cells = {"instrument_id": "astral1", "status": "copying", "created_at": utc_now()}
        with feed.table.lock:
            feed.table.put("now.raw", cells)
            feed.stamp += 1
        time.sleep(1)
    took = time.time() - begun
    used, pages = (cpu() - before) / took, (answered.value - first) / took
    watchers.join()
    print(f"{BROWSERS} browsers, a change every second: {pages:.0f} pages/s, {used:.2f} of a core")


def terms(table: Table) -> None:
    begun = time.process_time()
    found = int(select(table, "hela_0999").mask.sum())
    ours = time.process_time() - begun
    begun = time.process_time()
    same = of_every_cell(table, "hela_0999")
    theirs = time.process_time() - begun
    assert found == same
    print(
        f"a term   {ours:.3f} s CPU; over every cell {theirs:.1f} s CPU: {theirs / ours:.0f} times"
    )


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = KrakenConfig.model_validate(
            {
                "home": Path(folder),
                "locations": dict.fromkeys(("instruments", "backup", "output"), folder),
                "instruments": {f"astral{number}": {"type": "thermo"} for number in range(6)},
            }
        )
        services = Services(config=config, store=connect("mongodb://127.0.0.1:1/x"), engines={})
        feed = Feed(services)
        fill(feed.table, count)
        feed.seen_at = utc_now()
        feed.report = {
            "instruments": [
                {
                    "id": name,
                    "type": "thermo",
                    "status": "ok",
                    "looked_at": utc_now(),
                    "free_space_gb": 500,
                    "wrong": [],
                }
                for name in config.instruments
            ]
        }
        choice = ColumnChoice(tuple(ColumnEntry(name=name, plot=True) for name in PLOTTED))
        place = Place(Dagit(), port=free_port(), name="The page")
        app = guarded_page(feed, choice, place, Access(config.home))
        server = uvicorn.Server(
            uvicorn.Config(
                app, port=place.port, lifespan="off", log_level="error", timeout_graceful_shutdown=1
            )
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        print(f"{count:,} files, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
        scan(f"http://127.0.0.1:{place.port}")
        many_browsers(feed, place.port)
        terms(feed.table)
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
