"""What `kraken up` costs while nothing happens: CPU-seconds a minute, memory, code servers.

    .venv/bin/python benchmarks/idle.py [INSTRUMENTS] [MINUTES]

The instruments are looked at as often as by default. Processes that have ended count by their
parents, which have waited for them.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml

KRAKEN = str(Path(sys.executable).with_name("kraken"))
PORT, WEB_PORT = 3997, 3998
SETTLES_S = 150
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main(instruments: int = 3, minutes: float = 4) -> None:
    with tempfile.TemporaryDirectory(prefix="kraken-idle-") as folder:
        config = laboratory(Path(folder), instruments)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
        command = [KRAKEN, "--config", str(config), "up", "--port", str(PORT)]
        command += ["--web-port", str(WEB_PORT)]
        with (
            (Path(folder) / "log").open("w") as log,
            subprocess.Popen(command, env=kept, stdout=log, stderr=log) as process,
        ):
            try:
                time.sleep(SETTLES_S)
                report(Path(folder), minutes)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(120)


def laboratory(folder: Path, instruments: int) -> Path:
    names = [f"tof{number}" for number in range(instruments)]
    for name in (*(f"instruments/{item}" for item in names), "backup", "output"):
        (folder / name).mkdir(parents=True)
    values = {
        "home": "home",
        "locations": {name: str(folder / name) for name in ("instruments", "backup", "output")},
        "defaults": {"sensors": "running"},
        "instruments": {name: {"type": "thermo"} for name in names},
    }
    path = folder / "instruments.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def report(folder: Path, minutes: float) -> None:
    began, before = time.monotonic(), {path: cpu_s(path) for path in ours(folder)}
    servers, memory = [], []
    while time.monotonic() - began < minutes * 60:
        time.sleep(5)
        lines = [(folder_ / "cmdline").read_bytes() for folder_ in ours(folder)]
        servers.append(sum(b"\0grpc\0" in line for line in lines))
        memory.append(pss_mb(folder))
    used = {path: cpu_s(path) - before.get(path, 0) for path in ours(folder)}
    print(f"CPU-s a minute: {sum(used.values()) / minutes:.1f}")
    print(f"code servers: {min(servers)} to {max(servers)}")
    print(f"PSS: {sorted(memory)[len(memory) // 2]:.0f} MB, at most {max(memory):.0f} MB")
    for path in ours(folder):
        words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:150]
        a_minute = used.get(path, 0) / minutes
        print(f"  {a_minute:5.2f} CPU-s a minute {pss_kb(path) / 1024:5.0f} MB  {words}")


def ours(folder: Path) -> Iterator[Path]:
    wanted = os.fsencode(folder)
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            said = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
            if wanted in said and path.name != str(os.getpid()):
                yield path


def cpu_s(path: Path) -> float:
    """Of a process, and of those below it that have ended."""
    with suppress(OSError):
        fields = (path / "stat").read_text().rpartition(")")[2].split()
        return sum(int(item) for item in fields[11:15]) / TICKS_PER_S
    return 0.0


def pss_kb(path: Path) -> int:
    with suppress(OSError):
        for line in (path / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def pss_mb(folder: Path) -> float:
    return sum(pss_kb(path) for path in ours(folder)) / 1024


if __name__ == "__main__":
    main(*(int(item) for item in sys.argv[1:]))
