"""Reads files of strangers in a child process with limits: memory, processor time, what it writes,
how long it takes, how many processes it starts.

A parser may loop, take all memory, or crash, whatever is done about it in the process that it runs
in; Python can't end a thread, and SQLite, Arrow and functions of a site's own can't be told to give
up. So `call` has a child do it, which stays for the next call: it starts once for each run, and
once more after each file that has ended it. Of a file that does there is an error of its own, which
is not tried again by itself.

The child ends with this process, however that ends (see `worker`).
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kraken_dagster.fs.digests import entries_below
from kraken_dagster.fs.limited.calls import packed
from kraken_dagster.fs.limited.error_records import error_from_record
from kraken_dagster.fs.limited.limits import ReadingLimits, too_much_memory
from kraken_dagster.fs.limited.worker import receive, send
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import ReadingEnded

_SCRIPT = Path(__file__).with_name("worker.py")
_AT_ONCE = 2
# OpenBLAS makes its threads when NumPy is imported: half of what that import costs, and no reader
# needs them. Not for all of Kraken: jobs of this machine would inherit it.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
_START_WITHIN_S = 120.0  # imports from a disk that is busy
_END_WITHIN_S = 15.0
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_MOST_LOOKED_AT = 100
_FIND_OUT = "find out what made this file"

_slots = threading.BoundedSemaphore(_AT_ONCE)
_lock = threading.Lock()
_idle: list["_Child"] = []


class _TookTooLong(Exception):
    pass


@dataclass
class _Died(Exception):
    """`had_begun`: with what was asked for. Else the child is gone for want of work."""

    had_begun: bool
    reported: dict[str, Any]

    @property
    def is_from_outside(self) -> bool:
        """Whether somebody else has ended it: the system, for want of memory, say."""
        return self.reported.get("why") == "ended" and -int(self.reported["code"]) in _FROM_OUTSIDE


def call(function: str, *arguments: Any, limits: ReadingLimits, wall_s: float, what: object) -> Any:
    """The result of a function, called in a child process with limits.

    Args:
        function: `package.module:name`; result and arguments are what JSON takes, arguments also
            paths, through open roots too.
        wall_s: seconds until it is given up.
        what: the file or folder that is read, for messages.

    Raises:
        KrakenError, OSError, and others of Python's own: what the function raises.
        ReadingEnded: it exceeded a limit, or the process came to its end by it.
        CopyStalled: it took too long, and where the file is, nothing answers.
    """
    with _slots:
        for is_last in (False, False, True):
            try:
                return _called(function, arguments, limits, wall_s, what)
            except _Died as death:
                if is_last or (death.had_begun and not death.is_from_outside):
                    raise _ended(death, limits, what) from None
            except _TookTooLong:
                break
    paths = [item for item in arguments if isinstance(item, Path)]
    _require_answer(paths, what, wall_s)
    raise ReadingEnded(
        "Reading takes longer than allowed, though its folder answers",
        file=what,
        expected=f"an end within {wall_s:.0f} s",
        next_step=f"{_FIND_OUT}. If it is as it should be, raise `copy_stall_s` in "
        "instruments.yaml.",
    )


def end_idle() -> None:
    """Ends the children that wait for work."""
    with _lock:
        children = [*_idle]
        _idle.clear()
    for child in children:
        child.end()


atexit.register(end_idle)
os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


def _called(
    function: str, arguments: Sequence[Any], limits: ReadingLimits, wall_s: float, what: object
) -> Any:
    child = _taken(limits)
    is_last = True
    try:
        answer = child.ask(function, arguments, wall_s)
        is_last = answer["last"]
    finally:
        if is_last:
            child.end()
        else:
            with _lock:
                _idle.append(child)
    if "error" in answer:
        error = error_from_record(answer["error"])
        raise _named(error, what) if isinstance(error, ReadingEnded) else error
    return answer["result"]


def _named(error: ReadingEnded, what: object) -> ReadingEnded:
    return ReadingEnded(
        error.what,
        file=error.file or what,
        expected=error.expected,
        found=error.found,
        next_step=error.next_step,
    )


def _taken(limits: ReadingLimits) -> "_Child":
    key = (limits, tuple(sys.path))
    with _lock:
        found = next((child for child in _idle if child.key == key), None)
        if found is not None:
            _idle.remove(found)
    if found is not None and found.is_there:
        return found
    if found is not None:
        found.end()
    return _Child(key)


class _Child:
    def __init__(self, key: tuple[ReadingLimits, tuple[str, ...]]) -> None:
        self.key = key
        limits, path = key
        self._socket, theirs = socket.socketpair()
        life, self._life = os.pipe()
        numbers = (theirs.fileno(), life)
        command = [sys.executable, "-I", str(_SCRIPT), *map(str, numbers), limits.model_dump_json()]
        try:
            self._guard = subprocess.Popen(
                command,
                env={**_ONE_THREAD, **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=numbers,
                start_new_session=True,  # Ctrl-C is Kraken's, and not the child's
            )
        except BaseException:
            self._socket.close()
            os.close(self._life)
            raise
        finally:
            theirs.close()
            os.close(life)
        send(self._socket, list(path))

    @property
    def is_there(self) -> bool:
        return not select.select([self._socket], [], [], 0)[0]

    def ask(self, function: str, arguments: Sequence[Any], wall_s: float) -> dict[str, Any]:
        begun = False
        handles: list[int] = []
        items = [packed(item, handles) for item in arguments]
        try:
            send(self._socket, {"function": function, "arguments": items}, tuple(handles))
            begun = receive(self._socket, time.monotonic() + _START_WITHIN_S) is not None
            found = receive(self._socket, time.monotonic() + wall_s) if begun else None
        except TimeoutError:
            raise _TookTooLong from None
        except (ConnectionError, BrokenPipeError):
            found = None
        except ValueError as error:
            raise _Died(True, {"why": "answer", "found": str(error)}) from None
        if found is None or not isinstance(found[0], dict):
            raise _Died(begun, self.end(of_itself=True))
        return found[0]

    def end(self, *, of_itself: bool = False) -> dict[str, Any]:
        """Ends the child, unless it has ended of itself; what its guard says of that."""
        self._socket.close()
        if not of_itself:
            self._let_go()
        output = b""
        try:
            output, _ = self._guard.communicate(timeout=_END_WITHIN_S)
        except subprocess.TimeoutExpired:  # it hangs in a file system, and dies when that answers
            with suppress(ProcessLookupError):
                os.killpg(self._guard.pid, signal.SIGKILL)
        except ValueError:  # ended before
            pass
        self._let_go()
        with suppress(ValueError):
            reported = json.loads(output)
            return reported if isinstance(reported, dict) else {}
        return {}

    def _let_go(self) -> None:
        if self._life >= 0:
            os.close(self._life)
            self._life = -1


def _ended(death: _Died, limits: ReadingLimits, what: object) -> ReadingEnded:
    why, code = death.reported.get("why"), int(death.reported.get("code") or 0)
    if why == "memory":
        return too_much_memory(what)
    if why == "ended" and -code == signal.SIGXCPU:
        return ReadingEnded(
            "Reading takes more processor time than allowed",
            file=what,
            expected=f"an end within {limits.cpu_s} s of it",
            next_step=f"{_FIND_OUT}. If it is as it should be, raise `reading_limits.cpu_s` in "
            "instruments.yaml.",
        )
    if why == "processes":
        return ReadingEnded(
            "Reading starts more processes than allowed",
            file=what,
            expected=f"at most {limits.processes}",
            next_step="correct the function that reads it.",
        )
    return ReadingEnded(
        "The process that reads the file was ended by it",
        file=what,
        expected="metrics, or an error",
        found=death.reported.get("found") or _end_in_words(code, death.reported),
        next_step=f"{_FIND_OUT}, and compare it with the instrument's or the program's.",
    )


def _end_in_words(code: int, reported: dict[str, Any]) -> str:
    if reported.get("why") != "ended":
        return "no word of how"
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"the signal {signal.Signals(-code).name}"
    return f"the signal {-code}"


def _require_answer(paths: Sequence[Path], what: object, timeout_s: float) -> None:
    """Raises CopyStalled where not the files take the time, but a share that doesn't answer."""
    bounded(lambda: _look_at(paths), timeout_s=timeout_s, what=what)


def _look_at(paths: Sequence[Path]) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    below = chain.from_iterable(map(entries_below, paths))
    for one, _ in islice(below, _MOST_LOOKED_AT):
        with suppress(OSError):
            handle = os.open(one, flags)
            try:
                os.read(handle, 1)
            finally:
                os.close(handle)
