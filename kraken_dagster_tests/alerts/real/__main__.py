"""python -m kraken_dagster_tests.alerts.real [--fault NAME ...] [--folder DIR] ...

As root, on a machine with loop devices. Exit code 1 if the judge found anything.
"""

import argparse
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from kraken_dagster_tests.alerts.real.laboratory import AlertsLab
from kraken_dagster_tests.alerts.real.plan import FAULTS
from kraken_dagster_tests.alerts.real.report import in_words
from kraken_dagster_tests.alerts.real.run import AlertsRun


def main() -> int:
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="python -m kraken_dagster_tests.alerts.real")
    parser.add_argument("--fault", action="append", choices=names, help="only this one, or these")
    parser.add_argument("--look-every", type=int, default=10, help="alerts.look_every_s")
    parser.add_argument(
        "--digest-in", type=float, default=6, help="minutes from the start to the digest"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("/var/tmp/kraken-alerts"), help="for everything"
    )
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("it mounts file systems, and must be run as root")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    chosen = tuple(it for it in FAULTS if arguments.fault is None or it.name in arguments.fault)
    lab = AlertsLab(
        arguments.folder,
        look_every_s=arguments.look_every,
        digest_in=timedelta(minutes=arguments.digest_in),
    )
    run = AlertsRun(lab, chosen, say=lambda line: print(line, flush=True))
    report = run.carry_out()
    (lab.folder / "report.json").write_text(json.dumps(report, indent=1))
    print(in_words(report))
    print(f"\nthe report: {lab.folder / 'report.json'}; Kraken's log: {lab.folder / 'kraken.log'}")
    return 1 if report["findings"] else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
