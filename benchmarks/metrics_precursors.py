"""The metrics of a big precursors.parquet: our reader against reading the table whole with pandas.

Each runs in a process of its own, in turns; wall time and peak memory count from its start, so that
the imports are in both. Both must give the same metrics.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
ROW_GROUP_ROWS = 1 << 20  # as pandas writes by default
PEPTIDES = 1_000_000
FEATURES = 40  # further columns of single precision, of which AlphaDIA writes about as many
USED = {
    "precursor.sequence",
    "precursor.charge",
    "precursor.proba",
    "pg.intensity",
    "weighted_ms1_intensity",
    "sum_b_ion_intensity",
    "sum_y_ion_intensity",
}
SPREADS = ("charge", "proba", "sequence_len")


def write_table(path: Path, rows: int) -> None:
    """A table with the columns of AlphaDIA 2's precursor table, and values of the same kinds."""
    import numpy as np
    import pyarrow.parquet as pq

    chance = np.random.default_rng(1)
    sequences = peptides(chance)
    writer = None
    for first in range(0, rows, ROW_GROUP_ROWS):
        table = row_group(chance, sequences, first, min(ROW_GROUP_ROWS, rows - first))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def peptides(chance):
    """Sequences of 7 to 30 amino acids."""
    import numpy as np
    import pyarrow as pa

    amino_acids = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", dtype=np.uint8)
    lengths = chance.integers(7, 31, PEPTIDES)
    letters = amino_acids[chance.integers(0, 20, int(lengths.sum()))].tobytes()
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(PEPTIDES, pa.py_buffer(ends), pa.py_buffer(letters))


def row_group(chance, sequences, first: int, rows: int):
    import numpy as np
    import pyarrow as pa

    intensity = chance.lognormal(12, 2, (4, rows))
    proteins = pa.array([f"P{number:05d}" for number in range(10_000)])
    columns = {
        "run": pa.array(["run_1"] * rows, pa.large_string()),
        "precursor.idx": np.arange(first, first + rows, dtype=np.uint32),
        "precursor.decoy": np.zeros(rows, np.uint8),
        "precursor.sequence": sequences.take(pa.array(chance.integers(0, PEPTIDES, rows))),
        "precursor.mods": pa.array([""] * rows, pa.large_string()),
        "precursor.charge": chance.integers(2, 5, rows).astype(np.uint8),
        "precursor.mz.library": chance.uniform(400, 1200, rows).astype(np.float32),
        "precursor.rt.observed": chance.uniform(0, 1260, rows).astype(np.float32),
        "precursor.proba": chance.beta(0.5, 8, rows),
        "precursor.qval": chance.uniform(0, 0.01, rows),
        "pg.name": proteins.take(pa.array(chance.integers(0, len(proteins), rows))),
        "pg.intensity": intensity[0],
        "weighted_ms1_intensity": intensity[1].astype(np.float32),
        "sum_b_ion_intensity": intensity[2].astype(np.float32),
        "sum_y_ion_intensity": intensity[3].astype(np.float32),
    }
    features = chance.standard_normal((FEATURES, rows), dtype=np.float32)
    columns |= {f"feature_{number}": column for number, column in enumerate(features)}
    return pa.table(columns)


def ours(path: Path) -> dict[str, float]:
    from kraken_dagster.metrics.registry import read_metrics

    # The two small files beside it, which are not here, are two problems.
    return dict(read_metrics("alphadia", path.parent).metrics)


def whole(path: Path) -> dict[str, float]:
    import pandas as pd

    table = pd.read_parquet(path)
    both = table["sum_b_ion_intensity"].astype(float) + table["sum_y_ion_intensity"].astype(float)
    metrics = {
        "weighted_ms1_intensity_sum": float(table["weighted_ms1_intensity"].astype(float).sum()),
        "pg:intensity_sum": float(table["pg.intensity"].sum()),
        "precursor_intensity_median": float(both.median()),
    }
    columns = (
        table["precursor.charge"],
        table["precursor.proba"],
        table["precursor.sequence"].str.len(),
    )
    for name, column in zip(SPREADS, columns, strict=True):
        metrics[f"precursor:{name}_mean"] = float(column.mean())
        metrics[f"precursor:{name}_std"] = float(column.std())
        metrics[f"precursor:{name}_median"] = float(column.median())
    return metrics


def decoded(path: Path) -> dict[str, float]:
    """What any reader must do before it computes anything: the columns, decoded."""
    import pyarrow.parquet as pq

    names = [name for name in pq.read_schema(path).names if name in USED]
    pq.read_table(path, columns=names)
    return {}


def in_a_process(function: str, path: Path, rows: int) -> tuple[float, float, dict[str, float]]:
    """Seconds, peak MB, and the metrics of a process that does only this."""
    command = [sys.executable, __file__, str(rows), function, str(path)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - started, usage.ru_maxrss / 1024, json.loads(answer or "{}")


def assert_the_same(one: dict[str, float], other: dict[str, float]) -> None:
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    for name, value in one.items():
        assert math.isclose(value, other[name], rel_tol=1e-9), (name, value, other[name])


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "precursors.parquet"
        # In a process too, because a child's peak is at least what its parent has at its start.
        in_a_process("write", path, rows)
        print(f"{rows} rows, {path.stat().st_size / 1e6:.0f} MB")
        ratios = []
        for _ in range(ROUNDS):
            seconds, megabytes, metrics = in_a_process("ours", path, rows)
            seconds_whole, megabytes_whole, metrics_whole = in_a_process("whole", path, rows)
            assert_the_same(metrics, metrics_whole)
            ratios.append((seconds / seconds_whole, megabytes / megabytes_whole))
            print(
                f"ours {seconds:.2f} s, {megabytes:.0f} MB; whole with pandas "
                f"{seconds_whole:.2f} s, {megabytes_whole:.0f} MB; ratios {ratios[-1][0]:.3f} of "
                f"the time, {ratios[-1][1]:.3f} of the memory"
            )
    time_ratio, memory_ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"median ratios: {time_ratio:.3f} of the time, {memory_ratio:.3f} of the memory")


def child(function: str, path: Path, rows: int) -> None:
    if function == "write":
        write_table(path, rows)
    else:
        print(json.dumps({"ours": ours, "whole": whole, "decoded": decoded}[function](path)))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[1]))
    else:
        main()
