"""Child processes that end with their parent, and the ports that they listen on."""

import ctypes
import signal
import socket
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """For `preexec_fn`. Linux: this signal once the starting thread is gone; else no effect."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def accepts(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody listens on this port of this machine, at this address of its own."""
    with socket.socket(_family(host)) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
