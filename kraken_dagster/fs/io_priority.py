"""The kernel's I/O priority of a thread, for as long as it does something in the background.

It is one thread's, and that of the threads that it starts. Only the I/O schedulers `bfq` and
`mq-deadline` of this machine's own disks go by it; a share's server never hears of it.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Ionice = Literal["idle"] | int

_CLASS_SHIFT = 13
_NONE, _BEST_EFFORT, _IDLE = 0, 2, 3
_THIS_THREAD = (1, 0)  # IOPRIO_WHO_PROCESS, and 0 for who calls
# No C library has functions for these; numbers of `ioprio_set` and `ioprio_get`.
_NUMBERS = {"x86_64": (251, 252), "aarch64": (30, 31)}


@contextmanager
def io_priority(wanted: Ionice | None) -> Iterator[None]:
    """This thread's I/O is of the class `idle`, or of `best effort` with a level from 0 (first) to
    7 (last), and then what it was before. None: as it is.

    Where the kernel refuses it, or this machine is another than x86_64 and aarch64, nothing
    changes.
    """
    before = None if wanted is None else get_priority()
    if wanted is None or before is None:
        yield
        return
    _call(0, _value(wanted))
    try:
        yield
    finally:
        _call(0, before)


def get_priority() -> int | None:
    """The kernel's number for this thread, as `ioprio_set` takes it; None where there is none."""
    found = _call(1)
    if found is None or found < 0:
        return None
    # Older kernels give a level along with the class "none", and take none.
    return 0 if found >> _CLASS_SHIFT == _NONE else found


def _value(wanted: Ionice) -> int:
    if wanted == "idle":
        return _IDLE << _CLASS_SHIFT
    return _BEST_EFFORT << _CLASS_SHIFT | int(wanted)


def _call(which: int, *value: int) -> int | None:
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None:
        return None
    arguments = (numbers[which], *_THIS_THREAD, *value)
    return int(ctypes.CDLL(None, use_errno=True).syscall(*map(ctypes.c_long, arguments)))
