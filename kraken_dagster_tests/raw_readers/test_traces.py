"""Traces are small, keep what matters, and are files that numpy reads."""

import random
from array import array
from pathlib import Path

import numpy as np
import pytest

from kraken_dagster.model.errors import FileFormatError
from kraken_dagster.raw_readers import thermo
from kraken_dagster.raw_readers.contents import Trace
from kraken_dagster.raw_readers.traces import decimated, read_npz, to_npz, traces_of
from kraken_dagster_tests.raw_readers.real_files import small_raw


def trace(values: list[float]) -> Trace:
    return Trace("tic", "arbitrary", array("d", range(len(values))), array("d", values))


@pytest.mark.parametrize("count", [0, 1, 1999, 2000, 2001, 3999, 150_000])
def test_a_trace_has_at_most_2000_points_and_keeps_its_extremes(count: int) -> None:
    chance = random.Random(count)
    whole = trace([chance.random() for _ in range(count)])
    found = decimated(whole)
    assert len(found.values) == len(found.rt_min) == min(count, len(found.values)) <= 2000
    assert sorted(found.rt_min) == list(found.rt_min)
    assert [whole.values[int(rt)] for rt in found.rt_min] == list(found.values)
    if count:
        assert {min(whole.values), max(whole.values)} <= set(found.values)


def test_one_scan_without_spray_among_many_is_kept() -> None:
    values = [1000.0] * 100_000
    values[54_321] = 0.0
    assert min(decimated(trace(values)).values) == 0


def test_numpy_reads_what_is_written_and_so_do_we(tmp_path: Path) -> None:
    raw, path = tmp_path / "small.RAW", tmp_path / "x.npz"
    raw.write_bytes(small_raw())
    traces = traces_of(thermo.read(raw))
    path.write_bytes(to_npz(traces))
    ours = read_npz(path)
    with np.load(path, allow_pickle=False) as arrays:
        endings = ("", "_rt_min", "_unit", "_title")
        assert sorted(arrays) == sorted(f"{t.name}{end}" for t in traces for end in endings)
        for one in traces:
            assert arrays[one.name].tolist() == list(one.values) == list(ours[one.name].values)
            assert arrays[f"{one.name}_rt_min"].tolist() == list(ours[one.name].rt_min)
    assert [len(one.values) for one in traces] == [14, 14, 34]


@pytest.mark.parametrize("title", ["Evosep HP [bar]", "D\xe4mpfer \U0001f9ea", ""])
def test_units_and_titles_are_kept_with_the_values(tmp_path: Path, title: str) -> None:
    path = tmp_path / "x.npz"
    rt, values = array("d", [0.1]), array("d", [300.0])
    path.write_bytes(to_npz([Trace("pressure_1", "bar", rt, values, title), trace([1])]))
    found = read_npz(path)
    assert found["pressure_1"] == Trace("pressure_1", "bar", rt, values, title)
    assert (found["tic"].unit, found["tic"].title) == ("arbitrary", "")
    with np.load(path, allow_pickle=False) as arrays:
        assert (str(arrays["pressure_1_unit"]), str(arrays["pressure_1_title"])) == ("bar", title)


def test_what_numpy_writes_we_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", tic=np.arange(3.0), tic_rt_min=np.arange(3.0))
    found = read_npz(tmp_path / "x.npz")["tic"]
    assert (list(found.values), found.unit) == ([0, 1, 2], "")  # as a file of before units


@pytest.mark.parametrize("damage", ["no zip", "cut", "integers"])
def test_a_damaged_file_of_traces_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.npz"
    if damage == "integers":
        np.savez(path, tic=np.arange(3), tic_rt_min=np.arange(3))
    else:
        path.write_bytes(b"x" if damage == "no zip" else to_npz([trace([1, 2])])[:-30])
    with pytest.raises(FileFormatError, match="not a trace file"):
        read_npz(path)
