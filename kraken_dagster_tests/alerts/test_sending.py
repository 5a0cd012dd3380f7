"""What is wrong reaches real servers once, waits for them while they are away, and ends once."""

from collections.abc import Iterator

import pytest

from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.alerts.receivers import MailServer, WebhookServer, running
from kraken_dagster_tests.alerts.watching import Watching, with_alerts
from kraken_dagster_tests.support.helpers import record

SECRET = "t0ken-that-nobody-else-says"


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    with running(server):
        yield server


@pytest.fixture
def watching(services: Services, mail: MailServer, hook: WebhookServer) -> Watching:
    outside = {"type": "webhook", "url_variable": "HOOK", "names": False}
    changed = with_alerts(
        services,
        smtp={"host": "127.0.0.1", "port": mail.port},
        audiences={"operations": [{"type": "smtp", "to": ["lab@example.org"]}, outside]},
        digest={"at": None},
        page_url="https://kraken.example.org",
    )
    return Watching(changed, {"HOOK": f"{hook.url}/{SECRET}"})


def test_a_store_that_is_nearly_full_is_told_once_and_its_end_once(
    watching: Watching, mail: MailServer, hook: WebhookServer
) -> None:
    watching.minute()
    assert mail.mails == []
    watching.free_gb["backup"] = 400
    watching.minutes(4)
    assert mail.subjects == ["CRITICAL: file system backup: 400 GB are free, fewer than 500"]
    watching.free_gb["backup"] = 900
    watching.minute()
    assert len(mail.mails) == 1, "one look without it may be a hiccup"
    watching.minutes(3)
    assert mail.subjects[1:] == ["RESOLVED: file system backup: 400 GB are free, fewer than 500"]
    assert [body["event"] for body in hook.bodies] == ["opened", "resolved"]
    text = mail.mails[0].get_payload()
    assert "Since 2026-03-01 12:02 UTC" in text
    assert "Next: free some space" in text
    assert "Page: https://kraken.example.org" in text


def test_messages_wait_for_servers_that_are_away_and_are_sent_once_they_are_back(
    watching: Watching, mail: MailServer, hook: WebhookServer
) -> None:
    watching.minute()
    mail.stop()
    hook.status = 503
    watching.free_gb["backup"] = 400
    for _ in range(4):
        watching.minute(minutes=10)
    assert (mail.mails, hook.bodies) == ([], [])
    waiting = watching.services.store.outbox.waiting()
    assert any("answers with 503" in (item.error or "") for item in waiting)
    assert any(f":{mail.port}" in (item.error or "") for item in waiting)
    assert SECRET not in str(waiting)
    assert "channel_stuck operations/1 smtp" in watching.open()
    mail.start()
    hook.status = 200
    watching.minute(minutes=61)
    watching.minutes(3)
    reported = [item for item in mail.subjects if "file system backup" in item]
    assert reported == ["CRITICAL: file system backup: 400 GB are free, fewer than 500"]
    assert watching.services.store.outbox.waiting() == []
    assert "channel_stuck operations/1 smtp" not in watching.open()


def test_a_try_that_dies_before_it_is_recorded_is_repeated_under_the_same_message_id(
    watching: Watching, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dies_in_a_try(watching, monkeypatch)
    watching.minutes(3)
    assert len(mail.mails) == 2
    assert len({str(item["Message-ID"]) for item in mail.mails}) == 1


def test_an_end_waits_until_it_is_known_whether_its_beginning_was_sent(
    watching: Watching, mail: MailServer, hook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a chat without Message-IDs would have the repeated beginning after the end."""
    _dies_in_a_try(watching, monkeypatch)
    watching.free_gb["backup"] = 900
    for _ in range(40):  # two looks without it and the end is there, before the try is due again
        watching.minute(minutes=0.1)
    begun = "CRITICAL: file system backup: 400 GB are free, fewer than 500"
    assert mail.subjects == [begun, begun, begun.replace("CRITICAL", "RESOLVED")]
    assert [body["event"] for body in hook.bodies] == ["opened", "resolved"]
    assert watching.services.store.outbox.waiting() == []


def _dies_in_a_try(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is nearly full, and who sends the mail dies before it has recorded that."""
    watching.minute()
    watching.free_gb["backup"] = 400
    with monkeypatch.context() as patch:
        patch.setattr(type(watching.services.store.outbox), "sent", _dies)
        with pytest.raises(KeyboardInterrupt):
            watching.minute()


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_names_of_files_stay_inside_where_they_are_to(
    watching: Watching, mail: MailServer, hook: WebhookServer
) -> None:
    watching.minute()
    store = watching.services.store
    failed = record("SECRETPROJECT_1.raw", status="error", status_details="broken")
    store.raw_files.register(
        failed.model_copy(update={"updated_at_": watching.services.now()}), reason="a test"
    )
    watching.minute()
    assert mail.subjects == ["thermo1: 1 file failed"]
    assert "SECRETPROJECT_1.raw: broken" in mail.mails[0].get_payload()
    assert len(hook.bodies) == 1
    assert "SECRETPROJECT" not in str(hook.bodies)


def test_a_secret_that_is_not_set_is_told_by_its_name(
    watching: Watching, mail: MailServer, hook: WebhookServer
) -> None:
    watching.environment = {}
    watching.free_gb["backup"] = 400
    looked = watching.minute()
    assert any("the environment variable HOOK" in problem for problem in looked.problems)
    assert (len(mail.mails), hook.bodies) == (1, [])


def test_whoever_listens_outside_hears_a_heartbeat_after_each_good_look(
    watching: Watching, hook: WebhookServer
) -> None:
    alerts = watching.services.config.alerts.model_copy(update={"heartbeat_url_variable": "BEAT"})
    config = watching.services.config.model_copy(update={"alerts": alerts})
    object.__setattr__(watching.services, "config", config)
    watching.environment = {**watching.environment, "BEAT": f"http://127.0.0.1:{hook.port}/beat"}
    watching.minutes(3)
    assert hook.paths == ["/beat"] * 3
    hook.status = 500
    looked = watching.minute()
    assert looked.problems == ["the heartbeat's service gives no good answer: HTTPError"]
