"""A stand-in for a search program in the demonstration. It is a SIMULATION: no search is made.

    python -m kraken_dagster.simulation.search_program [--state DIR] RAW OUTPUT

RAW is one file of a simulated Thermo or Sciex instrument. In the folder OUTPUT it leaves tables in
the form of AlphaDIA 2 (`stat.tsv`, `internal.tsv`, `precursors.parquet`) with metrics drawn from
the file's size and digest: equal bytes give equal metrics, and they mean nothing. `stat.tsv`
counts more precursors than the table, a sample, has rows. Both `log.txt`, which is appended to,
and stdout say that this is a simulation.

Exit codes: 0 written; 1 RAW can't be read or OUTPUT not be written; 2 wrong arguments; 7 RAW's
name contains `_FAIL_`, as a search that fails, or `_PRACTICE_`, and it is the first time by what
stands in the folder DIR.
"""

import argparse
import csv
import hashlib
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kraken_dagster.simulation.plans import PRACTICE_MARK

NOTICE = "SIMULATION: no search was made; all metrics are invented."
FAIL_MARK = "_FAIL_"
PRACTICE_NOTICE = "fails the first time, on purpose: `kraken retry` it, and it succeeds"
EXIT_FAILED, EXIT_SIMULATED_FAILURE = 1, 7
SAMPLE_ROWS = 400

_AMINO_ACIDS = "ADEFGHILMNPQSTVWY"


@dataclass(frozen=True)
class RawFacts:
    """What the invented metrics derive from."""

    name: str
    size_bytes: int
    sha256: str


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stand-in on `argv` (default: the command line); its exit code."""
    parser = argparse.ArgumentParser(prog="standin", description=NOTICE)
    parser.add_argument("raw", metavar="RAW", type=Path)
    parser.add_argument("output", metavar="OUTPUT", type=Path)
    parser.add_argument("--state", metavar="DIR", type=Path)
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments.raw, arguments.output, arguments.state)
    except OSError as error:
        print(f"standin: {error}", file=sys.stderr)
        return EXIT_FAILED


def read_facts(raw: Path) -> RawFacts:
    """Size and digest of the file, which is read once and never as a whole; OSError if it can't."""
    with raw.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return RawFacts(raw.name, file.tell(), digest)


def write_results(facts: RawFacts, output: Path) -> None:
    """Writes the three tables into the folder `output`, in place of older ones."""
    chance = random.Random(facts.sha256)  # noqa: S311  # noise, no secret
    _write_row(output / "stat.tsv", _stat(facts, chance))
    _write_row(output / "internal.tsv", _internal(facts, chance))
    _write_precursors(output / "precursors.parquet", chance)


def _run(raw: Path, output: Path, state: Path | None) -> int:
    output.mkdir(parents=True, exist_ok=True)
    # the job's own script may have written to it before
    with (output / "log.txt").open("a", encoding="utf-8") as log:
        _say(f"INFO: {NOTICE}", log, sys.stdout)
        if FAIL_MARK in raw.name:
            _say(f"ERROR: {raw.name!a} fails, as its name says. {NOTICE}", log, sys.stderr)
            return EXIT_SIMULATED_FAILURE
        if state is not None and _is_first_time(raw, state):
            _say(f"ERROR: {raw.name!a}: {PRACTICE_NOTICE}", log, sys.stderr)
            return EXIT_SIMULATED_FAILURE
        facts = read_facts(raw)
        _say(f"INFO: {facts.name!a}: {facts.size_bytes} bytes", log, sys.stdout)
        write_results(facts, output)
        _say(f"INFO: tables written. {NOTICE}", log, sys.stdout)
    return 0


def _is_first_time(raw: Path, state: Path) -> bool:
    """Whether it is a file to practise on that no search has seen before; from now on one has."""
    if PRACTICE_MARK not in raw.name:
        return False
    state.mkdir(parents=True, exist_ok=True)
    seen = state / raw.name
    if seen.exists():
        return False
    seen.touch()
    return True


def _stat(facts: RawFacts, chance: random.Random) -> dict[str, object]:
    # more data, more identifications, the less so the more there is
    yield_of_size = 0.5 + 0.5 * min(1.0, math.log2(facts.size_bytes + 1) / 30)
    proteins = int(max(500.0, chance.gauss(7000, 500)) * yield_of_size)
    return {
        "raw.name": Path(facts.name).stem,
        "raw.gradient_length": round(chance.gauss(1253, 8), 2),  # seconds
        "search.channel": 0,
        "search.precursors": int(proteins * chance.uniform(11.5, 13.5)),
        "search.proteins": proteins,
        "search.fwhm_rt": round(chance.uniform(2.8, 3.8), 4),
        "optimization.ms2_error": round(chance.uniform(6, 9), 3),
        "optimization.ms1_error": round(chance.uniform(4, 7), 3),
        "optimization.rt_error": round(chance.uniform(60, 120), 3),
        "calibration.ms2_bias": round(chance.gauss(0.3, 0.2), 4),
        "calibration.ms1_bias": round(chance.gauss(0.5, 0.3), 4),
    }


def _internal(facts: RawFacts, chance: random.Random) -> dict[str, object]:
    load, optimization, extraction = (chance.uniform(5, 60) for _ in range(3))
    return {
        "run": Path(facts.name).stem,
        "duration_total": load + optimization + extraction,
        "duration_load": load,
        "duration_optimization": optimization,
        "duration_extraction": extraction,
    }


def _write_row(path: Path, row: Mapping[str, object]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(row)
        writer.writerow(row.values())


def _write_precursors(path: Path, chance: random.Random) -> None:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows = range(SAMPLE_ROWS)
    table = pa.table(
        {
            "precursor.sequence": [_peptide(chance) for _ in rows],
            "precursor.charge": [chance.choices((2, 3, 4), (6, 3, 1))[0] for _ in rows],
            "precursor.proba": [chance.betavariate(1, 60) for _ in rows],
            "weighted_ms1_intensity": [chance.lognormvariate(12, 1.5) for _ in rows],
            "pg.intensity": [chance.lognormvariate(14, 1.5) for _ in rows],
            "sum_b_ion_intensity": [chance.lognormvariate(2, 0.8) for _ in rows],
            "sum_y_ion_intensity": [chance.lognormvariate(2.6, 0.8) for _ in rows],
        }
    )
    pq.write_table(table, path)


def _peptide(chance: random.Random) -> str:
    length = min(30, 7 + int(chance.expovariate(1 / 6)))
    return "".join(chance.choices(_AMINO_ACIDS, k=length - 1)) + chance.choice("KR")


def _say(line: str, *files: TextIO) -> None:
    for file in files:
        print(line, file=file, flush=True)


if __name__ == "__main__":
    sys.exit(main())
