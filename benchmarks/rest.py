"""REST over many files: each list's first and hundredth page, before and after its indexes.

Fills two databases of the embedded server (or of `KRAKEN_BENCH_MONGODB_URI`, whose own CPU is not
seen) with synthetic files and results, one with a tenth of the files. It prints CPU-seconds of
this process and the server: the least of three, or one if that takes more than a second; and what
1 million files would take if that grows on as it did from one database to the other. Then how
long the indexes took to be made, and how long a write beside it had to wait. `/metrics` with 300
instruments comes first.

    python benchmarks/rest.py [FILES]
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from math import log10
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pymongo import MongoClient

from kraken_dagster.alerts.exposition import Known, metrics_text
from kraken_dagster.alerts.snapshot import Health
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster.store.listing import INDEXES
from kraken_dagster.web.health.gauges import count_files
from kraken_dagster.web.intake import cells_of
from kraken_dagster.web.queries.alphakraken import RawFilesQuery, raw_files
from kraken_dagster.web.queries.files import ListQuery, find_files
from kraken_dagster.web.queries.plain import cursor_of
from kraken_dagster.web.queries.results import MetricsQuery, find_metrics
from kraken_dagster.web.table.columns import Table

_PAGE, _BEFORE_HUNDREDTH = 20, 99 * 20
_AT_ONCE, _MILLION = 1_000, 1_000_000
_INSTRUMENTS, _PROJECTS = 6, 50
_SLOW_S = 1.0
_EVERY = timedelta(minutes=12)  # so that each instrument has 20 files a day

Times = dict[str, float]


class Laboratory:
    """Files up to now; number 0 is the newest, and each sixth is of one instrument."""

    def __init__(self, uri: str, home: Path, count: int, server: int | None) -> None:
        self.count, self.end, self._server = count, utc_now(), server
        self.uri = urlsplit(uri)._replace(path=f"/rest_{count}").geturl()
        store = connect(self.uri)
        store.prepare()
        locations = dict.fromkeys(("instruments", "backup", "output"), str(home))
        config = KrakenConfig.model_validate(
            {"home": home, "locations": locations, "instruments": {"astral1": {"type": "thermo"}}}
        )
        self.services = Services(config=config, store=store, engines={}, now=utc_now)
        self.table = Table()

    def document(self, number: int) -> dict[str, Any]:
        at, name = self.end - number * _EVERY, f"20260101_OA_HeLa_{number:07d}.raw"
        return {
            "_id": name,
            "original_name": name,
            "instrument_id": f"astral{number % _INSTRUMENTS}",
            "project_id": f"P{number % _PROJECTS:03d}",
            "status": "done",
            "size": 5_000_000_000,
            "created_at": at,
            "created_at_": at,
            "updated_at_": at,
        }

    def fill(self) -> None:
        with MongoClient[dict[str, Any]](self.uri) as client:
            database = client.get_default_database()
            for index in INDEXES:  # an empty database has them at once
                database["raw_file"].drop_index(index.document["name"])
            for start in range(0, self.count, _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, self.count))
                files = [self.document(number) for number in some]
                database["raw_file"].insert_many(files)
                database["metrics"].insert_many([_result(file) for file in files])
                for file in files:
                    self.table.put(file["_id"], cells_of(file, [], {}))

    def cpu(self) -> float:
        """Seconds of this process and the server. Of each thread, as a page takes less than the
        10 ms that `stat` counts in."""
        tasks = Path(f"/proc/{self._server}/task").glob("*/schedstat") if self._server else ()
        return time.process_time() + sum(int(it.read_text().split()[0]) / 1e9 for it in tasks)

    def least(self, call: Callable[[], Any]) -> float:
        times = []
        for _ in range(3):
            begin = self.cpu()
            call()
            times.append(self.cpu() - begin)
            if times[0] > _SLOW_S:
                break
        return min(times)

    def cursor(self, one_of: int) -> str:
        """Where the 99th page ended, or the last but one, of a list of one file of so many."""
        listed = range(1, self.count, one_of) if one_of > 1 else range(self.count)
        at = min(_BEFORE_HUNDREDTH, len(listed) // _PAGE * _PAGE - _PAGE) - 1
        file = self.document(listed[max(at, 0)])
        return cursor_of((file["created_at"], file["_id"]))

    def times(self) -> Times:
        """CPU-seconds by what was asked."""
        found = {}
        for name, find, query, one_of in _lists():
            later = query.model_copy(update={"cursor": self.cursor(one_of)})
            found[f"{name}, first"] = self.least(partial(find, self.services, query))
            found[f"{name}, 100th"] = self.least(partial(find, self.services, later))
        for name, offset in (("first", 0), ("100th", _BEFORE_HUNDREDTH)):
            asked = RawFilesQuery(limit=_PAGE, offset=offset, name_contains="hela")
            call = partial(raw_files, self.services, self.table, asked)
            found[f"`raw_files`, a part of a name, {name}"] = self.least(call)
        return found


def _result(file: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"raw_file": file["_id"], "type": "alphadia", "settings_name": "dia"}
    return {**fields, "created_at_": file["created_at"], "precursors": 90_000}


def _lists() -> Iterator[tuple[str, Callable[..., Any], Any, int]]:
    """Name, what answers it, the question, and of how many files one is in the list."""
    instrument = {"limit": _PAGE, "instrument": "astral1"}
    part = {**instrument, "name_contains": "hela"}
    nothing = {**instrument, "name_contains": "nothing"}
    yield "files", find_files, ListQuery(limit=_PAGE), 1
    yield "files of an instrument", find_files, ListQuery(**instrument), _INSTRUMENTS
    yield "files of a project", find_files, ListQuery(limit=_PAGE, project="P001"), _PROJECTS
    yield "a part of a name in an instrument", find_files, ListQuery(**part), _INSTRUMENTS
    yield "a name that none has in an instrument", find_files, ListQuery(**nothing), _INSTRUMENTS
    yield "metrics of an instrument", find_metrics, MetricsQuery(**instrument), _INSTRUMENTS


def make_indexes(laboratory: Laboratory) -> None:
    longest, done = 0.0, threading.Event()

    def write() -> None:
        nonlocal longest
        with MongoClient[dict[str, Any]](laboratory.uri) as client:
            files, known = client.get_default_database()["raw_file"], laboratory.document(0)
            while not done.wait(0.01):
                begin = time.perf_counter()
                files.update_one({"_id": known["_id"]}, {"$inc": {"touched": 1}})
                longest = max(longest, time.perf_counter() - begin)

    writer = threading.Thread(target=write)
    writer.start()
    begin, cpu = time.perf_counter(), laboratory.cpu()
    laboratory.services.store.listing.make_indexes()
    took, cpu = time.perf_counter() - begin, laboratory.cpu() - cpu
    done.set()
    writer.join()
    print(
        f"indexes of {laboratory.count} files: {took:.1f} s, {cpu:.1f} CPU-s; "
        f"the longest wait of a write meanwhile {longest:.1f} s",
        flush=True,
    )


def measure(uri: str, home: Path, count: int, server: int | None) -> tuple[Times, Times]:
    """Before and after the indexes."""
    laboratory = Laboratory(uri, home, count, server)
    begin = laboratory.cpu()
    laboratory.fill()
    print(f"{count} files and results: {laboratory.cpu() - begin:.0f} CPU-s", flush=True)
    before = laboratory.times()
    make_indexes(laboratory)
    return before, laboratory.times()


def table(few: tuple[Times, Times], many: tuple[Times, Times], count: int) -> None:
    """In milliseconds of CPU. What grows by a power of the number of files grows on by it."""
    steps = _MILLION / count
    numbers = f"{count // 10} | {count} | 1 M"
    print(f"| CPU-ms | before: {numbers} | after: {numbers} |")
    print("|---|---|---|---|---|---|---|")
    for name in many[0]:
        cells = []
        for small, large in zip(few, many, strict=True):
            growth = max(1.0, large[name] / small[name])  # for ten times the files
            whole = large[name] * growth ** log10(steps)
            cells += [f"{1000 * value:.0f}" for value in (small[name], large[name], whole)]
        print(f"| {name} | {' | '.join(cells)} |")


def prometheus() -> None:
    columns, now, names = Table(), utc_now(), [f"i{number}" for number in range(300)]
    for number in range(30_000):
        own = {"instrument_id": names[number % 300], "status": f"s{number % 7}"}
        columns.put(str(number), {**own, "created_at": now, "created_at_": now})
    health = tuple(Health(name, "instrument", "ok", "", now, 1.0, 2.0) for name in names)
    known = Known(health=health, wanted_gb=dict.fromkeys(names, 1.0))
    times = []
    for _ in range(5):
        begin = time.process_time()
        metrics_text(list(count_files(columns, names, now)), known)
        times.append(time.process_time() - begin)
    print(f"/metrics, 300 instruments: {1000 * min(times):.0f} ms CPU (worst {max(times):.3f} s)")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    prometheus()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        named = os.environ.get("KRAKEN_BENCH_MONGODB_URI")
        server = None if named else ensure_running(home / "mongodb")
        uri = named or server.uri  # type: ignore[union-attr]
        process = server.process.pid if server is not None and server.process else None
        few, many = (measure(uri, home, number, process) for number in (count // 10, count))
        table(few, many, count)
        if server is not None:
            server.stop()


if __name__ == "__main__":
    main()
