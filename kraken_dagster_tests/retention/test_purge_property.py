"""Whatever folders, records and backups are like: no byte is deleted that the backup hasn't.

The oracle knows nothing of Kraken: what has vanished is compared with plain hashlib.
"""

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from kraken_dagster.model.errors import KrakenError, LeaseLost
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.retention.proof import delete, prove
from kraken_dagster.retention.survey import Target, survey

CASES = 2_000
IDS = {Vendor.THERMO: "x.raw", Vendor.BRUKER: "x.d", Vendor.SCIEX: "x.wiff"}
MEMBERS = {
    Vendor.THERMO: ("x.raw",),
    Vendor.BRUKER: ("x.d/analysis.tdf", "x.d/analysis.tdf_bin", "x.d/4711.m/a.method"),
    Vendor.SCIEX: ("x.wiff", "x.wiff.scan", "x.timeseries.data", "x.notes"),
}
counted: Counter[str] = Counter()


@dataclass
class Bench:
    """A raw file on its instrument, its backup, its record, and a stranger beside them."""

    root: Path
    vendor: Vendor
    recorded: dict[str, FileFact]

    @property
    def aside(self) -> Path:
        return self.root / "instrument" / "Backup"

    @property
    def backup(self) -> Path:
        return self.root / "backup"

    def target(self) -> Target:
        instrument = self.root / "instrument"
        record = dict(self.recorded)  # a step reads it once, when it has the lease
        return Target(IDS[self.vendor], self.vendor, record, instrument, self.backup)

    def snapshot(self) -> dict[str, bytes]:
        """Every byte of both sides by path, and links as what they point to."""
        found = {}
        for parent, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(parent, name)
                key = str(path.relative_to(self.root))
                if path.is_symlink():
                    found[key] = b"link to " + os.fsencode(os.readlink(path))
                elif path.is_file():
                    found[key] = path.read_bytes()
        return found


@contextmanager
def bench(vendor: Vendor, contents: Mapping[str, bytes]) -> Iterator[Bench]:
    root = Path(tempfile.mkdtemp(prefix="purge-"))
    try:
        for side in ("instrument/Backup", "backup"):
            for name, content in {**contents, "stranger": b"another's"}.items():
                path = root / side / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for name in contents:  # a clock may stand still while both are written
            while _changed_at(root / "backup" / name) == _changed_at(
                root / "instrument/Backup" / name
            ):
                os.chmod(root / "instrument/Backup" / name, 0o644)
        (root / "outside").write_bytes(b"outside of both")
        yield Bench(root, vendor, {name: fact(content) for name, content in contents.items()})
    finally:
        shutil.rmtree(root)


def _changed_at(path: Path) -> int:
    return path.stat().st_ctime_ns


def fact(content: bytes) -> FileFact:
    return FileFact(size=len(content), md5=hashlib.md5(content).hexdigest())


Damage = Callable[[Bench, Path, str], None]


def _write(path: Path, content: bytes) -> None:
    """A file that was written to: its time is another one."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def flip(_bench: Bench, side: Path, name: str) -> None:
    content = bytearray((side / name).read_bytes() or b"\0")
    content[len(content) // 2] ^= 1
    _write(side / name, bytes(content))


def truncate(_bench: Bench, side: Path, name: str) -> None:
    _write(side / name, (side / name).read_bytes()[:-1])


def extend(_bench: Bench, side: Path, name: str) -> None:
    _write(side / name, (side / name).read_bytes() + b"!")


def another_acquisition(_bench: Bench, side: Path, name: str) -> None:
    size = (side / name).stat().st_size
    (side / name).unlink()
    (side / name).write_bytes(b"z" * size)


def extra_file(bench: Bench, side: Path, name: str) -> None:
    """Beside the member, in the same folder, of a name that belongs to the raw file."""
    stem = "more" if bench.vendor is Vendor.BRUKER else "x.more"
    (side / name).with_name(stem).write_bytes(b"nobody knows it")


def missing(_bench: Bench, side: Path, name: str) -> None:
    (side / name).unlink()


def swapped(bench: Bench, side: Path, name: str) -> None:
    other = MEMBERS[bench.vendor][-1]
    if other == name:
        return
    (side / name).rename(side / "meanwhile")
    (side / other).rename(side / name)
    (side / "meanwhile").rename(side / other)


def symbolic_link(bench: Bench, side: Path, name: str) -> None:
    real = bench.root / f"real-{side.name}"
    (side / name).rename(real)
    (side / name).symlink_to(real)


def folder_link(bench: Bench, side: Path, name: str) -> None:
    """A link in place of the member's folder; what it leads to is a true copy."""
    top = side / name.partition("/")[0]
    real = bench.root / f"real-{side.name}"
    if top.is_dir():
        top.rename(real)
        top.symlink_to(real)


def link_to_other_side(bench: Bench, side: Path, name: str) -> None:
    """The backup is nothing but another name of the instrument's file."""
    other = bench.backup if side == bench.aside else bench.aside
    (side / name).unlink()
    os.link(other / name, side / name)


def hard_link(bench: Bench, side: Path, name: str) -> None:
    os.link(side / name, bench.root / f"other-name-{side.name}")


def other_case(_bench: Bench, side: Path, name: str) -> None:
    (side / name).rename((side / name).with_name(Path(name).name.upper()))


def folder_in_its_place(_bench: Bench, side: Path, name: str) -> None:
    (side / name).unlink()
    (side / name).mkdir()


def wrong_digest(bench: Bench, _side: Path, name: str) -> None:
    recorded = bench.recorded[name]
    bench.recorded[name] = recorded.model_copy(update={"md5": "0" * 32})


def unknown_digest(bench: Bench, _side: Path, name: str) -> None:
    bench.recorded[name] = bench.recorded[name].model_copy(update={"md5": None})


def forgotten(bench: Bench, _side: Path, name: str) -> None:
    del bench.recorded[name]


def all_away(_bench: Bench, side: Path, _name: str) -> None:
    side.rename(side.with_name("away"))


def nothing(_bench: Bench, _side: Path, _name: str) -> None:
    pass


DAMAGES: tuple[Damage, ...] = (
    nothing,
    flip,
    truncate,
    extend,
    another_acquisition,
    extra_file,
    missing,
    swapped,
    symbolic_link,
    folder_link,
    link_to_other_side,
    hard_link,
    other_case,
    folder_in_its_place,
    wrong_digest,
    unknown_digest,
    forgotten,
    all_away,
)
# The tries before anything is listed, between the list and the reading, and after all is proven.
MOMENTS = (0, 1, 2)
blows = st.tuples(
    st.sampled_from(DAMAGES), st.booleans(), st.integers(0, 3), st.sampled_from(MOMENTS)
)


def strike(bench: Bench, blow: tuple[Damage, bool, int, int]) -> None:
    damage, on_instrument, number, _ = blow
    names = MEMBERS[bench.vendor]
    side = bench.aside if on_instrument else bench.backup
    with suppress(FileNotFoundError, NotADirectoryError, FileExistsError, KeyError, OSError):
        damage(bench, side, names[number % len(names)])  # an earlier blow may have left nothing


def run(
    bench: Bench, struck: list[tuple[Damage, bool, int, int]]
) -> tuple[dict[str, bytes], Target]:
    """Purges as far as it goes; what there was right before anything could be deleted."""

    def at(moment: int) -> None:
        for blow in struck:
            if blow[3] == moment:
                strike(bench, blow)

    at(0)
    target = bench.target()
    before = bench.snapshot()
    try:
        found = survey(target)
        at(1)
        before = bench.snapshot()
        proof = prove(target, found)
        at(2)
        before = bench.snapshot()
        delete(target, proof, may_go_on=lambda: True)
        counted["deleted"] += 1
    except KrakenError as error:
        counted["refused"] += 1
        event(type(error).__name__)
    return before, target


def losses(bench: Bench, before: Mapping[str, bytes], record: Mapping[str, FileFact]) -> list[str]:
    """Whatever vanished or changed without being, byte for byte, in the backup and the record."""
    after = bench.snapshot()
    found = []
    for path, content in before.items():
        if after.get(path) == content:
            continue
        name = path.removeprefix("instrument/Backup/")
        kept = after.get(f"backup/{name}")
        recorded = record.get(name)
        proven = (
            path != name
            and path not in after
            and kept == content
            and recorded is not None
            and recorded.size == len(content)
            and recorded.md5 == hashlib.md5(content).hexdigest()
        )
        if not proven:
            found.append(path)
    return found


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    vendor=st.sampled_from(Vendor),
    seeds=st.lists(st.binary(max_size=12), min_size=4, max_size=4),
    struck=st.lists(blows, max_size=3),
)
@example(vendor=Vendor.THERMO, seeds=[b"a"] * 4, struck=[])
@example(vendor=Vendor.BRUKER, seeds=[b"a"] * 4, struck=[])
@example(vendor=Vendor.SCIEX, seeds=[b"a"] * 4, struck=[])
def never_a_deleted_byte_that_is_not_in_the_backup(
    vendor: Vendor, seeds: list[bytes], struck: list[tuple[Damage, bool, int, int]]
) -> None:
    contents = dict(zip(MEMBERS[vendor], seeds, strict=False))
    with bench(vendor, contents) as made:
        before, target = run(made, struck)
        assert losses(made, before, target.recorded) == []
        if not struck:
            left = [name for name in made.snapshot() if name.startswith("instrument/")]
            assert left == ["instrument/Backup/stranger"]


@pytest.mark.timeout(300)
def test_no_byte_is_ever_deleted_that_was_not_proven_to_be_in_the_backup() -> None:
    counted.clear()
    never_a_deleted_byte_that_is_not_in_the_backup()
    assert counted["deleted"] + counted["refused"] >= CASES
    assert counted["deleted"] > CASES // 50  # and not because nothing is deleted at all
    assert counted["refused"] > CASES // 10


def test_the_oracle_finds_what_was_lost() -> None:
    with bench(Vendor.BRUKER, dict.fromkeys(MEMBERS[Vendor.BRUKER], b"abc")) as made:
        before = made.snapshot()
        flip(made, made.backup, "x.d/analysis.tdf")
        (made.aside / "x.d/analysis.tdf").unlink()
        (made.aside / "stranger").unlink()
        found = losses(made, before, made.recorded)
    assert sorted(found) == [
        "backup/x.d/analysis.tdf",
        "instrument/Backup/stranger",
        "instrument/Backup/x.d/analysis.tdf",
    ]


@pytest.mark.parametrize("leave", range(7))
def test_without_leave_nothing_more_is_deleted(leave: int) -> None:
    """Three files and two folders: leave is asked for before the first change and each of them."""
    asked: list[int] = []

    def may_go_on() -> bool:
        asked.append(1)
        return len(asked) <= leave

    with bench(Vendor.BRUKER, dict.fromkeys(MEMBERS[Vendor.BRUKER], b"abc")) as made:
        target = made.target()
        proof = prove(target, survey(target))
        if leave == 6:
            assert delete(target, proof, may_go_on=may_go_on) == 9
        else:
            with pytest.raises(LeaseLost):
                delete(target, proof, may_go_on=may_go_on)
        left = [path for path in (made.aside / "x.d").rglob("*") if path.is_file()]
        assert not list(made.aside.glob(".kraken-*"))
    assert len(left) == min(3, max(0, 4 - leave))
