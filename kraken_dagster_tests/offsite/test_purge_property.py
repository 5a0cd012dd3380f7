"""Whatever becomes of a raw file's copies: no byte is deleted that either of them hasn't.

The oracle knows nothing of Kraken: of the backup it takes hashlib's word, and of the copy off-site
what the server gives back when it is asked for every version that it has. The server is a stand-in
for the many cases, and a real one for each kind of damage, through the purge as it is.
"""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from kraken_dagster.config.instruments import PurgeProof
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.offsite.check import require_object
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster.retention import purge_file as purging
from kraken_dagster.retention.proof import delete, prove
from kraken_dagster.retention.purge_plan import PurgeOptions
from kraken_dagster.retention.survey import survey
from kraken_dagster_tests.offsite.copies import (
    BLOWS,
    HARMLESS,
    Blow,
    Copies,
    forgotten,
    strike,
    without_copy,
)
from kraken_dagster_tests.offsite.s3_server import NEEDS_S3
from kraken_dagster_tests.offsite.stand_in import StandIn
from kraken_dagster_tests.retention.retention_cases import aside, files_in, moved
from kraken_dagster_tests.retention.test_purge_property import (
    MEMBERS,
    Bench,
    bench,
    blows,
    losses,
)
from kraken_dagster_tests.retention.test_purge_property import strike as strike_here

CASES = 2_000
BOTH = PurgeOptions(min_free_space_gb=1e9, purge_proof=PurgeProof.LOCAL_AND_OFFSITE)
KINDS = ({}, {"ServerSideEncryption": "aws:kms"})  # of which the second has ETags that are no MD5s
Struck = tuple[Blow, int, int]
strikes = st.tuples(st.sampled_from(BLOWS), st.integers(0, 3), st.sampled_from((0, 1, 2)))
counted: Counter[str] = Counter()
pytestmark = NEEDS_S3


def run(made: Bench, copies: Copies, here: list, there: list[Struck]) -> dict[str, bytes]:
    """Purges as far as it goes; what there was right before anything could be deleted."""
    names = MEMBERS[made.vendor]

    def at(moment: int) -> None:
        for blow in here:
            if blow[3] == moment:
                strike_here(made, blow)
        for blow, number, when in there:
            if when == moment:
                strike(copies, blow, names[number % len(names)])

    def ask() -> None:
        for name, recorded in target.recorded.items():
            require_object(copies.kraken, name, recorded, copies.recorded.get(name))

    at(0)
    target, before = made.target(), made.snapshot()
    try:
        found = survey(target)
        ask()
        at(1)
        before = made.snapshot()
        proof = prove(target, found)
        at(2)
        before = made.snapshot()
        ask()
        delete(target, proof, may_go_on=lambda: True)
        counted["deleted"] += 1
    except KrakenError as error:
        counted[type(error).__name__] += 1
        event(type(error).__name__)
    return before


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    vendor=st.sampled_from(Vendor),
    seeds=st.lists(st.binary(max_size=12), min_size=4, max_size=4),
    kinds=st.lists(st.sampled_from(KINDS), min_size=4, max_size=4),
    here=st.lists(blows, max_size=1),
    there=st.lists(strikes, max_size=3),
)
@example(vendor=Vendor.BRUKER, seeds=[b"a"] * 4, kinds=[{}] * 4, here=[], there=[])
def never_a_deleted_byte_that_is_not_in_both(
    vendor: Vendor, seeds: list[bytes], kinds: list[dict[str, str]], here: list, there: list[Struck]
) -> None:
    contents = dict(zip(MEMBERS[vendor], seeds, strict=False))
    s3 = StandIn()
    s3.create_bucket("copies")
    copies = Copies(s3, "copies")
    for (name, content), kind in zip(contents.items(), kinds, strict=False):
        copies.upload(name, content, **kind)
    with bench(vendor, contents) as made:
        record = dict(made.recorded)
        before = run(made, copies, here, there)
        assert losses(made, before, record) == []
        after = made.snapshot()
        gone = {name: before[f"instrument/Backup/{name}"] for name in _gone(before, after)}
        assert without_copy(gone, copies) == []
        if not here and {blow for blow, _, _ in there} <= HARMLESS:
            left = [name for name in after if name.startswith("instrument/")]
            assert left == ["instrument/Backup/stranger"]


def _gone(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    gone = before.keys() - after.keys()
    return [name.removeprefix("instrument/Backup/") for name in gone if name.startswith("instr")]


@pytest.mark.timeout(900)
def test_no_byte_is_ever_deleted_that_the_backup_or_the_server_has_not() -> None:
    counted.clear()
    never_a_deleted_byte_that_is_not_in_both()
    assert sum(counted.values()) >= CASES
    assert counted["deleted"] > CASES // 50  # and not because nothing is deleted at all
    assert counted["OffsiteDiffers"] > CASES // 20
    for refusal in ("OffsiteAway", "OffsiteRefused", "OffsiteUnfit"):
        assert counted[refusal] > 0


def test_the_oracle_finds_what_the_server_has_not() -> None:
    s3 = StandIn()
    s3.create_bucket("copies")
    copies = Copies(s3, "copies")
    for name in ("a", "b"):
        copies.upload(name, b"abc")
    s3.delete_object(**copies.recorded["b"].version)
    assert without_copy({"a": b"abc", "b": b"abc", "c": b""}, copies) == ["b", "c"]
    assert without_copy({"a": b"abd"}, copies) == ["a"]


@pytest.fixture
def uploaded(laboratory, server, bucket) -> Callable[[str, str], Copies]:
    """A raw file that was moved aside, with its copy on the real server."""

    def make(instrument_id: str, name: str) -> Copies:
        raw_file = moved(laboratory, instrument_id, name)
        s3 = connect(laboratory.config.offsite)
        outcome = upload_file(laboratory, s3, name, run_id="upload")
        recorded = laboratory.store.offsite.objects(raw_file.id)
        return Copies(server.client(), bucket, s3, recorded, outcome.state.prefix)

    return make


def _struck(services, copies: Copies, blow: Blow, raw_file_id: str) -> None:
    path = sorted(copies.recorded)[0]
    strike(copies, blow, path)
    if blow is forgotten:
        services.store.offsite.forget_object(raw_file_id, path)
    for stored in copies.recorded.values():
        services.store.offsite.keep_object(raw_file_id, stored)


@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: blow.__name__)
@pytest.mark.parametrize("moment", ["before", "after the proof"])
def test_a_purge_asks_the_real_server(laboratory, uploaded, monkeypatch, blow, moment):
    instrument_id, name = ("bruker1", "x.d") if moment == "before" else ("thermo1", "x.raw")
    copies = uploaded(instrument_id, name)
    here = aside(laboratory, instrument_id)
    before = {path: (here / path).read_bytes() for path in copies.recorded}
    asked = Mutable(copies)

    def proven(*args, **options):
        proof = prove(*args, **options)
        _struck(laboratory, copies, blow, name)
        return proof

    if moment == "before":
        _struck(laboratory, copies, blow, name)
    else:
        monkeypatch.setattr(purging, "prove", proven)
    problem: KrakenError | None = None
    try:
        purging.purge_file(laboratory, name, run_id="purge", options=BOTH, s3=asked)
    except KrakenError as error:
        problem = error
    if blow in HARMLESS:
        assert problem is None
        assert files_in(here) == {}
    else:
        assert problem is not None
        assert "Next:" in str(problem)
        assert {path: (here / path).read_bytes() for path in before} == before
    gone = {path: content for path, content in before.items() if not (here / path).exists()}
    assert without_copy(gone, copies) == []


class Mutable:
    """Kraken's client as it is at the moment of a request."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def __getattr__(self, name: str):
        return getattr(self._copies.kraken, name)
