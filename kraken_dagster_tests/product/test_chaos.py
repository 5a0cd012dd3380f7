"""A short fault run over the whole product; `make chaos` has the long ones."""

import dataclasses
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import pytest

from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.chaos.laboratory import ChaosLab
from kraken_dagster_tests.chaos.mounts import mounted_below
from kraken_dagster_tests.chaos.plan import INSTRUMENTS, STORES, make_plan
from kraken_dagster_tests.chaos.report import in_words
from kraken_dagster_tests.chaos.run import ChaosRun


def _needs_root_and_loop_devices() -> None:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        unavailable("no fault run: it mounts file systems, which needs root and loop devices")
    if not os.path.exists("/dev/fuse") or shutil.which("mkfs.ext4") is None:
        unavailable("no fault run: /dev/fuse or mkfs.ext4 is missing")


@pytest.mark.lab
@pytest.mark.fuse
@pytest.mark.timeout(900)
def test_a_short_fault_run_loses_nothing_and_all_is_unmounted_afterwards() -> None:
    _needs_root_and_loop_devices()
    # One folder for a checkout, so that what a killed test has left mounted is found by the next.
    name = f"kraken-chaos-{zlib.crc32(os.fsencode(Path(__file__).parent)):08x}"
    plan = make_plan(seed=3, minutes=0.7, files=8)
    lab = ChaosLab(Path(tempfile.gettempdir()) / name, plan)
    report = ChaosRun(lab).carry_out()
    print(in_words(report))
    assert report["each"] == []
    assert report["files"] == 8
    assert report["faults"] > 0
    assert mounted_below(lab.folder) == []


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    one, other = (make_plan(seed=7, minutes=20, files=150) for _ in range(2))
    assert one == other
    assert one != dataclasses.replace(make_plan(seed=8, minutes=20, files=150), seed=7)


def test_a_long_plan_has_every_kind_of_fault_and_enough_of_everything() -> None:
    plans = [make_plan(seed=seed, minutes=20, files=150) for seed in (1, 2, 3)]
    kinds = {fault.kind for plan in plans for fault in plan.faults}
    assert {"away", "another disk", "empty disk", "full", "read-only", "hangs"} <= kinds
    assert {"kill everything", "delete Dagster's home", "flip in backup", "home full"} <= kinds
    targets = {fault.target for plan in plans for fault in plan.faults}
    assert targets >= {*INSTRUMENTS, *STORES}
    for plan in plans:
        assert len(plan.acquisitions) >= 150
        assert len(plan.faults) >= 60


def test_faults_on_one_thing_do_not_overlap_and_each_ends() -> None:
    ends: dict[str, float] = {}
    for fault in make_plan(seed=5, minutes=20, files=150).faults:
        assert fault.at_s > ends.get(fault.thing, 0.0)
        ends[fault.thing] = fault.at_s + fault.lasts_s


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(SystemExit, match="holds something else"):
        ChaosLab(tmp_path, make_plan(seed=1, minutes=1, files=4)).make()
    assert (tmp_path / "thesis.tex").read_text() == "mine"
