"""One command on a channel of an SSH connection: what goes in, what comes out, how it ended.

Three of paramiko's own ways aren't gone here:

- `Channel.send` and `shutdown_write` may put something on the wire after the channel was closed,
  when the command ends meanwhile. OpenSSH answers that by ending the connection, with every other
  command on it; and the channel's number may be another command's by then. So what is sent here
  is ordered with the closing.
- `Channel.fileno` misses wake-ups, and closes file descriptors that another thread still writes
  to.
- `Channel.exec_command` and everything that is sent wait for ever if the server is frozen. Only
  closing the connection ends that: `alarm`.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko
from paramiko.common import cMSG_CHANNEL_DATA, cMSG_CHANNEL_EOF

# What paramiko raises when a connection breaks in the middle of something.
BROKEN = (paramiko.SSHException, EOFError, OSError)
# paramiko's for "killed by a signal" and for "the connection is lost".
_NO_STATUS = -1
_EXIT_CODE_OF_SIGNAL = 128
_CHUNK = 4 * 1024 * 1024  # more than a server may send at once
_HEADER_BYTES = 64
_GRACE_S = 1.0


@contextmanager
def alarm(transport: paramiko.Transport, seconds: float) -> Iterator[None]:
    """Closes the connection, which wakes everybody who waits for it, a while after `seconds`."""
    timer = threading.Timer(seconds + _GRACE_S, transport.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def converse(
    transport: paramiko.Transport,
    channel: paramiko.Channel,
    command: bytes,
    stdin: bytes,
    deadline: float,
) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and stderr of the command.

    Raises:
        TimeoutError: it has no end yet.
        BROKEN: the connection is lost.
    """
    wake = _Wake()
    channel.in_buffer.set_event(wake)
    channel.in_stderr_buffer.set_event(wake)
    channel.exec_command(command)
    if stdin:
        # By another thread: a command may want to be read from before it reads on.
        feeding = (transport, channel, stdin)
        threading.Thread(target=_feed, args=feeding, daemon=True).start()
    else:
        _send(transport, channel, cMSG_CHANNEL_EOF)
    stdout, stderr = _drain(channel, wake, deadline)
    if not channel.status_event.wait(max(0, deadline - time.monotonic())):
        raise TimeoutError
    code = channel.recv_exit_status()
    if code == _NO_STATUS or not channel.eof_received:
        _check(transport, deadline)
    return (_EXIT_CODE_OF_SIGNAL if code == _NO_STATUS else code), stdout, stderr


class _Wake(threading.Event):
    """Set when there is something to read, and at the end.

    paramiko clears it when one of both streams was read up, even if the other was not. That has
    no effect here.
    """

    def clear(self) -> None:
        pass

    def reset(self) -> None:
        super().clear()


def _drain(channel: paramiko.Channel, wake: _Wake, deadline: float) -> tuple[bytes, bytes]:
    """Everything on both streams, up to their end."""
    stdout, stderr = bytearray(), bytearray()
    while True:
        wake.reset()
        ended = channel.eof_received or channel.closed
        if channel.recv_ready():
            stdout += channel.recv(_CHUNK)
        if channel.recv_stderr_ready():
            stderr += channel.recv_stderr(_CHUNK)
        if ended and not channel.recv_ready() and not channel.recv_stderr_ready():
            return bytes(stdout), bytes(stderr)
        left = deadline - time.monotonic()
        if left <= 0 or not (ended or wake.wait(left)):
            raise TimeoutError


def _feed(transport: paramiko.Transport, channel: paramiko.Channel, stdin: bytes) -> None:
    """Sends it all, or as much as the command takes before it ends."""
    sent = 0
    with suppress(*BROKEN):
        while sent < len(stdin):
            with channel.out_buffer_cv:
                channel.out_buffer_cv.wait_for(lambda: channel.out_window_size or channel.closed)
                size = min(channel.out_window_size, channel.out_max_packet_size - _HEADER_BYTES)
                channel.out_window_size -= size
            data = stdin[sent : sent + size]
            if not _send(transport, channel, cMSG_CHANNEL_DATA, data):
                return
            sent += size
        _send(transport, channel, cMSG_CHANNEL_EOF)


def _send(
    transport: paramiko.Transport, channel: paramiko.Channel, kind: bytes, data: bytes | None = None
) -> bool:
    """Sends it unless the channel is closed; whether it did.

    The locks are paramiko's: the outer one keeps new keys from being negotiated, the inner one
    keeps the channel from being closed.
    """
    message = paramiko.Message()
    message.add_byte(kind)
    message.add_int(channel.remote_chanid)
    if data is not None:
        message.add_string(data)
    while transport.is_active():
        transport.clear_to_send.wait(0.1)
        with transport.clear_to_send_lock:
            if not transport.clear_to_send.is_set():
                continue
            with channel.lock:
                if channel.closed or channel.eof_sent:
                    return False
                transport.packetizer.send_message(message)
                channel.eof_sent = kind == cMSG_CHANNEL_EOF
                return True
    return False


def _check(transport: paramiko.Transport, deadline: float) -> None:
    """Whether the connection works: if not, then it was its end that ended the command.

    `is_active` doesn't tell, it may still be true just after the connection was lost.
    """
    with suppress(paramiko.ChannelException):
        transport.open_session(timeout=max(0, deadline - time.monotonic())).close()
