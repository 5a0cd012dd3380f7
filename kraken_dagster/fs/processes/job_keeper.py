"""Keeps one job of this machine: starts its program, and writes down how that ended.

Run as a script, with Python's own library alone:

    job_keeper.py JOB_FOLDER OUTPUT_FOLDER JOB_NAME COMMAND ARGUMENT...

There are two keepers. The one that is started leads the job's session, and stands by. The other,
its child, starts the program, reads what it prints, and at its end also ends what it has left
behind, as a cluster does. If either is killed the other has all that it needs to go on.

A full disk ends no program. What can't be written of its log is dropped. The place of the exit code
is taken before the program begins; should it be lost all the same, the code goes into the output
folder, or waits until there is room.
"""

import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

EXIT_CODE, ID, ID_PART, LOG = "exit_code", "id", "id.part", "log.txt"
EXIT_CODE_BYTES, ID_BYTES = 32, 1024
LEFT_IN_OUTPUT = "kraken.exit_code"
# In the environment of all processes of a job, also of those that leave its session.
MARK = "KRAKEN_LOCAL_JOB"
# The umask that Kraken was started with, octal. It is the program's; Kraken's own is private.
SITE_UMASK = "KRAKEN_SITE_UMASK"
SPEC, MARKER = "spec.json", ".kraken-store"
ENDED, ENDED_AWAY = "end", "away"
TERM_PATIENCE_S = 5.0  # for a program that tidies up before it ends
_GONE = "ZX"
_NO_FOLDER = 75  # as where the job's stores are away
_PR_SET_CHILD_SUBREAPER = 36
# What a file system says that has no such operation, as in `attributes`.
_NO_FLUSH = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_CHUNK = 64 * 1024


class Facts(NamedTuple):
    """What the kernel says of a process; `start` tells it from another of the same number."""

    state: str
    session: int
    start: int


def facts_of(pid: int) -> Facts | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # there is no such process
        return None
    fields = text.rpartition(b") ")[2].split()
    return Facts(fields[0].decode(), int(fields[3]), int(fields[19]))


def is_alive(pid: int, start: int) -> bool:
    """Whether that very process lives, and not another one that got its number later."""
    facts = facts_of(pid)
    return facts is not None and facts.start == start and facts.state not in _GONE


def living(job_dir: Path, leader: int, start: int) -> list[int]:
    """The processes of a job that are alive: those of its session, and those that have its mark.

    A number isn't given anew while a session has it, so a session whose leader is gone is the
    job's own, and one whose leader started at another time is not.
    """
    mark = os.fsencode(f"{MARK}={job_dir}")
    first = facts_of(leader)
    of_ours = first is None or first.start == start
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        facts = facts_of(int(name))
        if facts is None or facts.state in _GONE:
            continue
        in_session = of_ours and facts.session == leader and facts.start >= start
        if in_session or mark in _environment(name):
            found.append(int(name))
    return found


def send(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _environment(pid: str) -> list[bytes]:
    """As a process was started with it; nothing of those of other users."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


class _Keeper:
    """What both keepers know of the job."""

    def __init__(self, job_dir: Path, output: Path, name: str) -> None:
        self.job_dir = job_dir
        self.output = output
        self.name = name
        self.leader = os.getpid()
        facts = facts_of(self.leader)
        self.start = 0 if facts is None else facts.start
        self.printed, self.prints = os.pipe()
        self.reported, self.tells = os.pipe()
        self._log: int | None = None
        self._dropped = 0

    def introduce(self) -> None:
        """Writes down who leads the job. From then on it counts as started."""
        stat = Path(f"/proc/{self.leader}/stat").read_text().rpartition(") ")[2].strip()
        part = self.job_dir / ID_PART
        _overwrite(part, f"{self.leader} {stat}", ID_BYTES)
        part.rename(self.job_dir / ID)

    def start_program(self, command: Sequence[str]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python itself ignores these
                signal.signal(number, signal.SIG_DFL)
            os.dup2(self.prints, 1)
            os.dup2(self.prints, 2)
            # As it was given to this process: Python may have added to it.
            given = Path("/proc/self/environ").read_bytes().split(b"\0")
            environment = dict(item.split(b"=", 1) for item in given if b"=" in item)
            if umask := environment.pop(os.fsencode(SITE_UMASK), None):
                os.umask(int(umask, 8))
            words = [
                "/bin/sh",
                "-c",
                f'cd -- "$0" || exit {_NO_FOLDER}; exec "$@"',
                str(self.output),
                *command,
            ]
            os.execve(words[0], words, environment)  # noqa: S606 - the shell is the program
        finally:
            os._exit(126)

    def keep(self, program: int) -> None:
        """Until the program and all that it has started have ended, and its end is written down."""
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        os.set_blocking(self.printed, False)
        with suppress(ChildProcessError):  # whoever waited for it before has written it down
            while (code := _exit_code_of(program)) is None:
                self._read(wake)
            self._end_the_rest()
            self._read()
            self._write_down(code)

    def _read(self, wake: int | None = None, *, timeout_s: float = 0) -> None:
        """What is printed by now; with `wake`, waits for something, or for a child to end."""
        streams = [self.printed] if self.printed >= 0 else []
        if wake is not None:
            found, _, _ = select.select([*streams, wake], [], [])
        else:
            found, _, _ = select.select(streams, [], [], timeout_s)
        if wake in found:
            os.read(wake, _CHUNK)
        while self.printed in found:
            try:
                data = os.read(self.printed, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                self.printed = -1
                return
            self._append(data)

    def _append(self, data: bytes) -> None:
        try:
            if self._log is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._log = os.open(self.job_dir / LOG, flags, 0o666)
            if self._dropped:
                reported = f"\n[kraken: {self._dropped} bytes are missing here; no room for them]\n"
                data = reported.encode() + data
            self._dropped = 0
            while data:
                data = data[os.write(self._log, data) :]
        except OSError:
            self._dropped += len(data)

    def _end_the_rest(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + TERM_PATIENCE_S
            send(self._rest(), number)
            while self._rest() and time.monotonic() < end:
                self._read(timeout_s=0.05)
                time.sleep(0.01)

    def _rest(self) -> list[int]:
        keepers = {self.leader, os.getpid()}
        found = living(self.job_dir, self.leader, self.start)
        return [pid for pid in found if pid not in keepers]

    def _write_down(self, code: int) -> None:
        end = ENDED_AWAY if self._output_is_away() else ENDED
        while True:
            with suppress(OSError):
                _overwrite(self.job_dir / EXIT_CODE, f"{code} {end}", EXIT_CODE_BYTES)
                return
            with suppress(OSError):
                part = self.output / f"{LEFT_IN_OUTPUT}.part"
                part.write_text(f"{code} local {self.name}\n")
                part.rename(self.output / LEFT_IN_OUTPUT)
                return
            if _is_gone(self.job_dir) and _is_gone(self.output):
                return  # somebody has removed the job
            time.sleep(1)

    def _output_is_away(self) -> bool:
        """By the output's marker; False where the job has none to look for."""
        try:
            root, line = json.loads((self.job_dir / SPEC).read_text())["stores"][0]
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return False
        try:
            return line not in Path(root, MARKER).read_text(errors="replace").splitlines()
        except OSError:
            return True


def _is_gone(folder: Path) -> bool:
    """What can't be looked at is there, and may be written to once it can."""
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _overwrite(path: Path, text: str, size: int) -> None:
    """In the room that the file has."""
    number = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(number, f"{text:<{size - 1}}\n".encode(), 0)
        try:
            os.fsync(number)
        except OSError as error:
            if error.errno not in _NO_FLUSH:
                raise
    finally:
        os.close(number)


def _exit_code_of(pid: int) -> int | None:
    """None while it runs. It stays there to be asked again, by the other keeper."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _nothing(*_: object) -> None:
    """What is told to end is the job, and not who keeps it."""


def _stand_by(keeper: _Keeper, other: int) -> None:
    """Goes on with what the other keeper did, should that be killed."""
    while True:
        pid, status = os.waitpid(-1, 0)  # what the job has left, too, is this process's by now
        if pid == other:
            break
    number = os.read(keeper.reported, _CHUNK)
    if status and number:
        keeper.keep(int(number))


def _lead(keeper: _Keeper, command: Sequence[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _nothing)
    other = os.fork()
    if other:
        os.close(keeper.prints)
        os.close(keeper.tells)
        _stand_by(keeper, other)
        return
    program = keeper.start_program(command)
    os.write(keeper.tells, str(program).encode())
    os.close(keeper.prints)
    keeper.keep(program)


def main(arguments: Sequence[str]) -> NoReturn:
    """Its stdin is the lock of the claim, held until it is written down who leads the job."""
    job_dir, output, name, *command = arguments
    keeper = _Keeper(Path(job_dir), Path(output), name)
    try:
        keeper.introduce()
    except OSError as error:
        os._exit(error.errno or 1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    _lead(keeper, command)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
