"""What a channel is, and how one is made from the configuration.

Secrets are read from the environment when a message is sent, and stand in no error.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from kraken_dagster.alerts.channels.by_apprise import send_by_apprise
from kraken_dagster.alerts.channels.mail import send_mail
from kraken_dagster.alerts.channels.webhook import post
from kraken_dagster.config.alerts import Alerts, AppriseChannel, Channel, SmtpChannel
from kraken_dagster.model.alerts.alert import Audience
from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.model.errors import ChannelFailed

STUCK_AFTER = timedelta(minutes=30)


class Sender(Protocol):
    """Sends a message, or raises ChannelFailed; what is to be known of one that went."""

    def __call__(self, message: Message) -> str | None: ...


@dataclass(frozen=True)
class Way:
    """A channel of an audience; `name` is like `operations/1 smtp`, or `MaSc/1 webhook`."""

    name: str
    audience: str  # an audience's name, or a user's initials
    names: bool
    send: Sender


def ways(settings: Alerts, *, environment: Mapping[str, str] = os.environ) -> dict[str, Way]:
    """Every channel by its name."""
    found = {}
    for audience, channels in _lists(settings):
        for number, channel in enumerate(channels, start=1):
            name = f"{audience}/{number} {channel.type}"
            sender = _sender(channel, settings, environment)
            found[name] = Way(name, audience, channel.names, sender)
    return found


def missing_variables(
    settings: Alerts, *, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """The variables of the environment that channels need and that are not set."""
    channels = [channel for _, some in _lists(settings) for channel in some]
    wanted = {getattr(channel, "url_variable", None) for channel in channels}
    if any(isinstance(channel, SmtpChannel) for channel in channels):
        wanted.add(settings.smtp.password_variable)
    return sorted(name for name in wanted if name is not None and not environment.get(name))


def _lists(settings: Alerts) -> Iterator[tuple[str, list[Channel]]]:
    yield Audience.OPERATIONS.value, settings.audiences.operations
    yield Audience.LABORATORY.value, settings.audiences.laboratory
    yield from settings.users.items()


def _sender(channel: Channel, settings: Alerts, environment: Mapping[str, str]) -> Sender:
    if isinstance(channel, SmtpChannel):
        server = settings.smtp
        return lambda message: send_mail(
            message,
            server=server,
            to=channel.to,
            password=_secret(server.password_variable, environment)
            if server.password_variable
            else None,
        )
    if isinstance(channel, AppriseChannel):
        return lambda message: send_by_apprise(message, _secret(channel.url_variable, environment))
    return lambda message: post(
        message,
        channel.url
        if channel.url is not None
        else _secret(channel.url_variable or "", environment),
    )


def _secret(variable: str, environment: Mapping[str, str]) -> str:
    """
    Raises:
        ChannelFailed: the variable is not set.
    """
    value = environment.get(variable)
    if not value:
        raise ChannelFailed(
            "A channel's secret is not in the environment",
            expected=f"the environment variable {variable}",
            next_step="set it for `kraken up`, and start that again.",
        )
    return value
