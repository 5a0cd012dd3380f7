"""The program `kraken-rawqc RAW OUTPUT`: quality metrics of raw data, without a vendor's library.

It writes metrics that `raw_metrics` reads, as one row of OUTPUT/msqc_results.tsv, which `msqc`
reads.

Exit codes: 0 written; 1 the raw data is damaged or incomplete, or OUTPUT can't be written; 2 wrong
arguments; 3 raw data in which it can read no scans.
"""

import argparse
import csv
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from kraken_dagster.fs.attributes import Refusals, flush
from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.metrics.msqc import RESULTS_NAME
from kraken_dagster.model.errors import FileFormatError, KrakenError, UnsupportedRawFile
from kraken_dagster.model.metric_values import Value
from kraken_dagster.model.printable import printable
from kraken_dagster.raw_readers.limited import RawReading, read_raw
from kraken_dagster.raw_readers.metrics import LEADING

PROGRAM = "kraken-rawqc"
EXIT_FAILED, EXIT_UNSUPPORTED = 1, 3
_WITHIN_S = 3600.0
_PUMP = "evosep_pump_hp_pressure_max"


def table_row(raw: Path, reading: RawReading) -> dict[str, Value]:
    """The columns of msqc_results.tsv, in their order, and what stands in them.

    Raises:
        UnsupportedRawFile: of these raw data no scans can be read.
        FileFormatError: they are damaged or incomplete.
    """
    if reading.complete is False:
        raise FileFormatError(reading.incomplete)
    if LEADING[0] not in reading.metrics:
        raise UnsupportedRawFile("No scans can be read of such raw data", file=raw)
    names = [*LEADING, *(name for name in (_PUMP,) if name in reading.metrics)]
    return {"raw_file": raw.absolute().name} | {name: reading.metrics[name] for name in names}


def write_results(row: Mapping[str, Value], output: Path) -> Path:
    """Writes msqc_results.tsv in the folder `output`, which is made if need be; its path.

    The table appears under its name when it is complete, in place of an older one.
    """
    output.mkdir(parents=True, exist_ok=True)
    result = output / RESULTS_NAME
    partial = output / f".{RESULTS_NAME}.{uuid.uuid4().hex}.tmp"
    try:
        # a name that is no UTF-8 is no reason for a table that is none
        with partial.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(row)
            writer.writerow(_cell(value) for value in row.values())
            file.flush()
            flush(file.fileno(), Refusals())
        partial.replace(result)
    finally:
        partial.unlink(missing_ok=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program on `argv` (default: the command line); its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    raw, output = arguments.raw, arguments.output
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(raw)):
        parser.error("OUTPUT lies in the raw data, which is never written to")
    _say(f"{PROGRAM} {_version()}")
    try:
        reading = read_raw(raw.absolute(), limits=ReadingLimits(), wall_s=_WITHIN_S)
        row = table_row(raw, reading)
        result = write_results(row, output)
    except UnsupportedRawFile as error:
        return _fail(error, EXIT_UNSUPPORTED)
    except (KrakenError, OSError) as error:
        return _fail(error, EXIT_FAILED)
    _report(row, result)
    return 0


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _report(row: Mapping[str, Value], result: Path) -> None:
    _say(f"raw file: {row['raw_file']!r}")
    for level in ("ms1", "ms2"):
        tic, time = (
            _cell(row[f"{level}_median_{what}"]) or "none" for what in ("tic", "injection_time")
        )
        scans = row[f"{level}_scans"]
        _say(f"{level.upper()}: {scans} scans, median TIC {tic}, median injection time {time} ms")
    _say(f"gradient: {row['gradient_length']:.3f} min")
    _say(f"written: {str(result)!r}")


def _say(line: str) -> None:
    """Prints a line in whatever the terminal or log can show."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _fail(error: Exception, exit_code: int) -> int:
    print(f"{PROGRAM}: {printable(error)}", file=sys.stderr)
    return exit_code


def _version() -> str:
    try:
        return version("kraken-dagster")
    except PackageNotFoundError:  # run from a source tree
        return "(not installed)"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM, description="Quality metrics of raw data: OUTPUT/msqc_results.tsv."
    )
    parser.add_argument(
        "raw", metavar="RAW", type=Path, help="a Thermo .raw or a Bruker .d; only read"
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="a folder; made if need be")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
