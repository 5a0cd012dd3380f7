"""The real raw files of `cases/raw_files`, unpacked, and what harms a copy of one."""

import gzip
import json
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kraken_dagster.metrics.rawqc import table_row
from kraken_dagster.model.metric_values import Value
from kraken_dagster.raw_readers.limited import reading_of
from kraken_dagster.raw_readers.readers import read

CASES = Path(__file__).resolve().parents[1] / "cases" / "raw_files"
BOUNDARY = 4096
# small.RAW: where things stand, for damage that is meant.
HEADER, DATA_AT, RUN_AT = slice(0, 1356), 29422, 1415090
INDEX_AT, EVENTS_AT, PARAMETERS_AT = 1481818, 1485274, 1492158


def small_raw() -> bytes:
    return gzip.decompress((CASES / "small.RAW.gz").read_bytes())


def vendor() -> dict[str, Any]:
    return json.loads((CASES / "small.RAW.vendor.json").read_text())


def dia_pasef(folder: Path) -> Path:
    raw = folder / "diaPASEF.d"
    raw.mkdir(parents=True)
    for packed in (CASES / "diaPASEF.d").glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return raw


def table_of(raw: Path) -> dict[str, Value]:
    """What `kraken-rawqc` would write, read in this process."""
    return table_row(raw, reading_of(read(raw)))


def lengths(size: int, chance: random.Random, count: int = 100) -> list[int]:
    """Every boundary of 4 KB, all but the last bytes, and random ones; the longest first."""
    found = {*range(0, size, BOUNDARY), *(chance.randrange(size) for _ in range(count))}
    return sorted(found | {size - left for left in range(1, 9)}, reverse=True)


def damaged(path: Path, places: range, chance: random.Random, count: int) -> Iterator[None]:
    """The file, each time with another damage: a flipped bit, a zeroed block, or an odd count or
    address. In the end it is as it was.
    """
    data = path.read_bytes()
    odd = (0, 1, 2**31, 2**31 - 1, 2**32 - 1, len(data), len(data) - 1, RUN_AT, INDEX_AT)
    with path.open("r+b", buffering=0) as file:
        for number in range(count):
            at = chance.choice(places)
            if number % 3 == 0:
                patch = bytes([data[at] ^ 1 << chance.randrange(8)])
            elif number % 3 == 1:
                patch = bytes(min(chance.choice((1, 8, 512, BOUNDARY)), len(data) - at))
            else:
                value = chance.choice((*odd, chance.randrange(len(data))))
                patch = struct.pack("<I", value)[: len(data) - at]
            os.pwrite(file.fileno(), patch, at)
            yield
            os.pwrite(file.fileno(), data[at : at + len(patch)], at)
    assert path.read_bytes() == data
