"""What one look costs, in CPU-seconds, over a folder whose files are all known: one that lists the
folder, and one at a folder that stands still.

Prints both for N files and for a tenth of them. The database is the embedded server, a process of
its own, whose time does not count here.
"""

import sys
import tempfile
from pathlib import Path

from cpu_time import cpu

from kraken_dagster.acquisition.quiet import QuietLooks
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import ensure_running


def cpu_of_looks(folder: Path, uri: str, files: int) -> tuple[float, float]:
    """CPU-seconds of the second look at `files` files, and of one of ten that follow on it."""
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
    looks = QuietLooks()
    looks.look_at(services, "thermo1")  # registers them
    used = []
    for count in (1, 1, 10):
        before = cpu()
        for _ in range(count):
            looks.look_at(services, "thermo1")
        used.append((cpu() - before) / count)
    return used[0], used[2]


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as name:
        server = ensure_running(Path(name) / "mongodb")
        try:
            few = cpu_of_looks(Path(name) / "few", server.uri, files // 10)
            many = cpu_of_looks(Path(name) / "many", server.uri, files)
        finally:
            server.stop()
    for count, (whole, quiet) in ((files // 10, few), (files, many)):
        print(f"{count} files: {whole:.3f} CPU-s to list, {quiet:.4f} while it stands still")
    print(f"ratio {many[0] / few[0]:.1f} for 10 times the files")


if __name__ == "__main__":
    main()
