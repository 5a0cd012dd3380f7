"""Which backups a verification reads, in which order, and how it goes on where it was stopped."""

from collections.abc import Iterator

import pytest
from bson import ObjectId

from kraken_dagster.backup.scrub import Selection, begin, scrub_due, verify_all
from kraken_dagster.backup.verify import Verdict, VerifyOutcome
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import BackupUnwritable, UnknownRawFile
from kraken_dagster_tests.retention.retention_cases import done, fields, flip_a_bit

NAMES = ["a.raw", "b.raw", "c.raw"]


@pytest.fixture
def three(services):
    """Files with proofs of three ages, oldest first; each a day after the one before."""
    for name in NAMES:
        done(services, "thermo1", name)
        services.now.forward(days=1)
    return services


def outcomes(services, selection: Selection) -> Iterator[VerifyOutcome]:
    return verify_all(services, begin(services, selection), run_id="v", rate_limit=RateLimit())


def ids(found) -> list[str]:
    return [item.raw_file_id for item in found]


def test_everything_is_read_oldest_proof_first(three):
    found = list(outcomes(three, Selection()))
    assert ids(found) == NAMES
    assert {item.verdict for item in found} == {Verdict.VERIFIED}


def test_files_without_a_recorded_proof_come_first(three):
    collection = three.store._database["raw_file"]
    collection.update_one({"_id": "c.raw"}, {"$unset": {"verified_at": ""}})
    assert begin(three, Selection()).todo == ("c.raw", "a.raw", "b.raw")


def test_a_selection_is_by_id_by_instrument_or_by_the_age_of_the_proof(three):
    done(three, "bruker1", "x.d")
    assert begin(three, Selection(raw_file_ids=("c.raw", "a.raw"))).todo == ("a.raw", "c.raw")
    assert begin(three, Selection(instruments=("bruker1",))).todo == ("x.d",)
    age = (three.now() - fields(three, "b.raw")["verified_at"]).total_seconds() / 86_400
    assert begin(three, Selection(older_than_days=age)).todo == ("a.raw",)
    assert begin(three, Selection(older_than_days=1e9)).todo == ()
    with pytest.raises(UnknownRawFile):
        begin(three, Selection(raw_file_ids=("nobody.raw",)))


def test_one_that_was_stopped_goes_on_where_it_was(three):
    found = outcomes(three, Selection())
    assert next(found).raw_file_id == "a.raw"
    three.now.forward(minutes=1)
    assert next(found).raw_file_id == "b.raw"
    found.close()
    three.now.forward(days=1)
    again = begin(three, Selection())
    assert (again.todo, again.resumed) == (("c.raw",), True)
    assert not begin(three, Selection(instruments=("thermo1",))).resumed
    assert ids(verify_all(three, again, run_id="v", rate_limit=RateLimit())) == ["c.raw"]
    three.now.forward(minutes=1)
    anew = begin(three, Selection())
    assert (len(anew.todo), anew.resumed) == (3, False)


def test_one_that_was_forgotten_for_a_week_begins_anew(three):
    found = outcomes(three, Selection())
    next(found)
    found.close()
    three.now.forward(days=8)
    assert len(begin(three, Selection()).todo) == 3


def test_a_mismatch_stops_nothing(three):
    raw_file = three.store.raw_files.get("a.raw")
    flip_a_bit(three.backup_folder(raw_file) / "a.raw")
    found = list(outcomes(three, Selection()))
    assert [item.verdict for item in found] == ["mismatch", "verified", "verified"]


def test_what_is_named_is_read_although_one_was_stopped_after_it(three):
    for _ in range(2):
        found = outcomes(three, Selection(raw_file_ids=("a.raw", "b.raw")))
        assert next(found).raw_file_id == "a.raw"
        found.close()
        three.now.forward(minutes=1)
        three.store.retention.proven(three.store.raw_files.get("b.raw"), now=three.now())
        three.store.retention.proven(three.store.raw_files.get("a.raw"), now=three.now())
        named = begin(three, Selection(raw_file_ids=("a.raw", "b.raw")))
        assert (len(named.todo), named.resumed) == (2, False)
        three.now.forward(minutes=1)


@pytest.mark.parametrize("name", ["odd", ObjectId()])
def test_a_document_under_an_odd_id_stops_nothing(three, name):
    document = {**fields(three, "b.raw"), "_id": name, "file_info": {"odd": [3.0, "0" * 32]}}
    document.pop("verified_at")
    three.store._database["raw_file"].insert_one(document)
    found = list(outcomes(three, Selection(instruments=("thermo1",))))
    assert [item.verdict for item in found] == ["unreadable", *["verified"] * 3]


def test_a_mismatch_is_told_again_by_one_that_goes_on(three):
    raw_file = three.store.raw_files.get("a.raw")
    flip_a_bit(three.backup_folder(raw_file) / "a.raw")
    found = outcomes(three, Selection())
    assert next(found).verdict is Verdict.MISMATCH
    assert next(found).verdict is Verdict.VERIFIED
    three.now.forward(minutes=1)
    found.close()
    found = list(outcomes(three, Selection()))
    assert ids(found) == ["a.raw", "c.raw"]
    assert [item.verdict for item in found] == ["mismatch", "verified"]


def test_a_store_that_goes_away_stops_it_and_it_goes_on_later(three):
    found = outcomes(three, Selection())
    next(found)
    root = three.config.locations.backup.path
    root.rename(root.with_name("away"))
    three.now.forward(minutes=1)
    with pytest.raises(BackupUnwritable):
        next(found)
    root.with_name("away").rename(root)
    assert begin(three, Selection()).todo == ("b.raw", "c.raw")


def test_what_is_due_for_the_scrub_is_what_was_not_proven_for_so_long(three):
    now = three.now()
    assert scrub_due(three, now) == []
    assert ids(scrub_due(three, now, every_days=1e-9)) == NAMES
    three.now.forward(days=three.config.defaults.scrub_every_days - 3)
    due = ids(scrub_due(three, three.now()))
    assert due == NAMES[: len(due)]
    three.now.forward(days=200)
    assert ids(scrub_due(three, three.now())) == NAMES
