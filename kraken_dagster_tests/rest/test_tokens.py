"""Tokens: who may read, who may have something done, and that it is recorded."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from kraken_dagster.model.alerts.alert import Condition, State, does_not_hold
from kraken_dagster.model.api_tokens import TokenScope
from kraken_dagster.model.errors import AlreadyThere, InputRefused
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.tokens import add_token, revoke_token
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.api import examples
from kraken_dagster_tests.alerts.watching import an_alert
from kraken_dagster_tests.support.helpers import backed_up, wait_until
from kraken_dagster_tests.web.laboratory import Answer, OpenPage, add, served

JSON = ("Content-Type", "application/json")


@pytest.fixture
def page(services: Services) -> Iterator[OpenPage]:
    with served(services, lives=False) as page:
        yield page


def _token(services: Services, name: str, scope: TokenScope) -> tuple[str, str]:
    expires = services.now() + timedelta(days=1)
    secret = add_token(services, name, scope, expires_at=expires, by="me")
    return "Authorization", f"Bearer {secret}"


def _post(page: OpenPage, path: str, *headers: tuple[str, str], body: object = None) -> Answer:
    text = "" if body is None else json.dumps(body)
    return page.send("POST", f"/api/v1/{path}", *headers, JSON, body=text)


def test_a_token_is_kept_as_a_digest_and_ends_as_it_was_told(services: Services) -> None:
    name, header = "night-shift", _token(services, "night-shift", TokenScope.READ)
    [kept] = services.store.api_tokens.all()
    assert header[1].removeprefix("Bearer ") not in kept.model_dump_json()
    assert kept.holds(services.now())
    assert not kept.holds(services.now() + timedelta(days=1))
    with pytest.raises(AlreadyThere):
        _token(services, name, TokenScope.READ)
    revoke_token(services, name, by="me")
    [kept] = services.store.api_tokens.all()
    assert (kept.revoked_by, kept.holds(services.now())) == ("me", False)
    with pytest.raises(InputRefused):
        revoke_token(services, name, by="me")
    with pytest.raises(InputRefused):
        add_token(services, "a b", TokenScope.READ, expires_at=None, by="me")


def test_a_readers_token_reads_and_changes_nothing(page: OpenPage) -> None:
    services = page.feed.services
    add(services, "failed.raw", services.now(), status=Status.ERROR)
    reader = _token(services, "notebook", TokenScope.READ)
    assert page.get("/api/v1/files", reader).status == 200
    answer = _post(page, "files/failed.raw/retry", reader)
    assert answer.status == 403
    assert "--scope operate" in json.loads(answer.content)["detail"]
    assert services.store.raw_files.get("failed.raw").retry_at is None
    revoke_token(services, "notebook", by="me")
    assert page.get("/api/v1/files", reader).status == 401


def test_what_an_operators_token_has_done_is_recorded_with_its_name(page: OpenPage) -> None:
    services = page.feed.services
    add(services, "failed.raw", services.now(), status=Status.ERROR)
    robot = _token(services, "robot", TokenScope.OPERATE)
    answer = _post(page, "files/failed.raw/retry", robot)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert "at its next tick" in json.loads(answer.content)["asked_for"]
    after = services.store.raw_files.get("failed.raw")
    assert after.retry_at == services.now()
    assert "token robot by REST" in after.history[-1]["reason"]
    note = {"instrument": "thermo1", "kind": "column", "text": "new column"}
    made = json.loads(_post(page, "quality/annotations", robot, body=note).content)
    [kept] = services.store.quality.annotations("thermo1")
    assert (kept.id, kept.by) == (made["id"], "token robot by REST")
    assert _post(page, "alerts/none/acknowledge", robot).status == 404
    assert _post(page, "files/nothing/verify", robot).status == 404
    done = services.store.api_tokens.actions(limit=10)
    assert {(it["action"], it["subject"], it["status"]) for it in done} == {
        ("retry", "failed.raw", 200),
        ("annotate", "", 201),
        ("acknowledge", "none", 404),
        ("verify", "nothing", 404),
    }
    assert {item["by"] for item in done} == {"token robot by REST"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("[]", 422),
        ("{", 400),
        ('{"instrument": "thermo1"}', 422),
        ('{"instrument": "\\ud800", "kind": "column", "text": "x"}', 422),
        ('{"instrument": "thermo1", "kind": "column", "text": "x", "new_guide_set": 0}', 422),
        ('{"instrument": "thermo1", "kind": "column", "text": "x", "begins_at": 0}', 422),
        (f'{{"instrument": "x", "kind": "column", "text": "x", "begins_at": {10**400}}}', 422),
        ('{"instrument": "nowhere", "kind": "column", "text": "x"}', 400),
        ('{"instrument": "thermo1", "kind": "column", "text": "x", "by": "somebody else"}', 422),
        ("x" * 200_000, 413),
    ],
)
def test_a_body_that_is_not_taken_is_told(page: OpenPage, body: str, status: int) -> None:
    robot = _token(page.feed.services, "robot", TokenScope.OPERATE)
    answer = page.send("POST", "/api/v1/quality/annotations", robot, JSON, body=body)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_who_asks_too_often_is_told_when_to_come_again(page: OpenPage) -> None:
    services = page.feed.services
    robot = _token(services, "robot", TokenScope.OPERATE)
    other = _token(services, "other", TokenScope.OPERATE)
    answers = [_post(page, "alerts/none/acknowledge", robot) for _ in range(40)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert _post(page, "alerts/none/acknowledge", other).status == 404
    assert page.get("/api/v1/files", robot).status == 200


def test_an_alert_is_acknowledged_with_the_name_of_the_token(page: OpenPage) -> None:
    services = page.feed.services
    condition = Condition(subject="thermo1", summary="<b>no answer</b>", instrument="thermo1")
    made = an_alert(condition, kind="health_failed")
    assert services.store.alerts.open(made)
    reader = _token(services, "wall", TokenScope.READ)
    robot = _token(services, "robot", TokenScope.OPERATE)

    def listed(**query: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(
            page.get("/api/v1/alerts", reader, **query).content
        )["data"]
        return found

    [told] = listed(instrument="thermo1")
    assert (told["name"], told["state"], told["summary"]) == (made.id, "open", "<b>no answer</b>")
    assert set(told) == set(examples.ALERTS["data"][0])
    assert listed(instrument="bruker1") == []
    path = f"alerts/{told['id']}/acknowledge"
    assert _post(page, path, reader).status == 403
    answer = _post(page, path, robot)
    seen = json.loads(answer.content)
    assert (answer.status, seen["state"]) == (200, "acknowledged")
    assert seen["acknowledged_by"] == "token robot by REST"
    assert listed()[0]["acknowledged_by"] == "token robot by REST"
    [kept] = services.store.alerts.current()
    assert kept.state is State.ACKNOWLEDGED
    for _ in range(2):
        [alert] = services.store.alerts.current()
        services.store.alerts.change(alert, does_not_hold(alert, now=services.now()))
    assert _post(page, path, robot).status == 404
    assert (listed(), [it["id"] for it in listed(resolved="true")]) == ([], [told["id"]])


def test_a_backup_is_read_again_and_the_file_tells_what_was_found(page: OpenPage) -> None:
    services = page.feed.services
    raw_file = backed_up(services, "thermo1", "good.raw")
    done, now = Status.DONE_NOT_QUANTED, services.now()
    services.store.raw_files.transition(raw_file, done, now=now, reason="nothing to run")
    robot = _token(services, "robot", TokenScope.OPERATE)
    assert _post(page, "files/good.raw/verify", robot).status == 202

    def found() -> str:
        told = json.loads(page.get("/api/v1/files/good.raw", robot).content)["errand"]
        return str(told)

    wait_until(lambda: "verified" in found(), "it was verified")
    assert services.store.raw_files.get("good.raw").verified_at is not None


def test_events_begin_at_once(page: OpenPage) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page.place.port, timeout=60)
    with closing(connection):
        connection.request("GET", "/api/v1/events", headers={"Last-Event-ID": "of-before"})
        answer = connection.getresponse()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [answer.readline().decode().strip() for _ in range(5)]
    assert lines[0] == "retry: 2000"
    assert lines[3] == "event: reset"
