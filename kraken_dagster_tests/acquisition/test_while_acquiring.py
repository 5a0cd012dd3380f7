"""While an instrument writes an acquisition, its other files are copied slower, or not at all."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from kraken_dagster.acquisition.defs import _without_later
from kraken_dagster.acquisition.watch import due_for_backup
from kraken_dagster.backup import making
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.backup.outcome import BackupOutcome
from kraken_dagster.backup.pace import Pace
from kraken_dagster.config.copying import WhileAcquiring
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.model.files.dates import local
from kraken_dagster.monitoring.being_written import written_now
from kraken_dagster.monitoring.waiting import what_they_wait_for
from kraken_dagster.operations.report import status
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.helpers import Bench

WithOptions = Callable[..., Services]


@pytest.fixture
def with_options(
    config: KrakenConfig, make_services: Callable[[KrakenConfig], Services]
) -> WithOptions:
    def made(while_acquiring: WhileAcquiring, **options: object) -> Services:
        changes = {"copy_while_acquiring": while_acquiring, **options}
        defaults = config.defaults.model_copy(update=changes)
        return make_services(config.model_copy(update={"defaults": defaults}))

    return made


@pytest.fixture
def not_then(with_options: WithOptions) -> Services:
    return with_options(WhileAcquiring.NO)


def next_begins(services: Services, instrument_id: str = "thermo1") -> Bench:
    """`a` is over, because `b` has begun, which is still written."""
    bench = Bench(services, instrument_id)
    ending = services.rules(instrument_id).extension
    bench.write(f"a{ending}", 1000)
    bench.scan()
    bench.scan(minutes=1)
    bench.write(f"b{ending}", 100)
    bench.scan(minutes=1)
    assert bench.status(f"a{ending}") == "monitoring_done"
    return bench


def by_sensor(services: Services, name: str = "a.raw") -> BackupOutcome:
    return back_up(services, name, run_id="s", options=BackupOptions(), by_hand=False)


def waits_for(services: Services, name: str = "a.raw") -> str | None:
    return what_they_wait_for(services, [services.store.raw_files.get(name)])[name]


def requested(services: Services, instrument_id: str = "thermo1") -> list[str]:
    """What a tick of the watcher goes on with."""
    due = due_for_backup(services.store, instrument_id, services.now())
    return [item.id for item in _without_later(services, instrument_id, due)[0]]


def test_by_default_nothing_waits_for_an_acquisition(services):
    next_begins(services)
    assert requested(services) == ["a.raw"]
    assert by_sensor(services).done


def test_a_finished_file_is_not_copied_while_the_next_is_written_and_says_so(not_then):
    bench = next_begins(not_then)
    began_at = not_then.now()
    for size in (200, 300, 400):
        bench.write("b.raw", size)
        bench.scan(minutes=9)
        outcome = by_sensor(not_then)
        assert (outcome.done, requested(not_then)) == (False, [])
        until = not_then.store.raw_files.get("a.raw").acquisition["ended_at"] + timedelta(hours=24)
        now = not_then.now()
        assert waits_for(not_then) == outcome.reason
        assert outcome.reason == (
            f"another file is being acquired: 'b.raw', since {local(began_at, now=now)}; it is "
            f"copied once none is, at the latest at {local(until, now=now)}"
        )
    assert bench.status("a.raw") == "monitoring_done"
    assert not list(not_then.config.locations.backup.path.rglob("a.raw"))


def test_status_tells_how_many_files_wait_and_for_which(not_then):
    bench = next_begins(not_then)
    began_at = local(not_then.now())
    thermo, *others = status(not_then)["instruments"]
    told = f"1 to be copied once no other is being acquired, as 'b.raw' is since {began_at[11:]}"
    assert thermo["details"].endswith(f"; {told}")
    assert not any("to be copied" in str(item["details"]) for item in others)
    assert bench.status("a.raw") == "monitoring_done"
    assert by_sensor(not_then).done is False
    not_then.now.forward(minutes=11)
    assert "to be copied" not in status(not_then)["instruments"][0]["details"]


def test_it_is_copied_once_nothing_is_written_though_nobody_knows_yet_that_the_next_is_over(
    not_then,
):
    bench = next_begins(not_then)
    bench.write("b.raw", 200)
    bench.scan(minutes=5)
    bench.scan(minutes=9)
    assert requested(not_then) == []
    bench.scan(minutes=2)
    assert bench.status("b.raw") == "monitoring_acquisition"
    assert requested(not_then) == ["a.raw"]
    assert "its copy is due" in waits_for(not_then)
    assert by_sensor(not_then).done


def test_an_acquisition_that_never_ends_starves_nobody(not_then):
    bench, copied_after = next_begins(not_then), None
    for hour in range(1, 30):
        for part in range(10):
            bench.write("b.raw", 1000 * hour + part)
            bench.scan(minutes=6)
        if by_sensor(not_then).done:
            copied_after = hour
            break
        assert hour < 24
    assert copied_after == 24
    assert bench.status("b.raw") == "monitoring_acquisition"
    assert written_now(not_then, "thermo1").raw_file_id == "b.raw"


def test_one_after_the_other_each_waits_its_own_time_at_the_longest(with_options):
    """Acquisitions without a pause: every file is copied when its own time has come."""
    services = with_options(WhileAcquiring.NO, copy_at_the_latest_after_h=2)
    bench, copied = Bench(services, "thermo1"), {}
    for number in range(12):  # half an hour each
        for part in range(6):
            bench.write(f"{number:02}.raw", 100 * (part + 1))
            bench.scan(minutes=5)
            for name in set(requested(services)) - copied.keys():
                assert by_sensor(services, name).done
                ended_at = services.store.raw_files.get(name).acquisition["ended_at"]
                copied[name] = services.now() - ended_at
    assert len(copied) >= 6
    assert all(timedelta(hours=2) <= it < timedelta(hours=2.2) for it in copied.values())


def test_a_person_s_run_waits_for_nothing(not_then):
    next_begins(not_then)
    assert back_up(not_then, "a.raw", run_id="p", options=BackupOptions(), by_hand=True).done


def test_a_disk_that_is_short_of_space_waits_for_nothing(not_then):
    short = not_then.config.options.model_copy(update={"min_free_space_gb": 1e9})
    services = replace(not_then, config=not_then.config.model_copy(update={"options": short}))
    next_begins(services)
    assert services.store.health.get("thermo1")["free_space_gb"] < 1e9
    assert requested(services) == ["a.raw"]
    assert by_sensor(services).done


def test_where_nobody_looks_any_more_nothing_waits(not_then):
    """A watcher that was switched off, or whose folder is away, leaves what it saw last."""
    next_begins(not_then)
    assert requested(not_then) == []
    not_then.now.forward(minutes=11)
    assert requested(not_then) == ["a.raw"]


@pytest.mark.parametrize("while_acquiring", [WhileAcquiring.NO, WhileAcquiring.LIMITED])
def test_another_instrument_is_neither_slowed_nor_kept_waiting(with_options, while_acquiring):
    services = with_options(while_acquiring)
    other = Bench(services, "bruker1")
    other.write("o.d", 1000)
    for _ in range(3):
        other.scan(minutes=61)
    next_begins(services)
    assert written_now(services, "thermo1").raw_file_id == "b.raw"
    assert written_now(services, "bruker1") is None
    assert Pace(services, "thermo1")() == 25
    assert Pace(services, "bruker1")() is None
    assert requested(services, "bruker1") == ["o.d"]
    assert by_sensor(services, "o.d").done


@pytest.mark.parametrize(
    ("limit", "slow", "expected"), [(None, 7.0, 7.0), (50.0, 7.0, 7.0), (5.0, 7.0, 5.0)]
)
def test_the_limit_of_the_hour_is_never_exceeded(with_options, limit, slow, expected):
    options = {"copy_mb_per_s": limit, "copy_mb_per_s_while_acquiring": slow}
    services = with_options(WhileAcquiring.LIMITED, **options)
    assert Pace(services, "thermo1")() == limit
    next_begins(services)
    assert Pace(services, "thermo1")() == expected
    services.now.forward(minutes=11)
    assert Pace(services, "thermo1")() == limit


@pytest.mark.parametrize("while_acquiring", [WhileAcquiring.NO, WhileAcquiring.LIMITED])
def test_a_copy_that_runs_when_the_next_acquisition_begins_goes_on_slower(
    with_options, monkeypatch, while_acquiring
):
    """1 MB/s, and a tenth of it from the fifth second on at the latest."""
    options = {"copy_mb_per_s": 1.0, "copy_mb_per_s_while_acquiring": 0.1}
    services = with_options(while_acquiring, **options)
    bench = Bench(services, "thermo1")
    bench.write("a.raw", 12_000_000)
    for _ in range(3):
        bench.scan(minutes=61)
    seconds = [0.0]

    def sleep(nap: float) -> None:
        seconds[0] += nap
        if "b.raw" not in bench.statuses() and seconds[0] >= 1:
            bench.write("b.raw", 100)
            bench.scan(minutes=1)

    def limit(name: str, _rate: object) -> RateLimit:
        pace = Pace(services, name, clock=lambda: seconds[0])
        return RateLimit(pace, clock=lambda: seconds[0], sleep=sleep)

    monkeypatch.setattr(making, "shared_limit", limit)
    assert by_sensor(services).done
    assert 1 + 11 / 0.1 >= seconds[0] >= 6 + 6 / 0.1 - 1


def test_where_mongodb_can_not_be_asked_the_last_answer_holds(with_options, monkeypatch):
    services, seconds = with_options(WhileAcquiring.LIMITED), [0.0]
    next_begins(services)
    pace = Pace(services, "thermo1", clock=lambda: seconds[0])
    assert pace() == 25
    away = SimpleNamespace(
        raw_files=SimpleNamespace(in_status=lambda *_: (_ for _ in ()).throw(StoreUnavailable("?")))
    )
    pace._services = SimpleNamespace(
        instrument=services.instrument, now=services.now, store=away, config=services.config
    )
    services.now.forward(minutes=11)
    seconds[0] += 60
    assert pace() == 25
    pace._services = services
    assert pace() == 25  # it is asked again some seconds later
    seconds[0] += 5
    assert pace() is None
