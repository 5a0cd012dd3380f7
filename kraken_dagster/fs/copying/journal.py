"""The journal beside a part: of what it is a copy, and which blocks were written to it.

A line each, with a check over itself and all lines before it. A journal of which any byte is not
what was written, or that ends within a line, is none.
"""

import json
import os
import platform
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from kraken_dagster.fs.copying.blocks import Block
from kraken_dagster.fs.digests import Identity

_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Origin:
    """Of what a part is a copy, and who makes it; only a copy of the same may go on with it.

    Times are in ns, `block_bytes` in bytes. `attempt` is whatever tells one backup from another.
    """

    source: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    host: str
    attempt: str
    block_bytes: int


def origin(source: Path, before: Identity, attempt: str, block_bytes: int) -> Origin:
    return Origin(
        str(source),
        before.size,
        before.mtime_ns,
        before.ctime_ns,
        before.inode,
        _this_host(),
        attempt,
        block_bytes,
    )


def _this_host() -> str:
    """Containers of one image have one machine id; hosts of one name may not."""
    with suppress(OSError):
        return f"{platform.node()} {Path('/etc/machine-id').read_text().strip()}"
    return platform.node()


class Journal:
    """Writes lines to an open file. What the store refuses ends the journal and not the copy."""

    def __init__(self, handle: int, origin: Origin, blocks: Iterable[Block] = ()) -> None:
        self._handle = handle
        self._check = ""
        self._ended = False
        self._add(json.dumps(asdict(origin)))
        for block in blocks:
            self.add(block)

    def add(self, block: Block) -> None:
        """For a block whose bytes were written."""
        self._add(json.dumps([block.offset, block.size, block.xxh3]))

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._handle)

    def _add(self, body: str) -> None:
        if self._ended:
            return
        self._check = _checked(self._check, body)
        line = f"{self._check} {body}\n".encode()
        try:
            self._ended = os.write(self._handle, line) != len(line)
        except OSError:
            self._ended = True


def read_journal(handle: int) -> tuple[Origin, list[Block]] | None:
    """What an open journal says; None where it is not as it was written.

    Raises:
        OSError
    """
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MAX_BYTES:
        return None
    with os.fdopen(os.dup(handle), "rb") as file:
        lines = file.read(_MAX_BYTES).split(b"\n")
    check, bodies = "", []
    for line in lines[:-1]:
        said, _, body = line.decode(errors="replace").partition(" ")
        check = _checked(check, body)
        if said != check:
            return None
        bodies.append(body)
    if not bodies or lines[-1]:
        return None
    try:
        return Origin(**json.loads(bodies[0])), [_block(body) for body in bodies[1:]]
    except (TypeError, ValueError):  # of another version
        return None


def _block(body: str) -> Block:
    offset, size, xxh3 = json.loads(body)
    if (type(offset), type(size), type(xxh3)) != (int, int, str) or min(offset, size) < 0:
        raise ValueError(body)
    return Block(offset, size, xxh3)


def _checked(before: str, body: str) -> str:
    return xxhash.xxh3_128_hexdigest(f"{before} {body}".encode())
