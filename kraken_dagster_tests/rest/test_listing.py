"""Files in pages: every one once and in order, whatever their dates and the size of a page."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from kraken_dagster.store.connection import Store
from kraken_dagster.store.listing import INDEXES

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
DATES = [
    *(NOW - number * 17 * _MINUTE for number in range(20)),
    *(NOW - timedelta(days=number**2, hours=number) for number in range(1, 15)),
    *([NOW - timedelta(days=40)] * 9),  # of one moment
    *(NOW + number * timedelta(days=50) for number in range(4)),  # a clock that is wrong
    datetime(1601, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    datetime(9999, 12, 30, tzinfo=UTC),
]
NEWEST_FIRST = sorted(((at, f"{at.day}_{i}.raw") for i, at in enumerate(DATES)), reverse=True)


@pytest.fixture
def files(store: Store, mongodb_uri: str) -> Store:
    documents: list[dict[str, Any]] = [
        {"_id": name, "created_at": at, "instrument_id": f"i{place % 3}"}
        for place, (at, name) in enumerate(NEWEST_FIRST)
    ]
    documents += [{"_id": "undated.raw"}, {"_id": "text.raw", "created_at": "2026-01-01"}]
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        collection = client.get_default_database()["raw_file"]
        for index in INDEXES:  # as in a database of before
            collection.drop_index(index.document["name"])
        collection.insert_many(documents)
    return store


def _listed(files: Store, query: dict[str, Any], **more: Any) -> list[tuple[datetime, str]]:
    batches = files.listing.newest_first(query, fields=["instrument_id"], now=NOW, **more)
    return [(item["created_at"], item["_id"]) for batch in batches for item in batch]


def test_every_file_comes_once_newest_first_and_goes_on_after_any(files: Store) -> None:
    for with_indexes in (False, True):
        if with_indexes:
            files.listing.make_indexes()
        for batch in (1, 7, 1000):
            assert _listed(files, {}, batch=batch) == NEWEST_FIRST
        for place in range(0, len(NEWEST_FIRST), 4):
            found = _listed(files, {}, batch=5, after=NEWEST_FIRST[place])
            assert found == NEWEST_FIRST[place + 1 :]


def test_conditions_hold_in_every_period(files: Store) -> None:
    own = NEWEST_FIRST[1::3]
    assert _listed(files, {"instrument_id": {"$in": ["i1"]}}, batch=4) == own
    two = [item for place, item in enumerate(NEWEST_FIRST) if place % 3 != 0]
    assert _listed(files, {"instrument_id": {"$in": ["i1", "i2"]}}, batch=4) == two
    assert _listed(files, {"instrument_id": {"$in": []}}, batch=4) == []
    for low, high in ((NOW - timedelta(days=41), NOW), (DATES[5], DATES[5]), (NOW, DATES[5])):
        query = {"created_at": {"$gte": low, "$lte": high}}
        within = [item for item in NEWEST_FIRST if low <= item[0] <= high]
        assert _listed(files, query, batch=4) == within
        assert _listed(files, query, batch=4, after=NEWEST_FIRST[0]) == within
        assert _listed(files, query, batch=4, after=NEWEST_FIRST[-1]) == []
