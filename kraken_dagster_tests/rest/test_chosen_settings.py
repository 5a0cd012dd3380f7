"""A file that is processed with chosen settings, by REST: what the command does, and refuses."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from kraken_dagster.model.api_tokens import TokenScope
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.tokens import add_token
from kraken_dagster.projects import settings as versions
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.web.laboratory import Answer, OpenPage, add, done, served

NAME, MOVING = "a.raw", "moving.raw"
PATH = "/api/v1/files/{name}/retry"


@pytest.fixture
def page(services: Services) -> Iterator[OpenPage]:
    versions.add_settings(services, {"name": "dia", "software": "search"})
    versions.new_version(services, "dia", {"num_threads": 8})
    versions.add_settings(services, {"name": "other", "software": "search"})
    old = versions.add_settings(services, {"name": "old", "software": "search"})
    versions.archive_settings(services, old)
    done(services, NAME, services.now(), "thermo1", 1)
    add(services, MOVING, services.now(), status=Status.COPYING)
    with served(services, lives=False) as page:
        yield page


def _ask(page: OpenPage, body: object, name: str = NAME, scope: str = "operate") -> Answer:
    services = page.feed.services
    number = len(services.store.api_tokens.all())
    secret = add_token(
        services,
        f"robot{number}",
        TokenScope(scope),
        expires_at=services.now() + timedelta(days=1),
        by="me",
    )
    headers = (("Authorization", f"Bearer {secret}"), ("Content-Type", "application/json"))
    return page.send("POST", PATH.format(name=name), *headers, body=json.dumps(body))


def test_it_is_queued_with_them_once_and_told_by_whom(page: OpenPage) -> None:
    raw_files = page.feed.services.store.raw_files
    assert _ask(page, {"settings": ["dia:2"]}, scope="read").status == 403
    assert raw_files.get(NAME).status is Status.DONE
    answer = _ask(page, {"settings": ["dia:1"]})
    assert answer.status == 200
    assert "dia version 1" in json.loads(answer.content)["asked_for"]
    after = raw_files.get(NAME)
    assert (after.status, after.output_exists_mode) == (Status.QUEUED_FOR_QUANTING, "add")
    chosen = [(item.name, item.version) for item in after.quant_settings or () if item.chosen]
    assert chosen == [("dia", 1)]
    assert "by REST, with dia version 1" in after.history[-1]["reason"]
    again = _ask(page, {"settings": ["dia:1"]})
    assert again.status == 409
    assert "Only a file that has ended" in json.loads(again.content)["detail"]
    assert raw_files.get(NAME) == after


def test_a_name_is_its_newest_version_and_a_mode_holds(page: OpenPage) -> None:
    assert _ask(page, {"settings": ["dia"], "mode": "overwrite"}).status == 200
    after = page.feed.services.store.raw_files.get(NAME)
    assert after.output_exists_mode == "overwrite"
    assert [(item.name, item.version) for item in after.quant_settings or ()] == [("dia", 2)]


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        (["dia:2", "other:1"], 400, "Of each software type one settings applies"),
        (["dia:x"], 400, "NAME or NAME:VERSION"),
        (["old:1"], 409, "Archived settings are not used anew"),
        (["dia:99"], 404, "dia"),
        (["nothing"], 404, "nothing"),
        (["dia:" + "9" * 200], 404, "No such settings"),
        ([], 422, "settings"),
        ([""], 422, "settings"),
        ("dia:2", 422, "settings"),
        ([1], 422, "settings"),
        (["x" * 301], 422, "settings"),
        ([f"s{number}" for number in range(21)], 422, "settings"),
    ],
)
def test_what_is_refused_is_refused_in_the_commands_words(
    page: OpenPage, settings: object, status: int, said: str
) -> None:
    answer = _ask(page, {"settings": settings})
    told = json.loads(answer.content)
    assert (answer.status, said in told["detail"]) == (status, True), told
    assert page.feed.services.store.raw_files.get(NAME).status is Status.DONE


def test_a_file_on_its_way_or_unknown_is_refused(page: OpenPage) -> None:
    moving = _ask(page, {"settings": ["dia:2"]}, MOVING)
    assert moving.status == 409
    assert json.loads(moving.content)["found"] == "copying, without a backup"
    assert _ask(page, {"settings": ["dia:2"]}, "nothing.raw").status == 404


def test_the_description_tells_of_settings(page: OpenPage) -> None:
    told = json.loads(page.get("/api/openapi.json").content)
    body = told["paths"]["/api/v1/files/{id}/retry"]["post"]["requestBody"]
    assert body["content"]["application/json"]["example"]["settings"] == ["dia:1"]
    assert "NAME:VERSION" in json.dumps(told["components"]["schemas"]["Retry"]["properties"])
