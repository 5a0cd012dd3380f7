"""Mail by SMTP, with the standard library."""

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import format_datetime

from kraken_dagster.config.alerts import Smtp
from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.model.errors import ChannelFailed

_TIMEOUT_S = 10.0
_PRIORITY = {"critical": "high"}


def send_mail(
    message: Message, *, server: Smtp, to: Sequence[str], password: str | None
) -> str | None:
    """Sends it to all; for whom alone it was refused. It isn't sent again for these: the others
    would have it twice.

    Raises:
        ChannelFailed: the server took it for nobody.
    """
    mail = as_mail(message, sender=server.sender, to=to)
    try:
        with _connection(server) as connection:
            if server.user is not None and password is not None:
                connection.login(server.user, password)
            refused = connection.send_message(mail)
    except (smtplib.SMTPException, OSError) as error:
        raise ChannelFailed(
            "The mail server didn't take a message",
            file=f"{server.host}:{server.port}",
            found=_in_words(error),
            next_step="see `alerts.smtp` and the server's log; it is tried again by itself.",
        ) from None
    if not refused:
        return None
    whom = ", ".join(sorted(refused))
    return f"sent, but not to {whom}, whom the mail server refuses; correct `alerts`"


def as_mail(message: Message, *, sender: str, to: Sequence[str]) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(message.created_at)
    mail["Message-ID"] = message.message_id
    mail["Auto-Submitted"] = "auto-generated"
    if priority := _PRIORITY.get(message.severity):
        mail["Importance"] = priority
    mail.set_content(message.text)
    return mail


@contextmanager
def _connection(server: Smtp) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context()
    if server.security == "tls":
        with smtplib.SMTP_SSL(
            server.host, server.port, timeout=_TIMEOUT_S, context=context
        ) as connection:
            yield connection
        return
    with smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT_S) as connection:
        if server.security == "starttls":
            connection.starttls(context=context)
        yield connection


def _in_words(error: Exception) -> str:
    """Without what a server may repeat of a login."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses the login: {error.smtp_code}"
    return f"{type(error).__name__}: {error}"
