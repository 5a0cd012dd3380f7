"""A copy that died goes on where it stopped, and only if nothing at all speaks against it."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

from kraken_dagster.fs.copying import journal as journals
from kraken_dagster.fs.copying import resume
from kraken_dagster.fs.copying.copy_file import copy_file
from kraken_dagster.fs.copying.overlapped import CopySizes
from kraken_dagster.fs.copying.part_files import JOURNAL_ENDING, part_path
from kraken_dagster.fs.copying.progress import Progress, Stopped
from kraken_dagster.fs.digests import identity
from kraken_dagster.model import errors
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster_tests.backup.copying.copying_cases import md5sum, parts, write

PAGES = 4096
SIZES = CopySizes(
    straight=0,
    straight_chunk=2 * PAGES,
    chunk=2 * PAGES,
    chunks=2,
    block=4 * PAGES,
    ahead=2,
    read_back=2 * PAGES,
)
BLOCK = SIZES.block
SIZE = 40 * BLOCK - 77
ATTEMPT = "x.raw of a moment on a store"
_CHILD = """
import mmap, os, pytest, signal, sys
from pathlib import Path
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster_tests.backup.copying.test_resuming import Reads, fact_of
calls = [0]
counter = mmap.mmap(os.open(sys.argv[4], os.O_RDWR), 8)  # what is in there outlives a kill
def keep(count):
    counter[:8] = count.to_bytes(8, "little")
reads = Reads(pytest.MonkeyPatch(), Path(sys.argv[1]), keep)
def may_go_on():
    calls[0] += 1
    if calls[0] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return True
second = DigestKind(sys.argv[5]) if sys.argv[5] else None
fact_of(Path(sys.argv[1]), Path(sys.argv[2]), may_go_on, second=second)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "x.raw", SIZE)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "b" / "x.raw"


def copied(
    source: Path,
    target: Path,
    may_go_on: Callable[[], bool] = lambda: True,
    *,
    attempt: str | None = ATTEMPT,
) -> str | None:
    return fact_of(source, target, may_go_on, attempt=attempt).md5


def fact_of(
    source: Path,
    target: Path,
    may_go_on: Callable[[], bool] = lambda: True,
    *,
    attempt: str | None = ATTEMPT,
    second: DigestKind | None = None,
) -> FileFact:
    return copy_file(
        source,
        target,
        progress=Progress(0),
        may_go_on=may_go_on,
        attempt=attempt,
        second=second,
        sizes=SIZES,
    )


def killed(source: Path, target: Path, question: int, second: str = "") -> int:
    """A copy that is killed when it asks for that time whether it may go on; returns the bytes that
    it had read of its source.
    """
    counter = source.with_name("read bytes")
    counter.write_bytes(bytes(8))
    command = [sys.executable, "-c", _CHILD, source, target, str(question), counter, second]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not target.exists()
    return int.from_bytes(counter.read_bytes(), "little")


class Reads:
    """The bytes that this process reads of one file by `os.readv` and `os.preadv`."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        source: Path,
        on_count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.count = 0
        self.on_count = on_count
        self.inode = source.stat().st_ino
        for name in ("readv", "preadv"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., int]) -> Callable[..., int]:
        def counted(handle: int, *arguments: Any) -> int:
            found = real(handle, *arguments)
            if os.fstat(handle).st_ino == self.inode:
                self.count += found
                self.on_count(self.count)
            return found

        return counted


def left_of(target: Path) -> tuple[Path, Path]:
    """The one part and its journal."""
    (journal,) = [path for path in parts(target.parent) if path.name.endswith(JOURNAL_ENDING)]
    return journal.with_name(journal.name.removesuffix(JOURNAL_ENDING)), journal


def recorded(journal: Path) -> list[list[Any]]:
    """The blocks that a journal names: offset, size, digest."""
    lines = journal.read_text().splitlines()[1:]
    return [json.loads(line.partition(" ")[2]) for line in lines]


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_that_was_killed_goes_on_and_reads_its_source_once_and_four_blocks(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What the first one had in buffers, and in a block that wasn't whole yet, is read again."""
    first = killed(source, target, random.Random(seed).randrange(30, 150))
    known = sum(size for _, size, _ in recorded(left_of(target)[1]))
    reads = Reads(monkeypatch, source)
    assert copied(source, target) == md5sum(source)
    assert target.read_bytes() == source.read_bytes()
    assert known > 0
    assert reads.count <= SIZE - known + 4 * BLOCK
    assert first + reads.count < SIZE + 4 * BLOCK + BLOCK + SIZES.chunks * SIZES.chunk
    assert os.listdir(target.parent) == ["x.raw"]


@pytest.mark.parametrize("before", ["", "sha256", "xxh3"])
@pytest.mark.parametrize("kind", DigestKind)
def test_one_that_was_killed_is_gone_on_with_whatever_second_digest_was_and_is_taken(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, before: str, kind: DigestKind
) -> None:
    killed(source, target, 90, before)
    known = sum(size for _, size, _ in recorded(left_of(target)[1]))
    reads = Reads(monkeypatch, source)
    fact = fact_of(source, target, second=kind)
    content = source.read_bytes()
    digest = hashlib.sha256 if kind is DigestKind.SHA256 else xxhash.xxh3_128
    assert target.read_bytes() == content
    assert (fact.md5, fact.second) == (md5sum(source), (kind, digest(content).hexdigest()))
    assert known > 0
    assert reads.count <= SIZE - known + 4 * BLOCK


def test_one_may_be_killed_many_times(source: Path, target: Path) -> None:
    known = [0]
    for _ in range(5):
        killed(source, target, 45)
        known.append(sum(size for _, size, _ in recorded(left_of(target)[1])))
    assert known == sorted(known)
    assert known[-1] > known[1]
    assert copied(source, target) == md5sum(source)
    assert target.read_bytes() == source.read_bytes()


def stopped(source: Path, target: Path, at: int = 100) -> tuple[Path, Path]:
    """A copy that was told to stop there, and what it left."""
    answers = [True] * at
    with pytest.raises(Stopped):
        copied(source, target, lambda: bool(answers) and answers.pop())
    return left_of(target)


def test_one_that_was_told_to_stop_is_gone_on_with_too(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sum(size for _, size, _ in recorded(stopped(source, target)[1]))
    reads = Reads(monkeypatch, source)
    assert copied(source, target) == md5sum(source)
    assert 0 < reads.count <= SIZE - known + 4 * BLOCK < SIZE


@pytest.mark.parametrize("question", [1, 8, 30])
def test_one_that_is_killed_while_it_proves_what_is_there_loses_nothing(
    source: Path, target: Path, question: int
) -> None:
    before = recorded(stopped(source, target)[1])
    killed(source, target, question)
    assert recorded(left_of(target)[1]) == before
    assert copied(source, target) == md5sum(source)


def rewritten(source: Path, _part: Path, _journal: Path) -> None:
    write(source, SIZE, seed=3)


def touched(source: Path, _part: Path, _journal: Path) -> None:
    os.utime(source, ns=(1, 1))


def longer(source: Path, _part: Path, _journal: Path) -> None:
    facts = source.stat()
    with source.open("ab") as file:
        file.write(b"!")
    os.utime(source, ns=(facts.st_mtime_ns, facts.st_mtime_ns))


def another_of_its_size_and_time(source: Path, _part: Path, _journal: Path) -> None:
    facts = source.stat()
    write(source.with_name("new"), SIZE, seed=4).replace(source)
    os.utime(source, ns=(facts.st_mtime_ns, facts.st_mtime_ns))


def torn(_source: Path, _part: Path, journal: Path) -> None:
    os.truncate(journal, journal.stat().st_size - 5)


def other_digit(_source: Path, _part: Path, journal: Path) -> None:
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)


def line_gone(_source: Path, _part: Path, journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3] + lines[4:]))


def empty(_source: Path, _part: Path, journal: Path) -> None:
    journal.write_bytes(b"")


def of_another_version(_source: Path, _part: Path, journal: Path) -> None:
    check, lines = "", []
    for body in ('{"source": "x"}', "[0, 1]"):
        check = journals._checked(check, body)
        lines.append(f"{check} {body}\n")
    journal.write_text("".join(lines))


def first_byte(_source: Path, part: Path, _journal: Path) -> None:
    data = bytearray(part.read_bytes())
    data[0] ^= 1
    part.write_bytes(data)


def no_part(_source: Path, part: Path, _journal: Path) -> None:
    part.unlink()


def link_for_part(source: Path, part: Path, _journal: Path) -> None:
    part.unlink()
    part.symlink_to(source)


def second_name(source: Path, part: Path, _journal: Path) -> None:
    os.link(part, source.with_name("the same"))


AGAINST = [
    rewritten,
    touched,
    longer,
    another_of_its_size_and_time,
    torn,
    other_digit,
    line_gone,
    empty,
    of_another_version,
    first_byte,
    no_part,
    link_for_part,
    second_name,
]


@pytest.mark.parametrize("against", AGAINST)
def test_what_speaks_against_it_has_all_copied_anew(
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    against: Callable[[Path, Path, Path], None],
) -> None:
    against(source, *stopped(source, target))
    reads = Reads(monkeypatch, source)
    assert copied(source, target) == md5sum(source)
    assert target.read_bytes() == source.read_bytes()
    assert reads.count == source.stat().st_size
    assert os.listdir(target.parent) == ["x.raw"]


@pytest.mark.parametrize("which", ["host", "attempt"])
def test_nobody_goes_on_with_what_another_began(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    stopped(source, target)
    if which == "host":
        monkeypatch.setattr(journals, "_this_host", lambda: "another")
    reads = Reads(monkeypatch, source)
    assert copied(source, target, attempt=f"{ATTEMPT}{which == 'attempt'}") == md5sum(source)
    assert reads.count == SIZE


def test_nobody_goes_on_with_a_part_that_somebody_still_has_open(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, _ = stopped(source, target)
    with part.open("r+b") as file:
        resume.fcntl.flock(file, resume.fcntl.LOCK_EX)
        reads = Reads(monkeypatch, source)
        assert copied(source, target) == md5sum(source)
        file.write(b"late")
    assert reads.count == SIZE
    assert target.read_bytes() == source.read_bytes()


def test_a_byte_that_flipped_in_the_part_costs_what_follows_it(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, _ = stopped(source, target)
    data = bytearray(part.read_bytes())
    data[5 * BLOCK + 9] ^= 8
    part.write_bytes(data)
    reads = Reads(monkeypatch, source)
    assert copied(source, target) == md5sum(source)
    assert target.read_bytes() == source.read_bytes()
    assert SIZE - 5 * BLOCK < reads.count <= SIZE - BLOCK


@pytest.mark.parametrize("which", ["last", "any"])
def test_other_content_behind_the_same_look_is_found_by_what_is_read_again(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """On a share whose times and inodes tell nothing; of the other blocks a few are looked at."""
    _, journal = stopped(source, target)
    last = recorded(journal)[-1][0]
    before = identity(source)
    with source.open("r+b") as file:
        for at in [last] if which == "last" else range(0, last + 1, BLOCK):
            file.seek(at)
            file.write(b"changed")
    os.utime(source, ns=(before.mtime_ns, before.mtime_ns))
    monkeypatch.setattr(
        "kraken_dagster.fs.copying.copy_file.origin",
        lambda path, _now, attempt, size: journals.origin(path, before, attempt, size),
    )
    reads = Reads(monkeypatch, source)
    assert copied(source, target) == md5sum(source)
    assert target.read_bytes() == source.read_bytes()
    assert SIZE < reads.count <= SIZE + 4 * BLOCK


def test_a_source_that_changes_after_it_was_gone_on_with_is_refused(
    source: Path, target: Path
) -> None:
    stopped(source, target)
    with pytest.raises(errors.SourceChanged):
        copied(source, target, lambda: write(source, SIZE, seed=9).exists())
    assert not os.listdir(target.parent)


def test_an_error_that_is_no_pause_leaves_nothing(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(source, target)

    def mismatch(*_: object) -> None:
        raise errors.DigestMismatch("other")

    monkeypatch.setattr("kraken_dagster.fs.copying.proven_part.ProvenPart.prove", mismatch)
    with pytest.raises(errors.DigestMismatch):
        copied(source, target)
    assert not os.listdir(target.parent)


def test_without_an_attempt_what_is_left_is_removed(source: Path, target: Path) -> None:
    stopped(source, target)
    assert copied(source, target, attempt=None) == md5sum(source)
    assert os.listdir(target.parent) == ["x.raw"]


def test_a_journal_is_no_part_of_the_copy(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes none gets its copy all the same."""
    real = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(JOURNAL_ENDING):
            raise PermissionError(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    assert copied(source, target) == md5sum(source)
    assert part_path(target).parent.exists() is False
