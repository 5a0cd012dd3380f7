"""A folder in which nothing happens is not listed at every look; what happens is seen anyway."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from kraken_dagster.acquisition.quiet import QuietLooks
from kraken_dagster.acquisition.watch import FolderScan
from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.model.errors import FolderMissing, InstrumentInDoubt
from kraken_dagster.model.files.folder import Listing
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.helpers import Bench, record


class Counted(Bench):
    """thermo1, by a watcher that lives on; `listed`: how often it listed the folder."""

    def __init__(self, services: Services) -> None:
        super().__init__(services, "thermo1")
        self.services, self.listed = replace(services, lister=self._list), 0
        self.looks = QuietLooks()

    def _list(self, folder: str, *, entries: bool = True, **options: object) -> Listing:
        self.listed += entries
        return list_folder(folder, entries=entries, **options)

    def look(self, **later: float) -> FolderScan:
        self.services.now.forward(**later)
        return self.looks.look_at(self.services, "thermo1")

    def lists(self, **later: float) -> bool:
        """Whether the next look lists the folder."""
        before = self.listed
        self.look(**later)
        return self.listed > before


@pytest.fixture
def bench(services: Services) -> Counted:
    return Counted(services)


@pytest.fixture
def quiet(bench: Counted) -> Counted:
    """With one file that is done, after two looks that saw the same."""
    bench.write("a.raw", 100)
    done = record("a.raw", status=Status.DONE, size=100)
    assert bench.services.store.raw_files.register(done, reason="discovered")
    bench.look()
    bench.look(seconds=30)
    return bench


def test_a_folder_that_stands_still_is_listed_every_five_minutes(quiet):
    assert [quiet.lists(seconds=30) for _ in range(11)] == [*[False] * 9, True, False]


def test_a_quiet_look_is_recorded(quiet):
    quiet.look(seconds=30)
    health = quiet.services.store.health.get("thermo1")
    assert health["updated_at_"] == quiet.services.now()
    assert health["status"] == "ok"
    assert quiet.look().summary().startswith("1 acquisitions in the folder, 0 new")


def test_one_look_is_not_enough_where_times_are_coarse(bench):
    bench.look()
    assert bench.lists(seconds=30)
    assert not bench.lists(seconds=30)


def test_a_new_file_is_registered_at_the_next_look(quiet):
    quiet.look(seconds=30)
    quiet.write("b.raw", 50)
    assert [item.id for item in quiet.look(seconds=30).registered] == ["b.raw"]


def test_an_open_acquisition_is_looked_at_until_it_is_over(quiet):
    quiet.write("b.raw", 50)
    quiet.look(seconds=30)
    assert all(quiet.lists(seconds=30) for _ in range(5))
    quiet.look(minutes=61)
    assert [item.id for item in quiet.look(minutes=61).ended] == ["b.raw"]


def test_what_was_opened_again_in_mongodb_is_looked_at(quiet):
    opened = record("b.raw", created_at_=quiet.services.now())
    assert quiet.services.store.raw_files.register(opened, reason="by another host")
    assert quiet.lists(seconds=30)


def test_another_acquisition_in_the_place_of_a_known_one_is_seen_within_five_minutes(quiet):
    with (quiet.folder / "a.raw").open("ab") as file:  # the folder's mtime stands still
        file.write(b"more")
    found = [item for _ in range(10) for item in quiet.look(seconds=30).registered]
    assert [item.original_name for item in found] == ["a.raw"]


def _goes_away(bench: Counted) -> type[Exception]:
    bench.folder.rename(bench.folder.with_name("elsewhere"))
    return FolderMissing


def _is_retired(bench: Counted) -> type[Exception]:
    now = bench.services.now()
    bench.services.store.instruments.set("thermo1", retired_at=now, retired_by="x", seen_at=now)
    return InstrumentInDoubt


@pytest.mark.parametrize("happens", [_goes_away, _is_retired])
def test_trouble_is_told_at_the_next_look(
    quiet: Counted, happens: Callable[[Counted], type[Exception]]
) -> None:
    quiet.look(seconds=30)
    with pytest.raises(happens(quiet)):
        quiet.look(seconds=30)
    assert quiet.services.store.health.get("thermo1")["status"] == "error"


def test_after_trouble_the_folder_is_listed(quiet):
    quiet.folder.rename(quiet.folder.with_name("elsewhere"))
    with pytest.raises(FolderMissing):
        quiet.look(seconds=30)
    quiet.folder.with_name("elsewhere").rename(quiet.folder)
    assert quiet.lists(seconds=30)
    assert quiet.services.store.health.get("thermo1")["status"] == "ok"


def test_an_instrument_that_somebody_else_found_unwell_is_looked_at(quiet):
    quiet.services.store.health.unwell("thermo1", details="x", now=quiet.services.now())
    assert quiet.lists(seconds=30)


def test_a_clock_that_was_set_back_makes_no_look_quiet(quiet):
    assert quiet.lists(**{"seconds": -timedelta(hours=1).total_seconds()})
