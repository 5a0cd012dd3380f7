"""Blocks of a file.

They carry an XXH3-128 digest (https://xxhash.com) of the source's bytes. It is no cryptographic
digest: it tells what a disk, a cache or a cable did, and nobody chose those bytes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """Bytes of a file from `offset` on, and what XXH3-128 gave for them in the source."""

    offset: int
    size: int
    xxh3: str
