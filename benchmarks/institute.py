"""An institute: many instruments, a small file each, `kraken up` on PostgreSQL.

    .venv/bin/python benchmarks/institute.py [INSTRUMENTS] [MINUTES] [WATCH_INTERVAL_S]

Needs Debian's postgresql. A MongoDB of one's own is taken from KRAKEN_BENCHMARK_MONGODB, else the
embedded server is used. The first third of the time nothing happens, which is what "idle" counts.
In the second each instrument acquires one file, at a random moment. Then what is left is done. At
the end: files that are done, ticks that failed or came late, CPU and memory over time.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import yaml
from idle import KRAKEN, cpu_s, laboratory, ours, pss_mb

from kraken_dagster.config.loader import load_config
from kraken_dagster.operations.site_files import init
from kraken_dagster.runtime.services import Services
from kraken_dagster.simulation import search_program
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.store.connection import Store, connect
from kraken_dagster_tests.support.dagster_bench import SEARCH, install_search
from kraken_dagster_tests.support.helpers import embedded_uri, mark_stores
from kraken_dagster_tests.support.postgres import new_database, postgres

PORT, WEB_PORT, EVERY_S, PATIENCE_S = 3995, 3996, 30, 3600


class Sample(NamedTuple):
    minute: float
    cores: float
    megabytes: float
    done: int


class Site:
    """A laboratory with Dagster's storage on PostgreSQL."""

    def __init__(self, folder: Path, instruments: int, interval_s: int, postgres_url: str) -> None:
        self.folder = folder
        self.config_path = laboratory(folder, instruments)
        init(folder / "written", postgres=True)
        (folder / "written" / "dagster.yaml").rename(folder / "dagster.yaml")
        values = yaml.safe_load(self.config_path.read_text())
        values["defaults"] |= {"watch_interval_s": interval_s}
        values["locations"] |= {name: str(folder / name) for name in ("settings", "software")}
        values["engines"] = {"local": {"slots": 4}}
        values["simulation"] = {"speed": 60}
        if uri := os.environ.get("KRAKEN_BENCHMARK_MONGODB"):
            values["mongodb"] = {"uri": uri}
        self.config_path.write_text(yaml.safe_dump(values))
        self.uri, self.names = uri, list(values["instruments"])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
        self.environment = {**kept, "KRAKEN_DAGSTER_POSTGRES": postgres_url}

    @contextmanager
    def up(self) -> Iterator[None]:
        command = [KRAKEN, "--config", str(self.config_path), "up", "--port", str(PORT)]
        command += ["--web-port", str(WEB_PORT)]
        with (
            (self.folder / "log").open("w") as log,
            subprocess.Popen(command, env=self.environment, stdout=log, stderr=log) as process,
        ):
            try:
                yield
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(300)

    def store(self) -> Store:
        return connect(self.uri or embedded_uri(self.folder / "home"), timeout_s=10)

    def instance(self) -> dg.DagsterInstance:
        os.environ["KRAKEN_DAGSTER_POSTGRES"] = self.environment["KRAKEN_DAGSTER_POSTGRES"]
        return dg.DagsterInstance.from_config(str(self.folder / "home" / "dagster"))

    def prepare(self) -> None:
        """Marks the stores, and gives each file a search that costs next to nothing."""
        config = load_config(self.config_path, environment={})
        store = self.store()
        mark_stores(Services(config=config, store=store, engines={}))
        install_search(config, store)
        raw, result = self.folder / "raw", self.folder / "result"
        raw.write_bytes(b"raw" * 1000)
        search_program.main([str(raw), str(result)])
        program = self.folder / "software" / SEARCH.software
        program.write_text(f'#!/bin/sh\nmkdir -p "$2" && cp {result}/* "$2"\n')

    def acquire(self, name: str) -> None:
        plan = Acquisition(f"{name}_sample.raw", "thermo", minutes=1, size_bytes=1_000_000)
        away = self.folder / "away" / name
        SimulatedInstrument(away, "thermo", LabClock(1e6)).acquire(plan)
        for path in away.iterdir():
            path.rename(self.folder / "instruments" / name / path.name)


def wait_for_ticks(site: Site, began: float) -> float:
    """Seconds until every instrument was looked at."""
    while time.monotonic() - began < PATIENCE_S:
        with suppress(Exception), closing(site.store()) as store:  # it is not there yet
            if all(store.health.get(name) for name in site.names):
                return time.monotonic() - began
        time.sleep(5)
    raise SystemExit("the instruments were not looked at")


def follow(site: Site, store: Store, minutes: float) -> list[Sample]:
    """Samples of the whole time, while files come in the second third."""
    chance = random.Random(1)
    begun = time.monotonic()
    due = sorted((chance.uniform(minutes / 3, 2 * minutes / 3), name) for name in site.names)
    samples: list[Sample] = []
    before, at = total_cpu(site), begun
    while (minute := (time.monotonic() - begun) / 60) < minutes:
        while due and due[0][0] <= minute:
            site.acquire(due.pop(0)[1])
        time.sleep(1)
        if (passed := time.monotonic() - at) >= EVERY_S:
            used = total_cpu(site)
            memory = pss_mb(site.folder)
            samples.append(Sample(minute, (used - before) / passed, memory, done(store)))
            before, at = used, time.monotonic()
    return samples


def total_cpu(site: Site) -> float:
    return sum(cpu_s(path) for path in ours(site.folder))


def done(store: Store) -> int:
    return counts(store).get("done", 0)


def counts(store: Store) -> Counter[str]:
    return Counter(item["status"] for item in store.raw_files._collection.find({}, {"status": 1}))


def report_ticks(site: Site, since: float, interval_s: int) -> None:
    statuses: Counter[str] = Counter()
    late: list[float] = []
    watchers = {f"{name}_watcher" for name in site.names}
    with site.instance() as instance:
        for state in instance.all_instigator_state():
            if state.instigator_name not in watchers:
                continue
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since)
            statuses.update(item.status.value for item in ticks)
            times = sorted(item.timestamp for item in ticks)
            late += [b - a - interval_s for a, b in pairwise(times)]
    late.sort()
    failed = statuses["FAILURE"]
    print(f"ticks of watchers: {sum(statuses.values())}, failed {failed}")
    if late:
        shown = (late[len(late) // 2], late[int(len(late) * 0.99)], late[-1])
        print("late by {:.1f} s (median), {:.1f} (99 %), {:.1f} (most)".format(*shown))


def report(samples: Sequence[Sample], minutes: float) -> None:
    idle = [item.cores for item in samples if item.minute < minutes / 3]
    print(f"idle: {sum(idle) / len(idle):.2f} cores")
    print("| minute | cores | PSS, MB | done |\n|---|---|---|---|")
    for item in samples[:: max(1, len(samples) // 20)]:
        print(f"| {item.minute:.0f} | {item.cores:.2f} | {item.megabytes:.0f} | {item.done} |")


def main(instruments: int = 300, minutes: float = 60, interval_s: int = 60) -> None:
    with tempfile.TemporaryDirectory(prefix="kraken-institute-") as name, postgres() as socket:
        site = Site(Path(name), instruments, interval_s, new_database(socket, name))
        began, wall = time.monotonic(), time.time()
        with site.up():
            print(f"all looked at after {wait_for_ticks(site, began):.0f} s", flush=True)
            site.prepare()
            wall = time.time()
            store = site.store()
            samples = follow(site, store, minutes)
            report_ticks(site, wall, interval_s)
            report(samples, minutes)
            print(f"statuses at the end: {dict(counts(store))}")


if __name__ == "__main__":
    main(*(int(item) for item in sys.argv[1:]))
