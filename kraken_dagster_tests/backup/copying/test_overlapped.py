"""A large file is copied in stages that overlap: what one stage meets ends them all, and leaves
nothing; no byte that the disk changes gets through.
"""

import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.fs.copying.blocks import Block
from kraken_dagster.fs.copying.copy_file import copy_file
from kraken_dagster.fs.copying.overlapped import CopySizes
from kraken_dagster.fs.copying.progress import Progress, Stopped
from kraken_dagster.fs.copying.proven_part import ProvenPart
from kraken_dagster.fs.copying.source import SourceReader
from kraken_dagster.model import errors
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster_tests.backup.copying.copying_cases import make, md5sum, parts, write
from kraken_dagster_tests.backup.copying.test_copying_damage import CHANGES, at_call, vanish
from kraken_dagster_tests.support.helpers import wait_until

PAGES = 4096
SIZES = CopySizes(
    straight=0,
    straight_chunk=2 * PAGES,
    chunk=2 * PAGES,
    chunks=4,
    block=8 * PAGES,
    ahead=2,
    read_back=4 * PAGES,
)
SIZE = 7 * SIZES.block - 100
BLOCKS = 7


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "x.raw", SIZE)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "b" / "x.raw"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    before = {*threading.enumerate()}
    yield
    wait_until(lambda: {*threading.enumerate()} <= before, "all stages have ended")


def copied(source: Path, target: Path, may_go_on: Callable[[], bool] = lambda: True) -> str | None:
    fact = copy_file(source, target, progress=Progress(0), may_go_on=may_go_on, sizes=SIZES)
    assert fact.size == source.stat().st_size
    return fact.md5


@pytest.mark.parametrize("blocks", [0, 1, 2, 5])
@pytest.mark.parametrize("more", [-1, 0, 1, 2 * PAGES - 1, 2 * PAGES, 2 * PAGES + 1])
def test_what_is_copied_in_stages_is_the_source(tmp_path: Path, blocks: int, more: int) -> None:
    source = write(tmp_path / "x.raw", max(0, blocks * SIZES.block + more))
    target = tmp_path / "b" / "x.raw"
    assert copied(source, target) == md5sum(source)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert os.listdir(target.parent) == ["x.raw"]


def alter_on_disk(
    monkeypatch: pytest.MonkeyPatch, folder: Path, at: int, alter: Callable[[Path], None]
) -> None:
    """The disk does `alter` with the part as soon as it has taken the byte at `at`."""
    real, done = ProvenPart.flush, []

    def flush(self: ProvenPart) -> None:
        real(self)
        (part,) = parts(folder)
        if part.stat().st_size > at and not done:
            done.append(alter(part))

    monkeypatch.setattr(ProvenPart, "flush", flush)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("number", range(BLOCKS))
def test_a_bit_that_flips_on_the_disk_is_found_in_any_block(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int, direct: bool
) -> None:
    if not direct:
        monkeypatch.delattr(os, "O_DIRECT")
    size = min(SIZES.block, SIZE - number * SIZES.block)
    at = number * SIZES.block + random.Random(number).randrange(size)

    def flip(part: Path) -> None:
        with part.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))

    alter_on_disk(monkeypatch, target.parent, at, flip)
    with pytest.raises(errors.DigestMismatch, match=f"from byte {number * SIZES.block} on"):
        copied(source, target)
    assert not os.listdir(target.parent)


def test_bytes_that_were_never_written_are_found_too(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(part: Path) -> None:
        with part.open("ab") as file:
            file.write(b"!")

    alter_on_disk(monkeypatch, target.parent, SIZE - 1, grow)
    with pytest.raises(errors.DigestMismatch, match=f"{SIZE + 1} bytes"):
        copied(source, target)
    assert not os.listdir(target.parent)


def test_what_alters_the_bytes_on_their_way_to_the_disk_is_found(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although MD5, which is what is recorded, was taken of the right ones."""
    real = ProvenPart.write
    chunks = iter(range(1000))

    def altering(self: ProvenPart, chunk: memoryview) -> None:
        if next(chunks) == 9:
            chunk[5] ^= 4
        real(self, chunk)

    monkeypatch.setattr(ProvenPart, "write", altering)
    with pytest.raises(errors.DigestMismatch):
        copied(source, target)


def test_memory_is_bounded_and_the_stages_overlap(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading waits for writing, and writing for the proof, however slow those are."""
    read, written, proven = [0], [0], [0]
    fill, put, prove = SourceReader.fill, ProvenPart.write, ProvenPart.prove
    in_buffers = SIZES.chunks * SIZES.chunk

    def counted_fill(self: SourceReader, buffer: bytearray) -> int:
        count = fill(self, buffer)
        read[0] += count
        return count

    def slow_write(self: ProvenPart, chunk: memoryview) -> None:
        if not written[0]:
            wait_until(lambda: read[0] == in_buffers, "all buffers are full")
        assert read[0] - written[0] <= in_buffers
        put(self, chunk)
        written[0] += len(chunk)
        assert written[0] - proven[0] <= (SIZES.ahead + 1) * SIZES.block

    def slow_proof(self: ProvenPart, block: Block) -> None:
        if not proven[0]:
            wait_until(lambda: written[0] >= SIZES.ahead * SIZES.block, "writing is ahead")
        prove(self, block)
        proven[0] += block.size

    monkeypatch.setattr(SourceReader, "fill", counted_fill)
    monkeypatch.setattr(ProvenPart, "write", slow_write)
    monkeypatch.setattr(ProvenPart, "prove", slow_proof)
    copied(source, target)
    assert read == written == proven == [SIZE]


def questions(source: Path, target: Path) -> int:
    """How often a whole copy asks whether it may go on."""
    asked: list[int] = []

    def answer() -> bool:
        asked.append(1)
        return True

    copied(source, target, answer)
    return len(asked)


def test_a_copy_in_stages_that_is_told_to_stop_leaves_nothing(
    source: Path, target: Path, tmp_path: Path
) -> None:
    for call in range(1, questions(source, tmp_path / "first" / "x.raw") + 1, 5):
        answers = [True] * (call - 1)
        may_go_on = lambda answers=answers: bool(answers) and answers.pop()  # noqa: E731
        with pytest.raises(Stopped):
            copied(source, target, may_go_on)
        assert not os.listdir(target.parent)


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changes_under_the_stages_is_refused(
    source: Path, target: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    total = questions(source, tmp_path / "first" / "x.raw")
    for call in random.Random(1).sample(range(1, total), 4):
        write(source, SIZE)
        expected = errors.SourceMissing if change is vanish else errors.SourceChanged
        with pytest.raises(expected):
            copied(source, target, at_call(call, lambda: change(source)))
        assert not os.listdir(target.parent)


FAILURES = [
    (SourceReader, "fill", errors.SourceMissing("gone"), errors.SourceMissing),
    (ProvenPart, "write", errors.BackupFull("full"), errors.BackupFull),
    (ProvenPart, "flush", errors.BackupUnwritable("EIO"), errors.BackupUnwritable),
    (ProvenPart, "prove", errors.DigestMismatch("other"), errors.DigestMismatch),
    (ProvenPart, "set_times", MemoryError(), MemoryError),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("at", [0, 2])
def test_an_error_of_any_stage_ends_all_and_is_told(
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: tuple[type, str, Exception, type[Exception]],
    at: int,
) -> None:
    where, name, error, expected = failure
    real, calls = getattr(where, name), [0]
    at = 0 if name == "set_times" else at

    def failing(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] > at:
            raise error
        return real(*arguments)

    monkeypatch.setattr(where, name, failing)
    with pytest.raises(expected):
        copied(source, target)
    assert not os.listdir(target.parent)


def test_a_disk_that_gives_no_byte_back_is_told_with_its_words(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(errors.BackupUnwritable, match="Input/output error"):
        copied(source, target)
    assert not os.listdir(target.parent)


@pytest.mark.parametrize("stage", ["write", "flush"])
def test_a_store_that_hangs_under_the_stages_stalls_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    case = make(tmp_path, Vendor.THERMO)
    write(case.source / case.name, 20_000_000)
    real, answers = getattr(ProvenPart, stage), threading.Event()

    def hanging(*arguments: Any) -> None:
        answers.wait()
        real(*arguments)

    monkeypatch.setattr(ProvenPart, stage, hanging)
    with pytest.raises(errors.CopyStalled):
        case.run(stall_s=1.5)
    assert not case.final.exists()
    answers.set()
    wait_until(lambda: not parts(case.target), "what hung clears up")
    assert not case.final.exists()
