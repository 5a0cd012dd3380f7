"""What one look costs, in CPU-seconds of the watcher, over a folder whose files are all known.

Prints the metric for N files and for a tenth of them, and their ratio. The database is the embedded
server, a process of its own, whose time does not count here.
"""

import sys
import tempfile
import time
from pathlib import Path

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import ensure_running


def cpu_of_a_scan(folder: Path, uri: str, files: int) -> float:
    """CPU-seconds of this process and its children for the second look at `files` files."""
    instrument = folder / "instruments" / "thermo1"
    instrument.mkdir(parents=True)
    for number in range(files):
        (instrument / f"sample_{number:06d}.raw").write_bytes(b"x")
    config = KrakenConfig.model_validate(
        {
            "locations": {
                "instruments": str(folder / "instruments"),
                "backup": str(folder / "backup"),
                "output": str(folder / "output"),
            },
            # Old files are ignored, so that what is timed is the look and nothing else.
            "options": {"debug_max_file_age_in_hours": 0},
            "instruments": {"thermo1": {"type": "thermo"}},
        }
    )
    store = connect(f"{uri}benchmark_{files}")
    store.prepare()
    services = Services(config=config, store=store, engines={})
    look_at(services, "thermo1")
    before = time.process_time()
    look_at(services, "thermo1")
    return time.process_time() - before


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as name:
        server = ensure_running(Path(name) / "mongodb")
        try:
            few = cpu_of_a_scan(Path(name) / "few", server.uri, files // 10)
            many = cpu_of_a_scan(Path(name) / "many", server.uri, files)
        finally:
            server.stop()
    print(f"{files // 10} files: {few:.3f} CPU-s; {files} files: {many:.3f} CPU-s")
    print(f"ratio {many / few:.1f} for 10 times the files")


if __name__ == "__main__":
    main()
