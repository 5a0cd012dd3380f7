"""The child of `child`. Run by its path as a program:

    python -I worker.py SOCKET LIFE LIMITS

Two processes: a guard, which reads nothing, and the worker, which the guard makes by fork, has the
limits, and answers what comes by the socket. The guard waits for the worker's end, or for that of
Kraken, when LIFE is closed; then it ends everything that the worker has started, also what has left
its process group, takes away its temporary files, and says on stdout how the worker ended.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time

MOST_ANSWER_BYTES = 32 * 1024 * 1024
_MOST_PRINTED_BYTES = 64 * 1024  # what is printed beyond goes nowhere
_IDLE_S = 60.0
_LOOK_EVERY_S = 0.25
_END_WITHIN_S = 10.0
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_HEAD = struct.Struct(">Q")
_MB = 1024 * 1024


def send(to: socket.socket, message: object, handles: "tuple[int, ...]" = ()) -> None:
    """Sends a message as JSON, behind its length, and handles with it."""
    body = json.dumps(message).encode()
    if len(body) > MOST_ANSWER_BYTES:
        raise ValueError(f"{len(body)} bytes")
    socket.send_fds(to, [_HEAD.pack(len(body))], list(handles))
    to.sendall(body)


def receive(
    source: socket.socket, deadline: "float | None" = None
) -> "tuple[object, list[int]] | None":
    """The next message, and the handles that came with it; None at the end.

    Raises:
        TimeoutError: it is not there by `deadline`, of `time.monotonic`.
        ValueError: it is longer than it may be, or no JSON.
    """
    _set_timeout(source, deadline)
    head, handles, _, _ = socket.recv_fds(source, _HEAD.size, 8)
    head += _received(source, _HEAD.size - len(head), deadline) if head else b""
    if len(head) < _HEAD.size:
        return None
    (size,) = _HEAD.unpack(head)
    if size > MOST_ANSWER_BYTES:
        raise ValueError(f"an answer of {size} bytes")
    body = _received(source, size, deadline)
    try:
        return (json.loads(body), handles) if len(body) == size else None
    except RecursionError as error:
        raise ValueError("an answer of too many levels") from error


def _received(source: socket.socket, size: int, deadline: "float | None") -> bytes:
    parts, left = [], size
    while left:
        _set_timeout(source, deadline)
        part = source.recv(min(left, _MB))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _set_timeout(source: socket.socket, deadline: "float | None") -> None:
    source.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))


def main(arguments: "list[str]") -> None:
    number, life = map(int, arguments[:2])
    limits = json.loads(arguments[2])
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of the worker become the guard's
    folder = tempfile.mkdtemp(prefix="kraken-reading-")
    printed, printing = os.pipe()
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)
        os.close(life)
        os.close(printed)
        _begin(printing, folder, limits)
        os._exit(_work(number, limits))
    os.close(number)
    os.close(printing)
    reported: dict[str, object] = {"why": "guard"}
    try:
        reported = _watch(worker, life, printed, limits)
    finally:
        _end_all(guard)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            sys.stdout.write(json.dumps(reported))
            sys.stdout.flush()


def _watch(worker: int, life: int, printed: int, limits: "dict[str, int]") -> "dict[str, object]":
    """How the worker ended, or why it has to."""
    sources, left, looked_at = [life, printed], _MOST_PRINTED_BYTES, 0.0
    while True:
        readable, _, _ = select.select(sources, [], [], _LOOK_EVERY_S)
        if life in readable:
            return {"why": "left"}
        if printed in readable:
            words = os.read(printed, 65536)
            if not words:
                sources.remove(printed)
            left -= _print(words[:left])
        if time.monotonic() - looked_at < _LOOK_EVERY_S and readable:
            continue
        looked_at = time.monotonic()
        if (status := _reaped(worker)) is not None:
            return {"why": "ended", "code": os.waitstatus_to_exitcode(status)}
        below = _below(os.getpid())
        if len(below) > limits["processes"]:
            return {"why": "processes"}
        if sum(map(_memory_kb, below)) > limits["memory_mb"] * 1024:
            return {"why": "memory"}


def _print(words: bytes) -> int:
    """Writes as much of it to Kraken's own stderr as that takes at once; how much."""
    with contextlib.suppress(OSError):
        if words and select.select([], [2], [], 0)[1]:
            return os.write(2, words[: select.PIPE_BUF])
    return 0


def _reaped(worker: int) -> "int | None":
    """The worker's wait status, if it has ended; orphans that have are forgotten."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == worker:
                return status
            if pid == 0:
                break
    return None


def _end_all(guard: int) -> None:
    """Kills whatever is below the guard. What hangs in a file system dies when that answers."""
    until = time.monotonic() + _END_WITHIN_S
    while (below := _below(guard)) and time.monotonic() < until:
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reaped(0)
        time.sleep(0.005)


def _below(top: int) -> "list[int]":
    """All processes that descend from one."""
    found, left = [], [top]
    while left:
        children = _children(left.pop())
        found += children
        left += children
    return found


def _children(pid: int) -> "list[int]":
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            path = f"/proc/{pid}/task/{thread}/children"
            with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def _memory_kb(pid: int) -> int:
    """What a process holds of its own; memory mapped from files can be taken from it."""
    found = 0
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith((b"RssAnon:", b"RssShmem:")):
                found += int(line.split()[1])
    return found


def _begin(printing: int, folder: str, limits: "dict[str, int]") -> None:
    """The worker's surroundings: its limits, its temporary folder, nothing on stdin."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (printing, 1), (printing, 2)):
        os.dup2(number, target)
    os.close(nothing)
    os.close(printing)
    os.setpgid(0, 0)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    # RLIMIT_AS would count what allocators reserve and never touch: Arrow's does so by gigabytes.
    _limit(resource.RLIMIT_DATA, limits["memory_mb"] * _MB)
    _limit(resource.RLIMIT_FSIZE, limits["written_mb"] * _MB)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))


def _work(number: int, limits: "dict[str, int]") -> int:
    kraken = socket.socket(fileno=number)
    first = receive(kraken)
    assert first is not None
    sys.path[:] = first[0]  # type: ignore[call-overload]
    from kraken_dagster.fs.limited.calls import Calls  # noqa: PLC0415

    calls = Calls(limits["memory_mb"] * _MB // 2)
    while select.select([kraken], [], [], _IDLE_S)[0]:
        request = receive(kraken)
        if request is None:
            break
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + 1 + limits["cpu_s"]
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
        send(kraken, "begun")
        answer = calls.answer(*request)
        send(kraken, answer)
        if answer["last"]:
            break
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
