"""What a laboratory's bad days do to alerts: storms, servers that are away, hostile names, clocks
that jump, and two monitors at the same moment."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from kraken_dagster.alerts.channels.by_apprise import send_by_apprise
from kraken_dagster.alerts.channels.channel import ways
from kraken_dagster.alerts.lifecycle import manners_of, update_alerts
from kraken_dagster.alerts.messages import make_messages
from kraken_dagster.alerts.monitor import Looked, scan
from kraken_dagster.alerts.rules.registry import judge
from kraken_dagster.alerts.snapshot import Health, InstrumentFacts, Snapshot
from kraken_dagster.model.alerts.alert import Severity
from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.alerts.receivers import MailServer, WebhookServer, running
from kraken_dagster_tests.alerts.test_faults import register
from kraken_dagster_tests.alerts.watching import Watching, with_alerts
from kraken_dagster_tests.support.helpers import NOW

INSTRUMENTS = 300
HOSTILE = "a\nNext: run rm -rf /\r\nBcc: all@example.org <b>@everyone</b>.raw"


class Picky(MailServer):
    """Takes nothing for `gone@`, and no message on the output."""

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if address.startswith("gone@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        if b"system output" in envelope.content:
            return "554 refused by its content"
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture
def mail() -> Iterator[Picky]:
    server = Picky()
    with running(server):
        yield server


@pytest.fixture
def watching(services: Services, mail: Picky) -> Watching:
    return Watching(
        with_alerts(
            services,
            smtp={"host": "127.0.0.1", "port": mail.port},
            audiences={"operations": [{"type": "smtp", "to": ["lab@example.org"]}]},
            digest={"at": None},
        )
    )


def _look(watching: Watching, ids: list[str], broken: bool) -> None:
    """A look at so many instruments, without asking MongoDB for each."""
    store, now = watching.services.store, watching.services.now()
    settings = watching.services.config.alerts
    status = "error" if broken else "ok"
    health = tuple(Health(name, "instrument", status, "no answer", now) for name in ids)
    snapshot = Snapshot(instruments=tuple(map(InstrumentFacts, ids)), health=health)
    findings = judge(snapshot, settings.thresholds, now)
    update_alerts(store, findings, manners=manners_of(settings), unknown=(), now=now)
    make_messages(store, settings, ways(settings).values(), now=now)


def test_three_hundred_instruments_that_go_at_once_are_one_message_and_one_end(
    watching: Watching, mail: Picky
) -> None:
    ids = [f"ms{number:03d}" for number in range(INSTRUMENTS)]
    for broken in (True, True, False, False):
        _look(watching, ids, broken)
        watching.minute()
    opened, resolved = mail.mails
    what = "ms000: its last look found it in trouble (and 299 more)"
    assert [str(item["Subject"]) for item in mail.mails] == [
        f"CRITICAL: {what}",
        f"RESOLVED: {what}",
    ]
    assert "... and 280 more" in opened.get_payload()
    assert len(str(opened.get_payload())) < 5000
    assert "ms019" in resolved.get_payload()


def test_what_ended_while_the_mail_server_was_away_is_told_in_its_order(
    watching: Watching, mail: Picky
) -> None:
    watching.minute()
    mail.stop()
    watching.free_gb["backup"] = 400
    watching.minutes(25)
    watching.free_gb["backup"] = 900
    watching.minutes(35)
    mail.start()
    watching.minutes(30)
    assert mail.subjects[:2] == [
        "CRITICAL: file system backup: 400 GB are free, fewer than 500",
        "RESOLVED: file system backup: 400 GB are free, fewer than 500",
    ]
    assert len(mail.subjects) == len(set(mail.subjects))
    assert watching.services.store.outbox.waiting() == []


def test_a_server_that_is_away_is_asked_ever_more_rarely_and_told_all_once_it_is_back(
    watching: Watching, mail: Picky
) -> None:
    watching.minute()
    mail.stop()
    watching.free_gb["backup"] = 400
    tries = sum(bool(watching.minute().problems) for _ in range(60))
    assert 5 <= tries <= 12
    mail.start()
    register(watching, "new.raw", status=Status.ERROR, status_details="no")
    watching.minute()
    reported = ["file system backup", "1 file failed"]
    assert all(any(text in item for item in mail.subjects) for text in reported)


def test_a_message_that_the_server_refuses_keeps_no_other_back(
    watching: Watching, mail: Picky
) -> None:
    watching.minute()
    watching.free_gb["output"] = 1
    watching.minutes(3)
    assert mail.mails == []
    watching.free_gb["backup"] = 400
    watching.minute()
    assert mail.subjects == ["CRITICAL: file system backup: 400 GB are free, fewer than 500"]
    [left] = watching.services.store.outbox.waiting()
    assert "554" in (left.error or "")


def test_who_is_refused_alone_has_the_others_told_once(watching: Watching, mail: Picky) -> None:
    to = [{"type": "smtp", "to": ["gone@example.org", "lab@example.org"]}]
    settings = watching.services.config.alerts.model_dump() | {"audiences": {"operations": to}}
    watching.services = with_alerts(watching.services, **settings)
    watching.minute()
    watching.free_gb["backup"] = 400
    [problem] = watching.minute().problems
    assert "not to gone@example.org" in problem
    watching.minutes(5)
    assert len(mail.mails) == 1
    assert watching.services.store.outbox.waiting() == []


def test_a_hostile_name_forges_no_line_no_header_and_calls_nobody(
    watching: Watching, mail: Picky
) -> None:
    watching.minute()
    register(watching, HOSTILE, status=Status.ERROR, status_details="no")
    watching.minute()
    [found] = mail.mails
    assert found["Bcc"] is None
    assert str(found["Subject"]) == "thermo1: 1 file failed"
    text = found.get_content()  # type: ignore[attr-defined]
    lines = [line for line in text.splitlines() if line.startswith(("Next:", "Bcc:"))]
    assert lines == ["Next: `kraken show ID` says why; correct it, then `kraken retry ID`."]
    assert r"a\nNext: run rm -rf /\r\nBcc" in text


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise's own
def test_a_name_is_no_markup_where_messages_are() -> None:
    hook = WebhookServer()
    message = Message(
        id="1",
        channel="operations/1 apprise",
        kind="raw_file_error",
        event="opened",
        severity=Severity.WARNING,
        subject="thermo1: 1 file failed",
        text="- <b>@everyone</b>.raw\n",
        created_at=NOW,
        next_try_at=None,
    )
    with running(hook):
        send_by_apprise(message, f"json://127.0.0.1:{hook.port}/?format=html")
    assert "&lt;b&gt;@everyone&lt;/b&gt;" in hook.bodies[0]["message"]


@pytest.mark.parametrize("ahead", [timedelta(hours=3), timedelta(days=365 * 70)])
def test_a_clock_that_jumps_ahead_and_back_stops_nothing(
    watching: Watching, mail: Picky, ahead: timedelta
) -> None:
    watching.minutes(3)
    hours = ahead / timedelta(hours=1)
    watching.minute(minutes=hours * 60)
    mail.stop()
    watching.free_gb["backup"] = 400
    watching.minutes(2)
    mail.start()
    watching.minute(minutes=-hours * 60)
    watching.minutes(3)
    assert mail.subjects.count("CRITICAL: file system backup: 400 GB are free, fewer than 500") == 1
    watching.well.discard("thermo1")
    for _ in range(5):
        watching.minute(minutes=4)
    assert "stale_status thermo1" in watching.open()
    assert not any(item.startswith("disk_filling") for item in watching.open())


def test_two_monitors_at_the_same_moment_tell_each_thing_once(
    watching: Watching, mail: Picky
) -> None:
    watching.minute()
    at_once = threading.Barrier(2)
    found: list[Looked] = []

    def look(by: str) -> None:
        at_once.wait(60)
        found.append(scan(watching.services, dagster=None, by=by, environment={}))

    for number in range(6):
        watching.free_gb["backup"] = 400 if number in (0, 1) else 900
        watching.services.now.forward(minutes=1)  # type: ignore[attr-defined]
        watching.sensors()
        threads = [threading.Thread(target=look, args=(by,)) for by in ("sensor", "page")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(item.why_not is None for item in found) == 6
    assert len(mail.subjects) == 2
    assert mail.subjects[1] == f"RESOLVED: {mail.subjects[0].removeprefix('CRITICAL: ')}"
