"""The exact median of a series that is never held as a whole.

A double's bits, read as an integer, stand in the order of the numbers. The first pass counts the
integers by their leading bits, as few as leave no more than `MOST_BUCKETS` different ones: a series
with few values, like charges, is counted whole and is done. Else the bucket that holds the median
is searched: if it is small, the second pass keeps its numbers, if not, it counts within it, and so
on, a byte at a time at worst.
"""

import struct
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BUCKETS = 4_096
MOST_KEPT = 1 << 19  # numbers of one bucket, 4 MB
_STEP_BITS = 8
_LEAST, _GREATEST = -(2**63), 2**63 - 1
_ALL_BUT_SIGN = 2**63 - 1


class MedianSearch:
    """Is given the same series in each pass, until `end_pass` says that it is over."""

    def __init__(self, *, most_kept: int = MOST_KEPT) -> None:
        self._most_kept = most_kept
        self.median: float | None = None
        self._first, self._last = _LEAST, _GREATEST  # where the median's lower key is
        self._below = 0  # keys less than `_first`
        self._total: int | None = None
        self._size: int | None = None  # keys from `_first` to `_last`
        self.begin_pass()

    def begin_pass(self) -> None:
        self._counts: Counter[int] = Counter()
        self._shift = 0
        self._kept: list[pa.Array] = []
        self._next = _GREATEST  # the least key above `_last`

    def add(self, numbers: "pa.Array") -> None:
        """Doubles, none of them missing."""
        keys = _keys(numbers)
        if self._total is not None:
            keys = self._within(keys)
        if len(keys) == 0:
            return
        if self._keeps:
            self._kept.append(keys)
        else:
            self._count(keys)

    def end_pass(self) -> bool:
        """Whether the median is found; OSError if the series is another than in an earlier pass."""
        if self._total is None:
            self._total = self._counts.total()
            if self._total == 0:
                return True
        found = sum(map(len, self._kept)) if self._keeps else self._counts.total()
        if self._size is not None and found != self._size:
            raise OSError("the table changed while it was read")
        if self._keeps:
            self._end(_sorted(self._kept))
            return True
        return self._narrow()

    @property
    def _keeps(self) -> bool:
        return self._size is not None and self._size <= self._most_kept

    @property
    def _rank(self) -> int:
        """Of the median, or the lower one of two, among the keys from `_first` on."""
        assert self._total is not None
        return (self._total - 1) // 2 - self._below

    def _within(self, keys: "pa.Array") -> "pa.Array":
        import pyarrow.compute as pc  # noqa: PLC0415

        above = pc.greater(keys, _scalar(self._last))
        least = pc.min(keys.filter(above)).as_py()
        self._next = self._next if least is None else min(self._next, least)
        return keys.filter(pc.and_(pc.invert(above), pc.greater_equal(keys, _scalar(self._first))))

    def _count(self, keys: "pa.Array") -> None:
        import pyarrow.compute as pc  # noqa: PLC0415

        buckets = pc.value_counts(pc.shift_right(keys, _scalar(self._shift)))
        while len(buckets) > MOST_BUCKETS:
            self._coarsen()
            buckets = pc.value_counts(pc.shift_right(keys, _scalar(self._shift)))
        values, counts = (field.to_pylist() for field in buckets.flatten())
        self._counts.update(dict(zip(values, counts, strict=True)))
        while len(self._counts) > MOST_BUCKETS:
            self._coarsen()

    def _coarsen(self) -> None:
        self._shift += _STEP_BITS
        coarser: Counter[int] = Counter()
        for bucket, count in self._counts.items():
            coarser[bucket >> _STEP_BITS] += count
        self._counts = coarser

    def _narrow(self) -> bool:
        """Goes to the bucket of the median; whether that is the number itself."""
        before = 0
        buckets = sorted(self._counts)
        place = 0
        while before + self._counts[buckets[place]] <= self._rank:
            before += self._counts[buckets[place]]
            place += 1
        bucket, count = buckets[place], self._counts[buckets[place]]
        if self._shift == 0:
            following = buckets[place + 1] if place + 1 < len(buckets) else self._next
            self._set(bucket, bucket if before + count > self._rank + 1 else following)
            return True
        self._below += before
        self._size = count
        self._first = bucket << self._shift
        self._last = self._first + (1 << self._shift) - 1
        return False

    def _end(self, keys: "pa.Array") -> None:
        rank = self._rank
        lower = keys[rank].as_py()
        self._set(lower, keys[rank + 1].as_py() if rank + 1 < len(keys) else self._next)

    def _set(self, lower: int, upper: int) -> None:
        assert self._total is not None
        if self._total % 2:
            self.median = _number(lower)
        else:
            self.median = (_number(lower) + _number(upper)) / 2


def _keys(numbers: "pa.Array") -> "pa.Array":
    """The bits as integers; those of negative numbers turned round, so that the order is right."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    bits = numbers.view(pa.int64())
    if len(bits) == 0 or pc.min(bits).as_py() >= 0:
        return bits
    return pc.if_else(
        pc.less(bits, _scalar(0)), pc.bit_wise_xor(bits, _scalar(_ALL_BUT_SIGN)), bits
    )


def _scalar(value: int) -> "pa.Scalar":
    """Made of its bytes: to look at a number of Python's, pyarrow would import pandas, where there
    is one, which costs more than all the rest.
    """
    import pyarrow as pa  # noqa: PLC0415

    buffer = pa.py_buffer(struct.pack("=q", value))
    return pa.Array.from_buffers(pa.int64(), 1, [None, buffer])[0]


def _number(key: int) -> float:
    bits = key if key >= 0 else key ^ _ALL_BUT_SIGN
    number: float = struct.unpack("=d", struct.pack("=q", bits))[0]
    return number


def _sorted(chunks: "list[pa.Array]") -> "pa.Array":
    import pyarrow as pa  # noqa: PLC0415

    return pa.concat_arrays(chunks).sort()
