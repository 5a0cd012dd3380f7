"""What `kraken rebuild` costs: N files with five assets each, and again with nothing to add.

The database is the embedded server, Dagster's storage SQLite as `kraken up` makes it. For the ratio
a few of the same events are stored one by one, as Dagster itself does it.
"""

import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
from many_files import INSTRUMENT, fill, make_services

from kraken_dagster.operations.dagster_home import prepare_dagster
from kraken_dagster.orchestration.event_log import Reported
from kraken_dagster.orchestration.partitions import ASSETS
from kraken_dagster.rebuild.defs import missing_events, rebuild_instrument
from kraken_dagster.rebuild.history import pages_of
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.support.helpers import database_uri

_ONE_BY_ONE = 500


def rebuilt(services: Services, instance: dg.DagsterInstance) -> tuple[float, float, str]:
    """Seconds, CPU-seconds of this process, and what was done."""
    began, cpu = time.perf_counter(), time.process_time()
    summary = rebuild_instrument(services, instance, INSTRUMENT).summary()
    return time.perf_counter() - began, time.process_time() - cpu, summary


def seconds_one_by_one(services: Services, instance: dg.DagsterInstance) -> float:
    """Seconds for an event."""
    nothing = Reported({asset: set() for asset in ASSETS}, set(), {})
    events = [
        event
        for page in pages_of(services, services.store.bulk.ids(INSTRUMENT)[:_ONE_BY_ONE])
        for known in page.known
        for event in missing_events(known, nothing)
    ][:_ONE_BY_ONE]
    began = time.perf_counter()
    for event in events:
        instance.report_runless_asset_event(event)
    return (time.perf_counter() - began) / len(events)


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = ensure_running(folder / "mongodb")
        try:
            services = make_services(folder, database_uri(server.uri, "benchmark"))
            fill(database_uri(server.uri, "benchmark"), files)
            homes = [folder / "home" / each for each in ("dagster", "one_by_one")]
            for home in homes:
                prepare_dagster(home, services.config, folder / "instruments.yaml")
            with dg.DagsterInstance.from_config(str(homes[0])) as instance:
                first_s, cpu_s, summary = rebuilt(services, instance)
                print(f"{first_s:.1f} s, {cpu_s:.1f} CPU-s: {summary}")
                again_s, cpu_s, summary = rebuilt(services, instance)
                print(f"{again_s:.1f} s, {cpu_s:.1f} CPU-s: {summary}")
            with dg.DagsterInstance.from_config(str(homes[1])) as instance:
                single_s = seconds_one_by_one(services, instance)
        finally:
            server.stop()
    in_all_s = single_s * files * 7  # five assets, a check, an observation
    print(f"one by one: {1000 * single_s:.1f} ms an event, {in_all_s:.0f} s for all of them")
    print(
        f"ratio {in_all_s / first_s:.0f}; a second run costs {again_s / first_s:.2f} of the first"
    )


if __name__ == "__main__":
    main()
