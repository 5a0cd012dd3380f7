"""Runs a function that may hang in the file system, and waits for it a bounded time only.

The thread of a function that hangs is left behind: nothing can end it.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kraken_dagster.model.errors import CopyStalled

T = TypeVar("T")
_left: set[threading.Thread] = set()
_lock = threading.Lock()


def leave_behind(thread: threading.Thread) -> None:
    """Keeps in mind a thread that hangs, and that nobody waits for any more."""
    if thread.is_alive():
        with _lock:
            _left.add(thread)


def anybody_left() -> bool:
    """Whether a thread that was left behind still lives, and may go on at any moment."""
    with _lock:
        _left.intersection_update([thread for thread in _left if thread.is_alive()])
        return bool(_left)


def bounded(function: Callable[[], T], *, timeout_s: float, what: object) -> T:
    """The function's result; its error; or CopyStalled when it gives no answer in time."""
    return beating(lambda _beat: function(), stall_s=timeout_s, what=what)


def beating(function: Callable[[Callable[[int], None]], T], *, stall_s: float, what: object) -> T:
    """Like `bounded`, for a function of any length that calls what it is given as it gets on.

    CopyStalled when it hasn't for `stall_s` seconds.
    """
    answers: list[T] = []
    errors: list[BaseException] = []
    beaten = [time.monotonic()]

    def beat(_count: int) -> None:
        beaten[0] = time.monotonic()

    def call() -> None:
        try:
            answers.append(function(beat))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(max(0.01, beaten[0] + stall_s - time.monotonic()))
            if thread.is_alive() and time.monotonic() - beaten[0] >= stall_s:
                raise CopyStalled(
                    "A share or the backup store gives no answer",
                    file=what,
                    expected=f"an answer within {stall_s:.0f} s",
                    next_step="check the mounts of the instrument and the backup; tried again by "
                    "itself.",
                )
    finally:
        leave_behind(thread)
    if errors:
        raise errors[0]
    return answers[0]
