"""REST over many files: each list's first and hundredth page, before and after its indexes.

Fills a database of the embedded server (or of `KRAKEN_BENCH_MONGODB_URI`) with synthetic files and
results, and prints wall seconds, the least of three, and how long the indexes took to be made, with
the longest time that a write beside it had to wait. Then `/metrics` with 300 instruments, in CPU.

    python benchmarks/rest.py [FILES]
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from kraken_dagster.alerts.exposition import Known, metrics_text
from kraken_dagster.alerts.snapshot import Health
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster.web.health.gauges import count_files
from kraken_dagster.web.intake import cells_of
from kraken_dagster.web.queries.alphakraken import RawFilesQuery, raw_files
from kraken_dagster.web.queries.files import ListQuery, find_files
from kraken_dagster.web.queries.results import MetricsQuery, find_metrics
from kraken_dagster.web.table.columns import Table

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_PAGE = 20
_AT_ONCE = 1_000


def document(number: int) -> dict[str, Any]:
    at, name = BEGIN + timedelta(minutes=number), f"20260101_OA{number % 6}_HeLa_{number:07d}.raw"
    return {
        "_id": name,
        "original_name": name,
        "instrument_id": f"astral{number % 6}",
        "project_id": f"P{number % 50:03d}",
        "status": "done",
        "size": 5_000_000_000,
        "created_at": at,
        "created_at_": at,
        "updated_at_": at,
    }


def result(number: int) -> dict[str, Any]:
    file = document(number)
    fields = {"raw_file": file["_id"], "type": "alphadia", "settings_name": "dia"}
    return {**fields, "created_at_": file["created_at"], "precursors": 90_000 + number % 1000}


def fill(uri: str, count: int) -> None:
    with MongoClient(uri) as client:
        database = client.get_default_database("krakendb")
        for start in range(0, count, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, count))
            database["raw_file"].insert_many([document(number) for number in some])
            database["metrics"].insert_many([result(number) for number in some])


def least(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def hundredth(find: Callable[..., Any], services: Services, query: Any) -> Any:
    """The question for the hundredth page, or for the last one."""
    for _ in range(99):
        place = find(services, query)["next"]
        if place is None:  # a short list has fewer pages
            break
        query = query.model_copy(update={"cursor": place})
    return query


def routes(services: Services, table: Table) -> None:
    cases: list[tuple[str, Callable[..., Any], Any]] = [
        ("files", find_files, ListQuery(limit=_PAGE)),
        ("files of an instrument", find_files, ListQuery(limit=_PAGE, instrument="astral1")),
        ("files of a project", find_files, ListQuery(limit=_PAGE, project="P001")),
        (
            "files, a part of a name in an instrument",
            find_files,
            ListQuery(limit=_PAGE, instrument="astral1", name_contains="hela"),
        ),
        ("metrics of an instrument", find_metrics, MetricsQuery(limit=_PAGE, instrument="astral1")),
    ]
    for name, find, query in cases:
        first = least(lambda find=find, query=query: find(services, query))
        later = hundredth(find, services, query)
        deep = least(lambda find=find, later=later: find(services, later))
        print(f"  {name}: first {first:.3f} s, deep {deep:.3f} s", flush=True)
    for offset in (0, 99 * _PAGE):
        query = RawFilesQuery(limit=_PAGE, offset=offset, name_contains="hela")
        took = least(lambda query=query: raw_files(services, table, query))
        print(f"  raw_files, a part of a name, offset {offset}: {took:.3f} s", flush=True)


def make_indexes(services: Services, uri: str) -> None:
    longest, done = 0.0, threading.Event()

    def write() -> None:
        nonlocal longest
        with MongoClient(uri) as client:
            files = client.get_default_database("krakendb")["raw_file"]
            while not done.is_set():
                begin = time.perf_counter()
                files.update_one({"_id": document(0)["_id"]}, {"$inc": {"touched": 1}})
                longest = max(longest, time.perf_counter() - begin)

    writer = threading.Thread(target=write)
    writer.start()
    begin = time.perf_counter()
    services.store.listing.make_indexes()
    took = time.perf_counter() - begin
    done.set()
    writer.join()
    print(f"indexes: {took:.1f} s; the longest wait of a write meanwhile {longest:.2f} s")


def prometheus() -> None:
    table, now, names = Table(), utc_now(), [f"i{number}" for number in range(300)]
    for number in range(30_000):
        own = {"instrument_id": names[number % 300], "status": f"s{number % 7}"}
        table.put(str(number), {**own, "created_at": now, "created_at_": now})
    health = tuple(Health(name, "instrument", "ok", "", now, 1.0, 2.0) for name in names)
    known = Known(health=health, wanted_gb=dict.fromkeys(names, 1.0))
    times = []
    for _ in range(5):
        begin = time.process_time()
        metrics_text(list(count_files(table, names, now)), known)
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
        locations = dict.fromkeys(("instruments", "backup", "output"), folder)
        config = KrakenConfig.model_validate(
            {"home": home, "locations": locations, "instruments": {"astral1": {"type": "thermo"}}}
        )
        store = connect(uri)
        store.prepare()
        fill(uri, count)
        table = Table()
        for number in range(count):
            file = document(number)
            table.put(file["_id"], cells_of(file, [], {}))
        services = Services(config=config, store=store, engines={}, now=utc_now)
        print(f"{count} files, before the indexes")
        routes(services, table)
        make_indexes(services, uri)
        routes(services, table)
        if server is not None:
            server.stop()


if __name__ == "__main__":
    main()
