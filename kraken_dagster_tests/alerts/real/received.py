"""The servers that take the messages: what came, when, and what is to happen as a mail is taken."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from kraken_dagster_tests.alerts.real.judge import Received
from kraken_dagster_tests.alerts.receivers import MailServer, WebhookServer
from kraken_dagster_tests.chaos.notes import Notebook

MAIL, HOOK = "mail", "webhook"
CHANNELS = (MAIL, HOOK)


@dataclass
class Inbox:
    """Every message by the time at which it came; each is written down at once."""

    notes: Notebook
    messages: list[Received] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, channel: str, message_id: str, line: str) -> None:
        with self._lock:
            found = Received(channel, time.time(), message_id, line)
            self.messages.append(found)
        facts = {"channel": channel, "id": message_id, "line": line}
        self.notes.write("received", **facts)

    def all(self) -> list[Received]:
        with self._lock:
            return list(self.messages)


@dataclass
class NotingMailServer(MailServer):
    """`as_taken` is called once, with the sender's port, when a mail is here and its sender has no
    answer yet."""

    inbox: Inbox = field(default_factory=lambda: Inbox(Notebook(Path("/dev/null"))))
    as_taken: Callable[[int], None] | None = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        mail = self.mails[-1]
        self.inbox.take(MAIL, str(mail["Message-ID"]), str(mail["Subject"]))
        action, self.as_taken = self.as_taken, None
        if action is not None and session.peer is not None:
            action(int(session.peer[1]))
        return answer


@dataclass
class NotingWebhookServer(WebhookServer):
    inbox: Inbox = field(default_factory=lambda: Inbox(Notebook(Path("/dev/null"))))

    def take(self, body: dict[str, str]) -> None:
        super().take(body)
        self.inbox.take(HOOK, body["id"], body["subject"])
