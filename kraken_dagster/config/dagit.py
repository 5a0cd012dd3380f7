"""Who may do what in Dagit and on the laboratory's page, and where the two are reached."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from kraken_dagster.model.errors import ConfigError
from kraken_dagster.model.strict import Strict

LOOPBACK = "127.0.0.1"
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?$")]
UserName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOCAL_NAMES = frozenset({"localhost", LOOPBACK, "::1"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Role(StrEnum):
    OPERATOR = "operator"  # all that Dagit can do
    VIEWER = "viewer"  # looks, and changes nothing


class Dagit(Strict):
    """How Dagit is reached from elsewhere, and who may operate there."""

    hosts: list[HostName] = Field(
        default=[],
        description="Names under which people reach Dagit, besides localhost and the address that "
        "it listens on. The first, with its port if it has one, stands in the links to log in.",
    )
    trusted_proxies: list[Network] = Field(
        default=[],
        description="Addresses of reverse proxies (`10.0.0.5`, `10.0.1.0/24`). What one says of "
        "its user (`X-Forwarded-User`) is believed if it also sends the token for proxies.",
    )
    operators: list[UserName] = Field(
        default=[],
        description="Users of such a proxy who may operate; `*`: all whom it lets in. The others "
        "look only.",
    )
    certificate: Path | None = Field(
        None, description="A TLS certificate in PEM, with its chain, if Dagit itself speaks HTTPS."
    )
    private_key: Path | None = Field(None, description="The certificate's key in PEM.")


@dataclass(frozen=True)
class Place:
    """Where Dagit listens, or the page."""

    settings: Dagit
    host: str = LOOPBACK
    port: int = 3000
    name: str = "Dagit"
    root_path: str = ""  # below which a reverse proxy shows it, like `/kraken`
    host_option: str = "--host"

    @property
    def scheme(self) -> str:
        return "http" if self.settings.certificate is None else "https"

    @property
    def names(self) -> frozenset[str]:
        """The names, without ports, that a request may call this server by."""
        listened = () if _is_any(self.host) else (self.host.lower(),)
        configured = (name.partition(":")[0].lower() for name in self.settings.hosts)
        return _LOCAL_NAMES.union(listened, configured)

    @property
    def url(self) -> str:
        """Where people find it, as far as is known."""
        behind_proxy = self.settings.hosts and self.settings.trusted_proxies
        if behind_proxy and self.scheme == "http" and not self._is_local:
            return f"https://{self.settings.hosts[0]}{self.root_path}"
        name, port = self.host, f":{self.port}"
        if self.settings.hosts and not is_loopback(self.host):
            name = self.settings.hosts[0]
            port = "" if ":" in name else port
        elif _is_any(self.host):
            name = LOOPBACK
        return (
            f"{self.scheme}://{f'[{name}]' if name.count(':') > 1 else name}{port}{self.root_path}"
        )

    @property
    def _is_local(self) -> bool:
        """Whether people reach it on this machine, as through a port that a container publishes:
        what stands between speaks no TLS."""
        return self.settings.hosts[0].partition(":")[0] in _LOCAL_NAMES

    @property
    def connects_to(self) -> tuple[int, str]:
        """Port and address by which this machine reaches it."""
        if _is_any(self.host):
            return self.port, "::1" if ":" in self.host else LOOPBACK
        return self.port, LOOPBACK if self.host == "localhost" else self.host

    def check(self) -> None:
        """
        Raises:
            ConfigError: others could read along, or nobody would be let in.
        """
        settings = self.settings
        if (settings.certificate is None) != (settings.private_key is None):
            raise ConfigError(
                "Dagit's certificate and its key belong together",
                expected="both `dagit.certificate` and `dagit.private_key`, or none",
                next_step="add the other one to instruments.yaml.",
            )
        if is_loopback(self.host):
            return
        if settings.certificate is None and not settings.trusted_proxies:
            raise ConfigError(
                f"{self.name} is not opened to other machines without encryption: "
                "logins could be read",
                found=f"{self.host_option} {self.host}, no `dagit.certificate`, no "
                "`dagit.trusted_proxies`",
                next_step="name a certificate, or the proxy before it; see docs/security.md.",
            )
        if _is_any(self.host) and not settings.hosts:
            raise ConfigError(
                f"{self.name} would listen on all addresses, and answer to no name",
                found=f"{self.host_option} {self.host}, no `dagit.hosts`",
                next_step="name in `dagit.hosts` how people reach it.",
            )

    def is_proxy(self, address: str) -> bool:
        """Whether a connection comes from where a trusted proxy is; no proof of who it is."""
        peer = _address(address)
        return peer is not None and any(peer in net for net in self.settings.trusted_proxies)

    def may_connect(self, address: str) -> bool:
        """Without encryption only this machine and the proxies; what else comes could be read."""
        return self.scheme == "https" or is_loopback(address) or self.is_proxy(address)

    def role_of(self, user: str) -> Role:
        """What a proxy's user may do."""
        operators = self.settings.operators
        return Role.OPERATOR if user in operators or "*" in operators else Role.VIEWER


def is_loopback(address: str) -> bool:
    found = _address(address)
    return address == "localhost" or (found is not None and found.is_loopback)


def _is_any(address: str) -> bool:
    found = _address(address)
    return address == "" or (found is not None and found.is_unspecified)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@dataclass(frozen=True)
class Authority:
    """A host and a port, as in `Host` and `Origin`."""

    name: str
    port: int

    @classmethod
    def parse(cls, text: str, *, scheme: str) -> "Authority | None":
        """`name`, `name:port`, `[::1]:port`; None for anything else."""
        name, bracket, rest = text.lower().partition("]")
        if bracket:
            name, port = name.removeprefix("["), rest.removeprefix(":")
            usable = text.startswith("[") and (rest == "" or rest.startswith(":"))
        else:
            name, colon, port = name.partition(":")
            usable = (port != "") == (colon != "")
        if not usable or not name or not (port == "" or (port.isascii() and port.isdecimal())):
            return None
        return cls(name, int(port[:6]) if port else _DEFAULT_PORTS[scheme])


def is_same_origin(origin: str, *, scheme: str, host: Authority) -> bool:
    """Whether `Origin` is the very page that this server has made."""
    found, separator, rest = origin.partition("://")
    return bool(separator) and found == scheme and Authority.parse(rest, scheme=scheme) == host
