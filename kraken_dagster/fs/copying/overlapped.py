"""Copies the bytes of one file: a small one straight on, a large one in stages that overlap.

Of a large file one thread reads, one takes MD5, one the second digest where there is one to take,
one writes, one has the disk take each block, and one reads it back, while the others are further
on. A disk is so read and written at the same time.
A block's XXH3-128 is taken where it is read, before anything else sees its bytes, so that whatever
alters them later is found by the read-back. MD5 of the whole is taken once, and bounds the speed.
Buffers are made once and go round.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from kraken_dagster.fs.content_digests import ContentDigests, Hasher
from kraken_dagster.fs.copying.blocks import Block
from kraken_dagster.fs.copying.proven_part import ProvenPart
from kraken_dagster.fs.copying.resume import Begun
from kraken_dagster.fs.copying.source import SourceReader

_MIB = 1024 * 1024


@dataclass(frozen=True)
class CopySizes:
    """In bytes, but for `chunks`, the number of buffers, and `ahead`.

    `block` is a multiple of `chunk`, and both are of pages. `straight`: up to there no other thread
    is worth its start. `ahead`: so many blocks may be written and not proven yet, and one more in
    part; who has to flush a lot at once seems to stand still.
    """

    straight: int = 16 * _MIB
    straight_chunk: int = 8 * _MIB
    chunk: int = _MIB
    chunks: int = 16
    block: int = 8 * _MIB
    ahead: int = 16
    read_back: int = 4 * _MIB


SIZES = CopySizes()


def copy_straight(
    source: SourceReader, part: ProvenPart, digests: ContentDigests, sizes: CopySizes
) -> None:
    """Copies and proves all bytes in this thread, and feeds them to the digests.

    Raises:
        whatever `copy_file` raises
    """
    xxh3 = xxhash.xxh3_128()
    buffer = bytearray(min(sizes.straight_chunk, source.before.size + 1))
    while count := source.fill(buffer):
        with memoryview(buffer) as view, view[:count] as chunk:
            xxh3.update(chunk)
            digests.update(chunk)
            part.write(chunk)
    part.set_times(source.before.mtime_ns)
    block = Block(0, source.size, xxh3.hexdigest())
    part.settle(block)
    part.prove(block)


@dataclass(frozen=True)
class _Chunk:
    buffer: bytearray
    count: int


_Queue = queue.SimpleQueue[_Chunk | Block | None]


class _GivenUp(Exception):
    """Another stage has failed."""


class Overlapped:
    """One copy in stages. The caller's thread reads; `run` returns once all threads have ended."""

    def __init__(
        self, source: SourceReader, part: ProvenPart, begun: Begun, sizes: CopySizes
    ) -> None:
        self._source = source
        self._part = part
        self._sizes = sizes
        self._digests = begun.digests
        self._journal = begun.journal
        self._free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        self._read: _Queue = queue.SimpleQueue()
        self._digested: _Queue = queue.SimpleQueue()
        self._ready: _Queue = queue.SimpleQueue()
        self._written: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        self._ahead = threading.Semaphore(sizes.ahead)
        self._error: BaseException | None = None
        self._failing = threading.Lock()

    def run(self) -> None:
        """Copies and proves all bytes from where the source stands, and feeds them to the digests.

        Raises:
            whatever `copy_file` raises: the first error of any stage
        """
        stages = [self._take_md5, self._write, self._settle, self._prove]
        if self._digests.second is not None:
            stages.append(self._take_second)
        threads = [
            threading.Thread(target=self._guarded, args=(stage,), daemon=True) for stage in stages
        ]

        def start_and_read() -> None:
            for thread in threads:
                thread.start()
            for _ in range(self._sizes.chunks):
                self._free.put(bytearray(self._sizes.chunk))
            self._read_source()

        self._guarded(start_and_read)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        if self._error is not None:
            raise self._error

    def _guarded(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except _GivenUp:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keeps the first error, and wakes every stage that waits for another."""
        with self._failing:
            if self._error is not None:
                return
            self._error = error
        for waiting in (
            *(self._free, self._read, self._digested),
            *(self._ready, self._written, self._settled),
        ):
            waiting.put(None)
        self._ahead.release()

    def _go_on(self) -> None:
        if self._error is not None:
            raise _GivenUp

    def _read_source(self) -> None:
        offset, xxh3 = self._source.size, xxhash.xxh3_128()
        count = self._sizes.chunk
        while count == self._sizes.chunk:  # the buffer was filled, so there may be more
            buffer = self._free.get()
            self._go_on()
            assert buffer is not None
            count = self._source.fill(buffer)
            with memoryview(buffer) as view, view[:count] as chunk:
                xxh3.update(chunk)
            self._read.put(_Chunk(buffer, count))
            size = self._source.size - offset
            if size >= self._sizes.block or (count < self._sizes.chunk and size):
                self._read.put(Block(offset, size, xxh3.hexdigest()))
                self._source.drop_read(offset, size)
                offset, xxh3 = self._source.size, xxhash.xxh3_128()
        self._read.put(None)

    def _take_md5(self) -> None:
        alone = self._digests.second is None
        self._feed(self._digests.md5, self._read, self._ready if alone else self._digested)

    def _take_second(self) -> None:
        assert self._digests.second is not None
        self._feed(self._digests.second, self._digested, self._ready)

    def _feed(self, digest: Hasher, taken: _Queue, given: _Queue) -> None:
        while (item := taken.get()) is not None:
            self._go_on()
            if isinstance(item, _Chunk):
                with memoryview(item.buffer) as view, view[: item.count] as chunk:
                    digest.update(chunk)
            given.put(item)
        given.put(None)

    def _write(self) -> None:
        while (item := self._ready.get()) is not None:
            self._go_on()
            if isinstance(item, Block):
                if self._journal is not None:
                    self._journal.add(item)
                self._ahead.acquire()
                self._written.put(item)
            else:
                with memoryview(item.buffer) as view, view[: item.count] as chunk:
                    self._part.write(chunk)
                self._free.put(item.buffer)
        self._go_on()
        self._part.set_times(self._source.before.mtime_ns)
        self._written.put(None)

    def _settle(self) -> None:
        while (block := self._written.get()) is not None:
            self._go_on()
            self._part.settle(block)
            self._settled.put(block)
        self._go_on()
        self._part.flush()  # the times
        self._settled.put(None)

    def _prove(self) -> None:
        while (block := self._settled.get()) is not None:
            self._go_on()
            self._part.prove(block)
            self._ahead.release()
