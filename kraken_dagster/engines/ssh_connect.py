"""Makes a connection to one head node of a cluster: reaches it, checks its host key, logs in.

The host key is compared with the lines of the known_hosts file that name the host just as it is
configured, plain or hashed. Patterns and lines with a marker don't count.
"""

import base64
import hashlib
import logging
import shlex
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import paramiko

from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import CopyStalled, HostKeyRefused, LoginRefused

_DEFAULT_PORT = 22
_KEEPALIVE_S = 30
# The signatures that a host key of this type may be asked for, where they aren't called like it.
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
# Kraken's own errors say what paramiko's records say, and more; without any handler, Python would
# print these on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class HeadNode:
    host: str
    port: int = _DEFAULT_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def known_as(self) -> str:
        """Its name in a known_hosts file."""
        return self.host if self.port == _DEFAULT_PORT else f"[{self.host}]:{self.port}"


@dataclass(frozen=True)
class Login:
    """How to reach a cluster: several head nodes are tried in turn."""

    heads: tuple[HeadNode, ...]
    user: str
    key_file: Path | None  # None: the SSH agent
    known_hosts: Path
    timeout_s: float = 20.0  # for each step: connect, banner, authentication, channel, command


class NoConnection(Exception):
    """A head node can't be reached; the text says why."""


def connect(login: Login, head: HeadNode) -> paramiko.Transport:
    """A connection that is logged in.

    Raises:
        NoConnection: nobody answers, or not in time.
        HostKeyRefused: whoever answers doesn't prove to be the head node.
        LoginRefused: the head node doesn't let the user in.
    """
    known = _known_keys(login.known_hosts, head)
    transport = paramiko.Transport(_socket(head, login.timeout_s))
    try:
        _shake_hands(transport, [kind for kind, _ in known or ()], login.timeout_s)
        _check_host_key(login, head, known, transport.get_remote_server_key())
        _log_in(login, head, transport)
        transport.set_keepalive(_KEEPALIVE_S)
    except BaseException as error:
        transport.close()
        transport.sock.close()  # the former does nothing if the other side was first
        if isinstance(error, paramiko.SSHException | EOFError | OSError):
            raise NoConnection(_text(error)) from error
        raise
    return transport


def _socket(head: HeadNode, timeout_s: float) -> socket.socket:
    """A connected one. paramiko's own would wait 40 ms for every answer, without TCP_NODELAY."""
    try:
        addresses = bounded(
            lambda: socket.getaddrinfo(head.host, head.port, type=socket.SOCK_STREAM),
            timeout_s=timeout_s,
            what=head,
        )
    except CopyStalled:
        raise NoConnection(f"the name service gave no answer within {timeout_s:g} s") from None
    except (OSError, UnicodeError) as error:
        raise NoConnection(f"its name can't be resolved: {_text(error)}") from error
    reasons = []
    for family, kind, protocol, _, address in addresses:
        found = socket.socket(family, kind, protocol)
        try:
            found.settimeout(timeout_s)
            found.connect(address)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            found.close()
            reasons.append(f"no connection within {timeout_s:g} s")
        except OSError as error:
            found.close()
            reasons.append(_text(error))
        else:
            return found
    raise NoConnection(", ".join(dict.fromkeys(reasons)))


def _shake_hands(transport: paramiko.Transport, known: list[str], timeout_s: float) -> None:
    """Up to a connection that is encrypted, with whomever."""
    transport.clear_to_send_timeout = timeout_s
    # paramiko's own bounds come later than the one below.
    transport.banner_timeout = transport.handshake_timeout = 2 * timeout_s
    # A server with several host keys is to show one that can be compared.
    wanted = {name for kind in known for name in _SIGNATURES.get(kind, (kind,))}
    options = transport.get_security_options()
    options.key_types = tuple(sorted(options.key_types, key=lambda name: name not in wanted))
    # With its parameter `timeout` instead it would just return when the time is over.
    done = threading.Event()
    transport.start_client(event=done)
    if not done.wait(timeout_s):
        raise NoConnection(f"no SSH handshake within {timeout_s:g} s")
    if not transport.is_active():
        raise transport.get_exception() or EOFError


def _known_keys(path: Path, head: HeadNode) -> list[tuple[str, str]] | None:
    """Type and base64 of the host's keys; None if there is no such file."""
    try:
        text = path.expanduser().read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostKeyRefused(
            "The file with the cluster's host keys can't be read",
            file=path,
            found=_text(error),
            next_step="let Kraken's user read it, or name another file.",
        ) from error
    lines = [line.split() for line in text.splitlines() if not line.startswith(("#", "@"))]
    return [
        (fields[1], fields[2])
        for fields in lines
        if len(fields) >= 3 and any(_names(name, head) for name in fields[0].split(","))
    ]


def _names(name: str, head: HeadNode) -> bool:
    """Whether this name in a known_hosts file means the head node."""
    wanted = head.known_as.lower()
    if not name.startswith("|"):
        return name.lower() == wanted
    with suppress(ValueError, IndexError, AssertionError):  # the line is damaged
        return paramiko.HostKeys.hash_host(wanted, name) == name
    return False


def _check_host_key(
    login: Login, head: HeadNode, known: list[tuple[str, str]] | None, shown: paramiko.PKey
) -> None:
    if shown.get_base64() in [key for _, key in known or ()]:
        return
    path = shlex.quote(str(login.known_hosts.expanduser()))
    command = f"ssh-keyscan -p {head.port} {shlex.quote(head.host)} >> {path}"
    found = f"{shown.get_name()} {shown.fingerprint} shown by {head}"
    if known:
        forget = f"ssh-keygen -R {shlex.quote(head.known_as)} -f {path}"
        raise HostKeyRefused(
            "A head node shows another host key than before",
            file=login.known_hosts,
            expected=" or ".join(f"{kind} {_fingerprint(key)}" for kind, key in known),
            found=found,
            next_step="ask the cluster's administrators: it was set up anew, or somebody listens "
            "in. Only if they name the fingerprint that was found, accept it with "
            f"`{forget} && {command}`",
        )
    missing = "; there is no such file" if known is None else ""
    raise HostKeyRefused(
        "The host key of a head node is not known",
        file=login.known_hosts,
        expected=f"a line for {head.known_as}",
        found=found + missing,
        next_step="compare the fingerprint with what the cluster's administrators say, and accept "
        f"it with `{command}`",
    )


def _fingerprint(key: str) -> str:
    try:
        digest = hashlib.sha256(base64.b64decode(key)).digest()
    except ValueError:
        return "(damaged)"
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _log_in(login: Login, head: HeadNode, transport: paramiko.Transport) -> None:
    keys = [_key_of(login, head)] if login.key_file is not None else _keys_of_agent(login, head)
    refusal: Exception | None = None
    for key in keys:
        try:
            answer = _try_key(transport, login, key)
        except (paramiko.SSHException, EOFError, OSError):
            if refusal is None:
                raise
            break  # it hangs up on those whom it refused too often
        if answer is None:
            return
        refusal = answer
    raise _refused(
        login,
        head,
        what="A head node refuses the login",
        found=_text(refusal) if refusal else "the agent holds no key",
        next_step=f"check the user, and append the public key to ~/.ssh/authorized_keys of "
        f"{login.user} there. Tried again by itself.",
    )


def _try_key(
    transport: paramiko.Transport, login: Login, key: paramiko.PKey
) -> paramiko.AuthenticationException | None:
    """None if it lets the user in."""
    done = threading.Event()
    transport.auth_publickey(login.user, key, done)
    if not done.wait(login.timeout_s):
        raise NoConnection(f"no answer to the login within {login.timeout_s:g} s")
    if transport.is_authenticated():
        return None
    error = transport.get_exception()
    if error is None and transport.is_active():
        return paramiko.AuthenticationException("authentication failed")
    if isinstance(error, paramiko.AuthenticationException):
        return error
    raise error or EOFError()


def _key_of(login: Login, head: HeadNode) -> paramiko.PKey:
    assert login.key_file is not None
    what = "The key for the login can't be used"
    try:
        return paramiko.PKey.from_path(login.key_file)
    except OSError as error:
        found = _text(error)
        next_step = "name a key that is there and that Kraken's user may read."
    except TypeError:
        found = "a key with a passphrase, and nobody to type it"
        next_step = "use a key without (`ssh-keygen -p` takes it away), or the SSH agent."
    except Exception:  # noqa: BLE001 - there are many ways not to be a key
        found = "something else"
        next_step = "name the private half of an RSA, ECDSA or Ed25519 key."
    raise _refused(login, head, what=what, found=found, next_step=next_step)


def _keys_of_agent(login: Login, head: HeadNode) -> list[paramiko.PKey]:
    try:
        agent = bounded(paramiko.Agent, timeout_s=login.timeout_s, what="the SSH agent")
    except (CopyStalled, paramiko.SSHException, OSError) as error:
        raise _refused(
            login,
            head,
            what="The SSH agent can't be used",
            found=_text(error),
            next_step="check SSH_AUTH_SOCK in Kraken's environment, or name a key file.",
        ) from error
    return list(agent.get_keys())


def _refused(
    login: Login, head: HeadNode, *, what: str, found: str, next_step: str
) -> LoginRefused:
    return LoginRefused(
        what,
        file=login.key_file or "SSH agent",
        expected=f"a private key that lets {login.user} in at {head}",
        found=found,
        next_step=next_step,
    )


def _text(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "it closed the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
