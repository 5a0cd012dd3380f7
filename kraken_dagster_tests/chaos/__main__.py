"""python -m kraken_dagster_tests.chaos --seed 1 --minutes 20 --files 150 [--folder DIR]

As root, on a machine with loop devices and FUSE. Exit code 1 if the judge found anything.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from kraken_dagster_tests.chaos.laboratory import ChaosLab
from kraken_dagster_tests.chaos.plan import make_plan
from kraken_dagster_tests.chaos.report import in_words, write
from kraken_dagster_tests.chaos.run import ChaosRun, default_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kraken_dagster_tests.chaos")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20, help="in which faults come")
    parser.add_argument("--files", type=int, default=150, help="at least so many acquisitions")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="for everything")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("it mounts file systems, and must be run as root")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    plan = make_plan(seed=arguments.seed, minutes=arguments.minutes, files=arguments.files)
    lab = ChaosLab(arguments.folder, plan)
    report = ChaosRun(lab, say=lambda line: print(line, flush=True)).carry_out()
    write(report, lab.folder / "report.json")
    print(in_words(report))
    print(f"\nthe report: {lab.folder / 'report.json'}; Kraken's log: {lab.folder / 'kraken.log'}")
    return 1 if report["each"] else 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
