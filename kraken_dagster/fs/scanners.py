"""Child processes that list folders and live on, each used by one look at a time.

A network mount that hangs blocks whoever touches it, beyond any signal. So a child looks, and the
caller waits for a bounded time. A child that hangs is left behind, and another takes its place: it
costs no other look anything. The children end when this process does, as their stdin ends.
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_SCRIPT: Final = Path(__file__).with_name("scan_folder.py")
_MOST_IDLE: Final = 4
_READ_BYTES: Final = 1024 * 1024

_idle: list["Scanner"] = []
_lock = threading.Lock()


class ScannerEnded(Exception):
    """It died, or was killed, before its answer was complete."""


class Scanner:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, question: Mapping[str, object], deadline: float) -> Iterator[Any]:
        """Each line of the answer; the last one is an object, all before it are lists.

        Args:
            deadline: of `time.monotonic`.

        Raises:
            TimeoutError, ScannerEnded: it is of no use any more.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise ScannerEnded from error
        for line in self._lines(deadline):
            said = json.loads(line)
            yield said
            if isinstance(said, dict):
                return

    def _lines(self, deadline: float) -> Iterator[bytes]:
        assert self.process.stdout is not None
        handle, rest = self.process.stdout.fileno(), b""
        ready = select.poll()
        ready.register(handle, select.POLLIN)
        while True:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or not ready.poll(left_ms):
                raise TimeoutError
            block = os.read(handle, _READ_BYTES)
            if not block:
                raise ScannerEnded
            *lines, rest = (rest + block).split(b"\n")
            yield from lines

    def kill(self) -> None:
        """In vain while a mount hangs: then it dies when that answers."""
        self.process.kill()

    def is_gone(self) -> bool:
        """Whether nothing is left of it, so that its pipes are closed too."""
        if self.process.poll() is None:
            return False
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return True


def take() -> Scanner:
    """One that nobody uses."""
    with _lock:
        found = _idle.pop() if _idle else None
    if found is None or found.is_gone():
        return Scanner()
    return found


def give_back(scanner: Scanner) -> None:
    """One that has answered completely."""
    with _lock:
        if len(_idle) < _MOST_IDLE:
            _idle.append(scanner)
            return
    scanner.kill()
    scanner.process.wait()
    scanner.is_gone()
