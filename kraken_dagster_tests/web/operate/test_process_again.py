"""Files that an operator has processed again with chosen settings, from the page."""

import json
import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import urlencode

import pytest

from kraken_dagster.config.dagit import Role
from kraken_dagster.model.projects import Project
from kraken_dagster.model.raw_file import Status
from kraken_dagster.projects import projects as steps
from kraken_dagster.projects import settings as versions
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.operate import again
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS
from kraken_dagster_tests.web.laboratory import Answer, OpenPage, add, done, served

NAME = "a.raw"


@pytest.fixture
def page(services: Services) -> Iterator[OpenPage]:
    steps.add_project(services, Project(id="PAGE1", name="Plasma"))
    dia = versions.add_settings(services, {"name": "dia", "software": "search"})
    steps.assign(services, "PAGE1", dia)
    versions.new_version(services, "dia", {"num_threads": 8})
    versions.add_settings(services, {"name": "other", "software": "search"})
    old = versions.add_settings(services, {"name": "old", "software": "search"})
    versions.archive_settings(services, old)
    done(services, NAME, services.now(), "thermo1", 1)
    add(services, "moving.raw", services.now(), status=Status.COPYING)
    with served(services, lives=False) as page:
        yield page


def _ask(page: OpenPage, ids: object, *settings: str, role: Role = Role.OPERATOR) -> Answer:
    body = urlencode([("ids", json.dumps(ids)), *(("settings", item) for item in settings)])
    return page.send("POST", "/files/again", ("Origin", page.origin), page.login(role), body=body)


def test_the_settings_of_its_project_stand_first_and_archived_ones_nowhere(page: OpenPage) -> None:
    text = page.get("/files/again", page.login(), id=NAME).text
    places = [text.index(it) for it in ("dia version 2", "dia version 1", "other version 1")]
    assert places == sorted(places)
    assert "used by PAGE1" in text
    assert "old version" not in text
    only_looks = page.get("/files/again", id=NAME).text
    assert "An operator can ask for this" in only_looks
    assert "<form" not in only_looks


def test_it_is_asked_for_once_recorded_and_refused_while_it_is_on_its_way(page: OpenPage) -> None:
    store = page.feed.services.store
    assert _ask(page, [NAME], "dia:2", role=Role.VIEWER).status == 403
    body = urlencode({"ids": json.dumps([NAME]), "settings": "dia:2"})
    elsewhere = ("Origin", "https://evil.example")
    assert page.send("POST", "/files/again", elsewhere, page.login(), body=body).status == 403
    assert store.raw_files.get(NAME).status is Status.DONE
    answer = _ask(page, [NAME, "moving.raw", "nothing.raw"], "dia:2")
    assert answer.status == 200
    assert "1 file with dia version 2" in answer.text
    assert "2 refused" in answer.text
    after = store.raw_files.get(NAME)
    assert (after.status, after.output_exists_mode) == (Status.QUEUED_FOR_QUANTING, "add")
    assert "a login on the page, with dia version 2" in after.history[-1]["reason"]
    again_ = _ask(page, [NAME], "dia:2")
    assert again_.status == 409
    assert "Nothing was asked for" in again_.text
    assert store.raw_files.get(NAME) == after


@pytest.mark.parametrize(
    ("ids", "settings"),
    [
        ([], ["dia:2"]),
        ([NAME], []),
        ([NAME], ["dia:2", "other:1"]),  # of one type
        ([NAME], ["old:1"]),
        ([NAME], ["dia:99"]),
        ([NAME], ["dia:x"]),
        ([NAME] * (again.MOST + 1), ["dia:2"]),
        ({"a": 1}, ["dia:2"]),
        ([1, None], ["dia:2"]),
    ],
)
def test_what_can_not_be_asked_for_is_told(
    page: OpenPage, ids: object, settings: list[str]
) -> None:
    answer = _ask(page, ids, *settings)
    assert answer.status == 409
    assert "Nothing was asked for" in answer.text
    assert page.feed.services.store.raw_files.get(NAME).status is Status.DONE


@pytest.mark.parametrize("stem", HOSTILE_STEMS)
def test_a_hostile_name_comes_back_as_it_is(page: OpenPage, stem: str) -> None:
    services, name = page.feed.services, f"{stem}.raw"
    done(services, name, services.now(), "thermo1", 2)
    page.feed.refresh()
    text = page.get("/files/again", page.login(), id=name).text
    told = re.search(r'name="ids" value="([^"]*)"', text)
    assert told is not None
    assert json.loads(unescape(told[1])) == [name]


def test_too_many_or_none_are_not_asked_for(page: OpenPage) -> None:
    none = page.get("/files/again", filter="nothing like it")
    assert (none.status, "Pick files first" in none.text) == (400, True)
    for number in range(again.MOST + 1):
        add(page.feed.services, f"many_{number}.raw", page.feed.services.now())
    page.feed.refresh()
    many = page.get("/files/again", filter="many_")
    assert (many.status, "too many at once" in many.text) == (400, True)
