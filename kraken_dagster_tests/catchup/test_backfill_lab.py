"""Catching up through Dagster's daemon and Dagit, as users do it."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import PATIENCE_S, Lab

pytestmark = [pytest.mark.lab, pytest.mark.nightly, pytest.mark.timeout(600)]
BAD = [f"s_{number:04d}.raw" for number in (3, 50, 51, 52, 120, 150, 199)]
MOVED = [f"moved_{number}.raw" for number in range(5)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, sensors="stopped")
    folder = lab.home / "instruments" / "thermo1"
    for number in range(200):
        (folder / f"s_{number:04d}.raw").write_bytes(b"%d" % number * 100)
    (folder / "Backup").mkdir()
    for name in MOVED:
        (folder / "Backup" / name).write_bytes(name.encode())
    try:
        lab.up()
        lab.wait_for_dagit()
        yield lab
    finally:
        if lab.process is not None and lab.process.poll() is None:
            lab.stop()


def _ended(lab: Lab, count: int) -> Any:
    """The newest backfill, once all `count` have ended."""

    def found() -> Any:
        backfills = lab.backfills()
        ended = [item for item in backfills if item["status"].startswith("COMPLETED")]
        return backfills[0] if len(ended) == len(backfills) == count else None

    return wait_until(found, "the backfill has ended", timeout_s=PATIENCE_S, every_s=1)


def _counts(backfill: Any) -> dict[str, tuple[int, int]]:
    """How many partitions of each asset were materialised, and how many failed."""
    return {
        item["assetKey"]["path"][1]: (
            item["numPartitionsMaterialized"],
            item["numPartitionsFailed"],
        )
        for item in backfill["assetBackfillData"]["assetBackfillStatuses"]
    }


def test_seven_of_two_hundred_fail_and_succeed_in_a_second_backfill(lab: Lab) -> None:
    folder = lab.home / "instruments" / "thermo1"
    time.sleep(6)  # which is six hours of this laboratory
    (folder / "young.raw").write_bytes(b"young")
    backup = lab.backup / "thermo1" / f"{datetime.now(UTC):%Y_%m}"
    backup.mkdir(parents=True)
    for name in BAD:
        (backup / name).write_bytes(b"something else")

    lab.launch("thermo1_catchup", {})
    first = _ended(lab, 1)
    assert first["status"] == "COMPLETED_FAILED"
    unread = {"raw_metrics": (0, 205)}  # these are no raw files that anybody could read
    assert _counts(first) == {"raw_file": (205, 0), "backup": (198, 7), **unread}
    assert len(first["runs"]) == 1
    for name in BAD:
        file = lab.file(name)
        assert file is not None
        assert file.status is Status.ERROR
        assert "never overwritten" in (file.status_details or "")
    moved = [lab.file(name) for name in MOVED]
    assert {item and item.instrument_file_status for item in moved} == {InstrumentFileStatus.MOVED}
    assert all(item and item.is_backed_up for item in moved)

    for name in BAD:
        (backup / name).unlink()
    lab.launch_backfill(["thermo1/raw_file", "thermo1/backup"], BAD)
    second = _ended(lab, 2)
    assert second["status"] == "COMPLETED_SUCCESS"
    assert _counts(second) == {"raw_file": (7, 0), "backup": (7, 0)}
    assert all(item and item.is_backed_up for item in map(lab.file, BAD))
