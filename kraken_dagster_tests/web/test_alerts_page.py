"""Alerts on the page: the open ones stand first, and operators say what they know of them."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from kraken_dagster.config.dagit import Role
from kraken_dagster.model.alerts.alert import Condition, State, does_not_hold
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.alerts.watching import an_alert
from kraken_dagster_tests.web.laboratory import Answer, OpenPage, served

_SUMMARY = "thermo1: <b>no answer</b>"


@pytest.fixture
def page(services: Services) -> Iterator[OpenPage]:
    with served(services, lives=False) as page:
        yield page


def opened(page: OpenPage, instrument: str = "thermo1") -> str:
    condition = Condition(subject=instrument, summary=_SUMMARY, instrument=instrument)
    made = an_alert(condition, kind="health_failed")
    assert page.feed.services.store.alerts.open(made)
    page.feed.refresh_alerts()
    return made.id


def say(page: OpenPage, path: str, role: Role = Role.OPERATOR, **form: str) -> Answer:
    return page.send("POST", path, ("Origin", page.origin), page.login(role), body=urlencode(form))


def test_what_is_open_stands_on_every_page_until_it_is_over(page: OpenPage) -> None:
    store = page.feed.services.store.alerts
    assert "Nothing is open" in page.get("/alerts").text
    opened(page)
    assert "1 alert</a>" in page.get("/help").text
    for path in ("/", "/alerts"):
        assert "thermo1: &lt;b&gt;no answer" in page.get(path).text
    assert "Nothing is open" in page.get("/alerts", instrument="bruker1").text
    for _ in range(2):
        (alert,) = store.current()
        store.change(alert, does_not_hold(alert, now=page.feed.services.now()))
    page.feed.refresh_alerts()
    assert "1 alert" not in page.get("/help").text
    assert "Nothing is over" not in page.get("/alerts", instrument="thermo1").text
    assert "Nothing is over" in page.get("/alerts", instrument="bruker1").text


def test_an_operator_acknowledges_and_silences(page: OpenPage) -> None:
    store = page.feed.services.store.alerts
    alert_id = opened(page)
    assert say(page, "/alerts/ack", Role.VIEWER, id=alert_id).status == 403
    assert say(page, "/alerts/ack", id=alert_id).status == 200
    (alert,) = store.current()
    assert alert.state is State.ACKNOWLEDGED
    assert "on the page" in str(alert.acknowledged_by)
    assert say(page, "/alerts/ack", id="nothing").status == 409
    form = {"id": alert_id, "hours": "8", "reason": "new column"}
    for wrong in ({"hours": "0"}, {"hours": "x"}, {"reason": " "}, {"id": "nothing"}):
        assert say(page, "/alerts/silence", **{**form, **wrong}).status == 409
    assert store.silences(now=page.feed.services.now()) == []
    assert say(page, "/alerts/silence", **form).status == 200
    (made,) = store.silences(now=page.feed.services.now())
    assert (made.kind, made.subject, made.reason) == ("health_failed", "thermo1", "new column")
