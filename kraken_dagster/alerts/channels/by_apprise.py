"""Whatever apprise reaches: Teams, Slack, ntfy, Matrix and many others."""

import logging
from urllib.parse import urlsplit

from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.model.errors import ChannelFailed

_SHORTEST_SECRET = 4
_TYPES = {"critical": "failure", "warning": "warning", "info": "info"}


def send_by_apprise(message: Message, url: str) -> None:
    """
    Raises:
        ChannelFailed: apprise isn't installed, doesn't know the URL, or couldn't send.
    """
    try:
        import apprise  # noqa: PLC0415 - of an extra, and a second to load
    except ImportError:
        raise _failed(
            "the package apprise is not installed",
            next_step="pip install 'kraken-dagster[alerts]', or use `smtp` or `webhook`.",
        ) from None
    sender = apprise.Apprise()
    with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]
        if not sender.add(url):
            raise _failed("a URL that apprise doesn't know")
        kind = "success" if message.event == "resolved" else _TYPES.get(message.severity, "info")
        # Its connections have limits of their own: 4 s to connect, 4 s without a byte.
        # As plain text, so that no name of a file is markup, or calls everybody, where it arrives.
        plain = apprise.NotifyFormat.TEXT
        if not sender.notify(
            body=message.text, title=message.subject, notify_type=kind, body_format=plain
        ):
            raise _failed(without_secrets(said.getvalue(), url) or "no reason is told")


def without_secrets(text: str, url: str) -> str:
    """What apprise says, without any part of a URL that may be a secret."""
    parts = urlsplit(url)
    secrets = {url, parts.netloc, parts.query, parts.username or "", parts.password or ""}
    secrets |= set(parts.path.split("/"))
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "...")
    return " ".join(text.split())


def _failed(found: str, *, next_step: str = "") -> ChannelFailed:
    return ChannelFailed(
        "apprise couldn't send a message",
        found=found,
        next_step=next_step or "see the variable's URL; it is tried again by itself.",
    )
