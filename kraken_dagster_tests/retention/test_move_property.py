"""Whatever stands in an instrument's folder and in `Backup`: a move loses no byte of it."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.files.vendors import RULES, Vendor
from kraken_dagster.retention.archiving.rename import MovePlan, archive_members
from kraken_dagster_tests.retention.test_purge_property import (
    IDS,
    MEMBERS,
    Bench,
    bench,
    blows,
    strike,
)

CASES = 1_000
done: Counter[str] = Counter()


@dataclass
class Instrument(Bench):
    """The same damage, to the instrument's folder on one side and to `Backup` on the other."""

    @property
    def aside(self) -> Path:
        return self.root / "instrument"

    @property
    def backup(self) -> Path:
        return self.root / "instrument" / "Backup"


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    vendor=st.sampled_from(Vendor),
    seeds=st.lists(st.binary(max_size=12), min_size=4, max_size=4),
    already=st.sets(st.integers(0, 3)),
    still=st.sets(st.integers(0, 3)),
    struck=st.lists(blows, max_size=3),
    has_record=st.booleans(),
)
@example(
    vendor=Vendor.BRUKER,
    seeds=[b"a"] * 4,
    already=set(),
    still={0, 1, 2, 3},
    struck=[],
    has_record=True,
)
def nothing_is_lost(*, vendor, seeds, already, still, struck, has_record) -> None:
    contents = dict(zip(MEMBERS[vendor], seeds, strict=False))
    with bench(vendor, contents) as empty:
        made = Instrument(empty.root, vendor, empty.recorded)
        for number, name in enumerate(MEMBERS[vendor]):
            if number in still:
                (made.aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(made.backup / name, made.aside / name)
            if number not in already:
                (made.backup / name).unlink()
        for top in [path for path in made.backup.iterdir() if path.is_dir()]:
            if not any(path.is_file() for path in top.rglob("*")):
                shutil.rmtree(top)
        for blow in struck:
            strike(made, blow)
        sizes = {name: fact.size or 0 for name, fact in made.recorded.items() if has_record}
        main = len(contents[RULES[vendor].main_file(IDS[vendor])])
        plan = MovePlan(made.aside, vendor, IDS[vendor], IDS[vendor], sizes, main)
        before = made.snapshot()
        try:
            archive_members(plan, may_go_on=lambda: True)
            done["moved"] += 1
        except KrakenError as error:
            done["refused"] += 1
            event(type(error).__name__)
        after = made.snapshot()
    assert sorted(after.values()) == sorted(before.values())
    for path, content in before.items():
        if "/Backup/" in path:
            assert after[path] == content  # what was moved earlier stays as it is


@pytest.mark.timeout(300)
def test_a_move_loses_no_byte_and_replaces_nothing() -> None:
    done.clear()
    nothing_is_lost()
    assert done["moved"] > CASES // 20
    assert done["refused"] > CASES // 10
