"""Projects and settings on the page: shown, previewed, compared, changed; and two who change the
same."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from kraken_dagster.config.dagit import Role
from kraken_dagster.model.projects import Project
from kraken_dagster.projects import projects as steps
from kraken_dagster.projects import settings as versions
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.catalog.compare import compared
from kraken_dagster_tests.web.laboratory import Answer, OpenPage, served

PARAMS = "--threads 4\n--raw RAW_FILE_PATH\n--out OUTPUT_PATH"


@pytest.fixture
def page(services: Services) -> Iterator[OpenPage]:
    steps.add_project(services, Project(id="P123", name="<b>Plasma</b>"))
    values = {"name": "dia", "software": "search", "config_params": PARAMS}
    dia = versions.add_settings(services, values)
    steps.assign(services, "P123", dia)
    with served(services, lives=False) as page:
        yield page


def _change(page: OpenPage, what: str, shown: Answer | None = None, **form: str) -> Answer:
    """Sends a form as an operator, with the mark of the page on which it stands."""
    if shown is not None:
        mark = re.search(r'name="mark" value="(\w+)"', shown.text)
        assert mark is not None, shown.text
        form["mark"] = mark[1]
    operator = page.login()
    return page.send(
        "POST", f"/{what}/change", ("Origin", page.origin), operator, body=urlencode(form)
    )


def _project(page: OpenPage) -> Answer:
    return page.get("/project", page.login(), id="P123")


def _version(page: OpenPage, **query: str) -> Answer:
    return page.get("/settings/version", page.login(), name="dia", **query)


def test_projects_and_a_preview_of_a_file_are_shown(page: OpenPage) -> None:
    text = page.get("/projects", file_name="20260301_P123_x.raw", instrument="thermo1").text
    assert "&lt;b&gt;Plasma" in text
    assert "dia v1" in text
    assert "would be of project" in text
    assert "--threads 4" in text
    other = page.get("/projects", file_name="x.d", instrument="thermo1").text
    assert "never gives a file this name" in other
    assert page.get("/project", id="NONE1").status == 404
    assert page.get("/settings/version", name="none").status == 404
    assert 'method="post"' not in page.get("/project", id="P123").text


def test_a_viewer_changes_nothing(page: OpenPage) -> None:
    body = urlencode({"do": "add", "id": "P999", "name": "x"})
    sent = page.send(
        "POST", "/project/change", ("Origin", page.origin), page.login(Role.VIEWER), body=body
    )
    assert sent.status == 403


def test_an_operator_adds_assigns_takes_away_and_archives(page: OpenPage) -> None:
    catalog = page.feed.services.store.catalog
    assert "is added" in _change(page, "project", do="add", id="P999", name="Liver").text
    assert "P999" in page.get("/projects").text
    form = {"id": "P123", "settings": "dia", "scope": "thermo1", "not_bruker1": "1"}
    assert _change(page, "project", _project(page), do="assign", **form).status == 200
    assigned, _ = catalog.assignments("P123")
    assert {item.scope.scope for item in assigned} == {"*", "thermo1"}
    (own,) = [item for item in assigned if item.scope.scope == "thermo1"]
    gone = _change(page, "project", _project(page), do="unassign", id="P123", assignment=own.id)
    assert "Taken from P123" in gone.text
    assert [item.scope.scope for item in catalog.assignments("P123")[0]] == ["*"]
    assert "archived" in _change(page, "project", _project(page), do="archive", id="P123").text
    assert not catalog.project("P123").is_active


def test_of_two_who_change_a_project_the_second_is_told(page: OpenPage) -> None:
    services = page.feed.services
    seen = _project(page)
    versions.new_version(services, "dia", {"num_threads": 8})
    steps.upgrade(services, "P123", "dia")
    answer = _change(page, "project", seen, do="archive", id="P123")
    assert answer.status == 409
    assert "Somebody else has changed this" in answer.text
    assert services.store.catalog.project("P123").is_active


def test_of_two_who_make_a_version_the_second_is_told_and_keeps_what_was_typed(
    page: OpenPage,
) -> None:
    catalog = page.feed.services.store.catalog
    seen = _version(page)
    form = {"name": "dia", "software": "search", "config_params": PARAMS, "num_threads": "8"}
    assert _change(page, "settings", seen, do="version", **form).status == 200
    second = {**form, "num_threads": "16", "description": "mine, typed slowly"}
    answer = _change(page, "settings", seen, do="version", **second)
    assert answer.status == 409
    assert "Somebody else has changed this" in answer.text
    assert "mine, typed slowly" in answer.text
    assert [item.num_threads for item in catalog.versions("dia")] == [1, 8]
    again = _change(page, "settings", answer, do="version", **second)
    assert again.status == 200, again.text
    assert catalog.versions("dia")[-1].description == "mine, typed slowly"


def test_versions_are_compared_line_by_line(page: OpenPage) -> None:
    services = page.feed.services
    changed = PARAMS.replace("--threads 4", "--threads 8 <fast>")
    before, after = versions.new_version(services, "dia", {"config_params": changed})
    first = compared(before, after)[0]
    assert (first.name, [differs for *_, differs in first.lines]) == (
        "config_params",
        [True, False, False],
    )
    text = _version(page, version="2", against="1").text
    assert "<del>--threads 4</del>" in text
    assert "<ins>--threads 8 &lt;fast&gt;</ins>" in text


def test_new_settings_and_what_is_wrong_with_them(page: OpenPage) -> None:
    catalog = page.feed.services.store.catalog
    form = {"name": "qc", "software": "qc", "software_type": "custom", "metrics_type": "custom"}
    wrong = _change(page, "settings", do="add", **{**form, "num_threads": "many"})
    assert wrong.status == 409
    assert "num_threads" in wrong.text
    added = _change(page, "settings", do="add", **form, slurm_directives="--account=a\n--qos=b")
    assert "is added" in added.text
    assert catalog.versions("qc")[0].slurm_directives == ("--account=a", "--qos=b")
    archived = _change(
        page,
        "settings",
        page.get("/settings/version", page.login(), name="qc"),
        do="archive",
        name="qc",
        version="1",
    )
    assert "is archived" in archived.text
    assert not catalog.versions("qc")[0].is_active
