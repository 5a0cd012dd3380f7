"""Runs commands on the head node of a cluster, over one SSH connection that is held.

A command is started at most once. While it can't have started, everything is tried: a lost
connection is replaced, a head node that can't be reached gives way to the next one. From then on
a lost answer is an error of its own, AnswerLost, and never a reason to run the command again.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import paramiko

from kraken_dagster.engines.ssh_command import BROKEN, alarm, converse
from kraken_dagster.engines.ssh_connect import HeadNode, Login, NoConnection, connect
from kraken_dagster.model.errors import (
    AnswerLost,
    ClusterUnreachable,
    HostKeyRefused,
    LoginRefused,
)

__all__ = ["Answer", "HeadNode", "Login", "Ssh", "shared"]

_COMMANDS_AT_ONCE = 6  # a server takes 10 on a connection, and is slow to see that one has ended
_RETRY_S = 0.2
# An argument of a program can't be longer, and the command is one of the login shell.
_LONGEST_COMMAND = 128 * 1024 - 1
# What a server says when it has too many sessions, or too few resources for one.
_FULL = (2, 4)


@dataclass(frozen=True)
class Answer:
    """How a command ended: 128 is the exit code of one that a signal killed."""

    exit_code: int
    stdout: str
    stderr: str


class _NotStarted(Exception):
    """The command can't have been started; the text says why."""


@dataclass(eq=False)
class _Connection:
    head: HeadNode
    transport: paramiko.Transport
    users: int = 0


class Ssh:
    """A cluster's head node, for any number of threads.

    At most six commands run at once. A connection on which a command got no answer in time isn't
    used for another one, and is closed when the last command on it has ended.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._last_good: HeadNode | None = None
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()  # guards all that follows
        self._running = 0
        self._connecting = False
        self._held: _Connection | None = None
        self._connections: set[_Connection] = set()  # that one and those that are still in use

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float | None = None) -> Answer:
        """Runs a line of the login shell; its streams' bytes that are no UTF-8 are replaced.

        `timeout_s` bounds the wait for a turn, and then the command itself, until it has ended
        and nothing has its streams open any more. A connection that has to be made comes on top.

        Raises:
            ClusterUnreachable, HostKeyRefused, LoginRefused: the command was not started.
            AnswerLost: it may have been started, and its end is not known. What it had not yet
                got of `stdin` then ends early.
            ValueError: no shell can be given such a command.
        """
        line = command.encode("utf-8", "surrogateescape")
        if b"\0" in line or len(line) > _LONGEST_COMMAND:
            raise ValueError("a command has no NUL and at most 128 kB; more goes into its stdin")
        timeout_s = self._login.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        with self._turn(deadline, timeout_s):
            try:
                return self._run_once(line, stdin, timeout_s, deadline)
            except _NotStarted:
                pass
            try:
                return self._run_once(line, stdin, timeout_s, deadline)
            except _NotStarted as error:
                raise self._unreachable(str(error)) from error

    def close(self) -> None:
        """Closes the connection, also under commands that run. The next command makes a new one."""
        with self._changed:
            closing = list(self._connections)
            self._connections.clear()
            self._held = None
        for connection in closing:
            connection.transport.close()

    def _begin_in_child(self) -> None:
        """After a fork. The connections are the parent's: not a byte may go out on them."""
        for connection in self._connections:
            connection.transport.sock.close()
        self._begin()

    @contextmanager
    def _turn(self, deadline: float, timeout_s: float) -> Iterator[None]:
        with self._changed:
            self._wait_for(lambda: self._running < _COMMANDS_AT_ONCE, deadline, timeout_s)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _run_once(self, line: bytes, stdin: bytes, timeout_s: float, deadline: float) -> Answer:
        connection = self._take(deadline, timeout_s)
        try:
            channel = self._open(connection, deadline)
            code, stdout, stderr = self._converse(connection, channel, line, stdin, timeout_s)
        except _NotStarted:
            self._drop(connection)
            raise
        except TimeoutError as error:
            self._drop(connection)
            raise self._lost(connection, line, f"no end after {timeout_s:g} s") from error
        except BROKEN as error:
            self._drop(connection)
            raise self._lost(connection, line, "the connection broke") from error
        finally:
            self._give_back(connection)
        return Answer(code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    def _take(self, deadline: float, timeout_s: float) -> _Connection:
        """The connection that is held, or a new one."""
        with self._changed:
            self._wait_for(lambda: not self._connecting, deadline, timeout_s)
            held = self._held
            if held is not None and held.transport.is_active():
                held.users += 1
                return held
            self._connecting = True
        made: _Connection | None = None
        try:
            made = self._connect()
            return made
        finally:
            with self._changed:
                self._connecting = False
                self._held = made
                self._tidy()
                self._changed.notify_all()

    def _drop(self, connection: _Connection) -> None:
        """No other command is given to it."""
        with self._changed:
            if self._held is connection:
                self._held = None

    def _give_back(self, connection: _Connection) -> None:
        with self._changed:
            connection.users -= 1
            unused = self._tidy()
        for item in unused:
            item.transport.close()

    def _tidy(self) -> set[_Connection]:
        """Lets go of the connections that nobody needs any more, and returns them."""
        needed = {item for item in self._connections if item.users or item is self._held}
        unused = self._connections - needed
        self._connections = needed if self._held is None else needed | {self._held}
        return unused

    def _connect(self) -> _Connection:
        """To the head node that worked last, or else to the first that works."""
        refusals: list[HostKeyRefused | LoginRefused] = []
        reasons = []
        for head in sorted(self._login.heads, key=lambda item: item != self._last_good):
            try:
                transport = connect(self._login, head)
            except (HostKeyRefused, LoginRefused) as error:
                refusals.append(error)
            except NoConnection as error:
                reasons.append(f"{head}: {error}")
            else:
                self._last_good = head
                return _Connection(head, transport, users=1)
        if refusals:
            raise min(refusals, key=lambda refusal: isinstance(refusal, LoginRefused))
        raise self._unreachable("; ".join(reasons))

    def _open(self, connection: _Connection, deadline: float) -> paramiko.Channel:
        """A channel for one command; waits while the server has too many of them."""
        while True:
            try:
                with alarm(connection.transport, self._login.timeout_s):
                    return connection.transport.open_session(timeout=self._login.timeout_s)
            except BROKEN as error:
                if not _is_full(connection.transport, error):
                    raise _NotStarted(str(error) or "the connection broke") from error
                if time.monotonic() >= deadline:
                    raise self._unreachable("the server opens no more sessions") from error
            with self._changed:
                self._changed.wait(_RETRY_S)  # until another command has ended, or the server's

    def _converse(
        self,
        connection: _Connection,
        channel: paramiko.Channel,
        line: bytes,
        stdin: bytes,
        timeout_s: float,
    ) -> tuple[int, bytes, bytes]:
        deadline = time.monotonic() + timeout_s
        with alarm(connection.transport, timeout_s):
            try:
                return converse(connection.transport, channel, line, stdin, deadline)
            except BROKEN as error:
                if time.monotonic() < deadline:
                    raise
                raise TimeoutError from error  # it broke because of the alarm
            finally:
                with suppress(*BROKEN):
                    channel.close()

    def _wait_for(self, condition: Callable[[], bool], deadline: float, timeout_s: float) -> None:
        if not self._changed.wait_for(condition, max(0, deadline - time.monotonic())):
            raise self._unreachable(f"it was not this command's turn within {timeout_s:g} s")

    def _unreachable(self, found: str) -> ClusterUnreachable:
        first = self._login.heads[0]
        return ClusterUnreachable(
            "The cluster can't be reached; the command was not started",
            file=", ".join(f"{self._login.user}@{head}" for head in self._login.heads),
            expected="a connection to one of its head nodes",
            found=found,
            next_step=f"check the network and the head nodes: `ssh -p {first.port} "
            f"{self._login.user}@{first.host} true`. Tried again by itself.",
        )

    def _lost(self, connection: _Connection, line: bytes, found: str) -> AnswerLost:
        text = line.decode(errors="replace")
        return AnswerLost(
            "The end of a command on the cluster is not known; it may have run",
            file=f"{self._login.user}@{connection.head}",
            expected=f"the end of {text if len(text) <= 200 else text[:200] + '...'!r}",
            found=found,
            next_step="look there for what it did. Kraken doesn't repeat it blindly.",
        )


def shared(login: Login) -> Ssh:
    """The one held client of this process for that login, made at first use.

    A child process after a fork makes connections of its own.
    """
    with _shared_lock:
        if login not in _shared:
            _shared[login] = Ssh(login)
        return _shared[login]


def _is_full(transport: paramiko.Transport, error: BaseException) -> bool:
    """Whether the server takes no more sessions now, on a connection that works."""
    if isinstance(error, paramiko.ChannelException):
        return error.code in _FULL
    # When several threads are turned down at once, some of them are only told this.
    return transport.is_active() and str(error) == "Unable to open channel."


def _begin_in_child() -> None:
    global _shared_lock  # noqa: PLW0603 - whoever held it doesn't live in this process
    _shared_lock = threading.Lock()
    for client in list(_clients):
        client._begin_in_child()


_clients: "weakref.WeakSet[Ssh]" = weakref.WeakSet()
_shared: dict[Login, Ssh] = {}
_shared_lock = threading.Lock()
os.register_at_fork(after_in_child=_begin_in_child)
