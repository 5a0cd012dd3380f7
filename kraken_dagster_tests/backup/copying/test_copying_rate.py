"""A copy reads no faster from the instrument than it may, all of its threads together."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.backup import making
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.copier import copy_members
from kraken_dagster.backup.copying.plan import CopyPlan, CopyResult
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.copying.copy_file import copy_file
from kraken_dagster.fs.copying.progress import Progress, Stopped
from kraken_dagster.fs.rate_limit import RateLimit, shared_limit
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.backup.copying.copying_cases import Copying, content, make, write
from kraken_dagster_tests.support.files import files_below
from kraken_dagster_tests.support.helpers import acquire, finish

MB_PER_S = 0.1


@dataclass
class FakeTime:
    """Goes on only while somebody sleeps."""

    now: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds


@pytest.fixture(params=Vendor)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Copying:
    return make(tmp_path, request.param)


def limited(time: FakeTime) -> RateLimit:
    return RateLimit(MB_PER_S, clock=time.clock, sleep=time.sleep)


@pytest.mark.parametrize("is_there", [False, True], ids=["copied", "compared"])
def test_what_is_read_takes_its_time(case: Copying, is_there: bool) -> None:
    if is_there:
        case.run()
    time = FakeTime()
    case.run(rate_limit=limited(time))
    size = sum((case.source / name).stat().st_size for name in case.members())
    assert time.now >= size / MB_PER_S / 1e6 - 1e-6
    assert content(case.final) == content(case.source / case.name)


def test_a_large_file_in_stages_takes_its_time_too(tmp_path: Path) -> None:
    source, time = write(tmp_path / "x.raw", 17 * 1024 * 1024), FakeTime()
    progress = Progress(0, rate_limit=limited(time))
    copy_file(source, tmp_path / "copy" / "x.raw", progress=progress)
    assert time.now >= 17 * 1024 * 1024 / MB_PER_S / 1e6 - 1e-3


def test_a_copy_that_waits_is_stopped_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    source, naps = write(tmp_path / "x.raw", 300_000), []
    slow = RateLimit(1e-6, clock=lambda: float(len(naps)), sleep=naps.append)
    with pytest.raises(Stopped):
        copy_file(
            source,
            tmp_path / "copy" / "x.raw",
            progress=Progress(0, rate_limit=slow),
            may_go_on=lambda: len(naps) < 3,
        )
    assert len(naps) == 3
    assert list(files_below(tmp_path / "copy")) == []


def test_all_copies_of_an_instrument_in_a_process_share_its_limit(
    config: KrakenConfig, make_services: Callable[[KrakenConfig], Services], monkeypatch
) -> None:
    slow = config.defaults.model_copy(update={"copy_mb_per_s": 50.0})
    services, limits = make_services(config.model_copy(update={"defaults": slow})), []

    def seen(plan: CopyPlan, **options: Any) -> CopyResult:
        limits.append(plan.rate_limit)
        return copy_members(plan, **options)

    monkeypatch.setattr(making, "copy_members", seen)
    for instrument_id, name in (("thermo1", "x.raw"), ("thermo1", "y.raw"), ("sciex1", "z.wiff")):
        acquire(services, instrument_id, name)
        finish(services, instrument_id)
        back_up(services, name, run_id="r", options=BackupOptions(), by_hand=False)
    assert limits[0] is limits[1] is shared_limit("thermo1", None)
    assert limits[2] is not limits[0]
