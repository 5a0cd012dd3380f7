"""`kraken project` and `kraken settings` as a person and a script see them."""

import json
import threading

import click.testing
import pymongo
import pytest
import yaml

from kraken_dagster.cli.common import open_services
from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import AlreadyThere
from kraken_dagster.model.raw_file import Status
from kraken_dagster.model.settings import Settings
from kraken_dagster.projects.settings import new_version
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import NOW, database_uri, record, write_config


@pytest.fixture
def path(tmp_path, mongodb_uri):
    return write_config(tmp_path, mongodb_uri)


@pytest.fixture
def kraken(path):
    """Runs the command with this configuration; its output, when it ends as it should."""
    return runner_of(path)


def runner_of(path):
    def run(*arguments: str, exit_code: int = 0, stdin: str | None = None) -> str:
        runner = click.testing.CliRunner()
        result = runner.invoke(main, ["--config", str(path), *arguments], input=stdin)
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


@pytest.fixture
def store(mongodb_uri):
    store = connect(mongodb_uri)
    store.prepare()
    yield store
    store.close()


SEARCH = ("settings", "add", "search", "--software", "search", "--slurm-mem", "64G")


@pytest.fixture
def with_search(kraken):
    kraken("project", "add", "P123", "--name", "Plasma")
    kraken(*SEARCH)
    return kraken


def assignments(kraken, project: str = "P123") -> list[tuple]:
    found = json.loads(kraken("project", "show", project, "--json"))["assignments"]
    return [(it["settings"], it["scope"], it["excluded"], it["filter"]) for it in found]


# -- projects -------------------------------------------------------------------------------------


def test_a_project_is_added_listed_shown_and_archived(kraken, store):
    assert "P123 added" in kraken("project", "add", "P123", "--name", "Plasma")
    listed = json.loads(kraken("project", "list", "--json"))
    assert [item["id"] for item in listed] == ["P123", "_FALLBACK"]
    assert "Plasma" in kraken("project", "list")
    assert "active" in kraken("project", "show", "P123")
    kraken("project", "archive", "P123")
    assert "inactive" in kraken("project", "show", "P123")
    assert store.catalog.project_ids() == []


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["add", "p1", "--name", "n"], "id: expected 4 to 16 of A-Z and 0-9"),
        (["add", "P123", "--name", "again"], "is there already"),
        (["show", "NONE1"], "No such project: 'NONE1'"),
        (["archive", "NONE1"], "No such project"),
        (["archive", "_FALLBACK"], "The fallback project can't be archived"),
        (["assign", "P123", "nothing"], "No such settings"),
        (["assign", "P123", "search:9"], "No such settings"),
        (["assign", "P123", "search:x"], "NAME or NAME:VERSION"),
        (["assign", "NONE1", "search"], "No such project"),
        (["assign", "P123", "search", "--scope", "thermo9"], "scope: expected one of"),
        (["assign", "P123", "search", "--exclude", "thermo9"], "excluded: expected an instrument"),
        (["unassign", "P123", "search"], "0 assignments of project P123"),
        (["upgrade", "P123", "search"], "doesn't use these settings"),
        (["preview", "x.d", "thermo1"], "a name that ends in .raw"),
    ],
)
def test_what_can_not_be_done_with_a_project_is_told(with_search, arguments, reported):
    assert reported in with_search("project", *arguments, exit_code=1)


def test_settings_are_assigned_in_scopes_once_each_and_taken_back(with_search):
    for extra in ([], ["--scope", "thermo"], ["--filter", "plasma"], ["--exclude", "bruker1"]):
        with_search("project", "assign", "P123", "search", *extra)
    assert assignments(with_search) == [
        ("search:1", "*", [], None),
        ("search:1", "thermo", [], None),
        ("search:1", "*", [], "plasma"),
        ("search:1", "*", ["bruker1"], None),
    ]
    reported = with_search("project", "assign", "P123", "search", exit_code=1)
    assert "uses a version of these settings already" in reported
    reported = with_search("project", "unassign", "P123", "search", exit_code=1)
    assert "4 assignments of project P123" in reported
    with_search("project", "unassign", "P123", "search", "--scope", "thermo")
    with_search("project", "unassign", "P123", "search", "--filter", "plasma")
    with_search("project", "unassign", "P123", "search", "--exclude", "bruker1")
    assert assignments(with_search) == [("search:1", "*", [], None)]
    (left,) = json.loads(with_search("project", "show", "P123", "--json"))["assignments"]
    with_search("project", "unassign", "P123", left["id"])
    assert assignments(with_search) == []


def test_archived_ones_are_not_assigned_anew(with_search):
    with_search("settings", "archive", "search:1")
    reported = with_search("project", "assign", "P123", "search", exit_code=1)
    assert "Archived settings are not assigned anew: 'search version 1'" in reported
    with_search("settings", "new-version", "search", "--slurm-mem", "1G")
    with_search("project", "assign", "P123", "search")
    assert assignments(with_search)[0][0] == "search:2"
    with_search("project", "archive", "P123")
    reported = with_search("project", "assign", "P123", "search", "--scope", "thermo", exit_code=1)
    assert "An archived project gets no settings" in reported


def test_a_project_is_upgraded_in_one_step_wherever_it_uses_settings(with_search):
    with_search("project", "assign", "P123", "search")
    with_search("project", "assign", "P123", "search", "--scope", "thermo", "--filter", "x")
    reported = with_search("settings", "new-version", "search", "--slurm-mem", "128G")
    assert "slurm_mem: 64G -> 128G" in reported
    assert "next: kraken project upgrade P123 search" in reported
    reported = with_search("project", "upgrade", "P123", "search")
    assert reported.count("search version 1 -> version 2") == 2
    assert assignments(with_search) == [
        ("search:2", "*", [], None),
        ("search:2", "thermo", [], "x"),
    ]
    assert "uses that version already" in with_search("project", "upgrade", "P123", "search")
    with_search("settings", "archive", "search:2")
    reported = with_search("project", "upgrade", "P123", "search", exit_code=1)
    assert "older than the one in use" in reported
    with_search("project", "upgrade", "P123", "search", "--to", "1")
    assert {item[0] for item in assignments(with_search)} == {"search:1"}


# -- previews -------------------------------------------------------------------------------------


@pytest.fixture
def with_scopes(with_search):
    """All three scopes and two filters, of one software type; and one of another."""
    kraken = with_search
    for name in ("vendor", "instrument", "plasma", "plasma_pool"):
        kraken("settings", "add", name, "--software", name)
    kraken("settings", "add", "qc", "--software", "qc", "--software-type", "msqc")
    for name, *where in (
        ("search",),
        ("plasma", "--scope", "thermo", "--filter", "plasma"),
        ("plasma_pool", "--scope", "thermo", "--filter", "plasma_pool"),
        ("vendor", "--scope", "thermo"),
        ("instrument", "--scope", "thermo1", "--filter", "serum"),
        ("qc", "--exclude", "bruker1"),
    ):
        kraken("project", "assign", "P123", name, *where)
    return kraken


def applied(kraken, name: str, instrument: str = "thermo1") -> list[str]:
    found = json.loads(kraken("project", "preview", name, instrument, "--json"))
    return [item["settings"] for item in found["settings"] if item["applies"]]


def test_a_preview_tells_of_each_settings_why_it_won_or_lost(with_scopes):
    found = json.loads(
        with_scopes("project", "preview", "x_P123_plasma_pool.raw", "thermo1", "--json")
    )
    assert (found["project"], found["processed"]) == ("P123", True)
    reasons = {item["settings"]: (item["applies"], item["reason"]) for item in found["settings"]}
    won = "'plasma_pool' has the same type custom and a "
    assert reasons == {
        "search:1": (False, won + "more specific scope: the vendor"),
        "plasma:1": (False, won + "longer filter: 'plasma_pool'"),
        "plasma_pool:1": (
            True,
            "the most specific of type custom: scope 'thermo', filter 'plasma_pool'",
        ),
        "vendor:1": (False, won + "longer filter: 'plasma_pool'"),
        "instrument:1": (
            False,
            "its filter 'serum' is not in the name (upper and lower case differ)",
        ),
        "qc:1": (True, "the most specific of type msqc: scope '*'"),
    }
    (chosen, _) = [item for item in found["settings"] if item["applies"]]
    assert chosen["command"][0].endswith("/software/plasma_pool")
    assert chosen["output"].endswith("/output/P123/out_x_P123_plasma_pool.raw/custom")
    assert (chosen["engine"], chosen["problem"]) == ("local", None)
    text = with_scopes("project", "preview", "x_P123_plasma_pool.raw", "thermo1")
    assert "APPLIES plasma_pool:1" in text
    assert "no      vendor:1" in text


@pytest.mark.parametrize(
    ("name", "instrument", "settings"),
    [
        ("x_P123_serum.raw", "thermo1", ["instrument:1", "qc:1"]),
        ("x_P123_plasma.raw", "thermo1", ["plasma:1", "qc:1"]),
        ("x_P123_Plasma.raw", "thermo1", ["vendor:1", "qc:1"]),
        ("x_P123_plasma.d", "bruker1", ["search:1"]),
    ],
)
def test_the_scope_counts_before_the_filter(with_scopes, name, instrument, settings):
    assert applied(with_scopes, name, instrument) == settings


@pytest.mark.parametrize(
    ("name", "project", "reported"),
    [
        ("x_P123_a.raw", "P123", "the name speaks of it, and of no other"),
        ("x_P123_P999.raw", "_FALLBACK", "the name speaks of several: P123, P999"),
        ("x_OLD1.raw", "_FALLBACK", "the name speaks of OLD1, which is archived"),
        ("x-P123.raw", "_FALLBACK", "no part of the name between underscores"),
    ],
)
def test_a_preview_tells_why_a_file_is_a_projects(with_search, name, project, reported):
    for other in ("P999", "OLD1"):
        with_search("project", "add", other, "--name", "other")
    with_search("project", "archive", "OLD1")
    exit_code = 1  # none of them has settings
    found = json.loads(
        with_search("project", "preview", name, "thermo1", "--json", exit_code=exit_code)
    )
    assert found["project"] == project
    assert reported in found["project_reason"]


def test_a_preview_tells_why_a_file_is_not_processed(with_scopes):
    text = with_scopes("project", "preview", "x_P123_DDA_1.raw", "thermo1", exit_code=1)
    assert "processed   no: Filename contains 'dda'." in text


def test_a_preview_tells_what_would_be_missing(with_search):
    with_search("settings", "new-version", "search", "--speclib-file-name", "x.speclib")
    with_search("project", "assign", "P123", "search")
    text = with_search("project", "preview", "x_P123.raw", "thermo1")
    assert "PROBLEM  The library that the settings name can't be used" in text
    assert "search/x.speclib" in text


def test_a_preview_of_a_known_file_says_what_was_recorded(with_search, store):
    known = record("x_P123.raw", project_id="_FALLBACK", status=Status.DONE, size=1)
    store.raw_files.register(known, reason="discovered")
    text = with_search("project", "preview", "x_P123.raw", "thermo1", exit_code=1)
    assert "_FALLBACK: so it was recorded when the file was first seen" in text


# -- settings -------------------------------------------------------------------------------------


def test_settings_are_added_shown_listed_and_archived(kraken):
    reported = kraken(*SEARCH)
    assert "search version 1 added, sha256:" in reported
    found = json.loads(kraken("settings", "show", "search", "--json"))
    assert (found["slurm_mem"], found["metrics_type"], found["used_by"]) == ("64G", "custom", [])
    assert found["digest"] in reported
    assert [item["name"] for item in json.loads(kraken("settings", "list", "--json"))] == [
        "rawqc",
        "search",
    ]
    kraken("project", "assign", "_FALLBACK", "search")
    assert "still used by _FALLBACK" in kraken("settings", "archive", "search:1")
    assert "search" not in kraken("settings", "list")
    assert "inactive" in kraken("settings", "list", "--archived")


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["add", "s", "--software", "/bin/sh"], "software: expected a path below"),
        (["add", "s", "--software", "p", "--slurm-mem", "1"], "slurm_mem: expected <number>[KMGT]"),
        (["add", "s"], "software: Field required"),
        (["add", "search", "--software", "p"], "Settings of that name are there already"),
        (["new-version", "none"], "No such settings"),
        (["new-version", "search"], "Nothing differs from the newest version"),
        (["new-version", "search", "--slurm-mem", "64G"], "Nothing differs"),
        (["new-version", "search", "--base", "2", "--slurm-mem", "1G"], "There is a newer version"),
        (["new-version", "search", "--software-type", "msqc"], "software_type: expected custom"),
        (["new-version", "search", "--description", "a\x00b"], "without control characters"),
        (["show", "none"], "No such settings"),
        (["export", "none"], "No such settings"),
    ],
)
def test_what_can_not_be_done_with_settings_is_told(with_search, arguments, reported):
    assert reported in with_search("settings", *arguments, exit_code=1)


def test_a_new_version_keeps_what_is_not_named_and_unsets_what_shall_be(with_search, store):
    with_search("settings", "new-version", "search", "--num-threads", "8", "--unset", "slurm-mem")
    first, second = store.catalog.versions("search")
    assert (first.slurm_mem, first.num_threads) == ("64G", 1)
    assert (second.slurm_mem, second.num_threads, second.software) == (None, 8, "search")


def test_of_those_who_make_a_version_at_once_exactly_one_does(with_search, store, path):
    services = open_services(path)
    made: list[Settings] = []
    refused: list[AlreadyThere] = []

    def make(memory: int) -> None:
        try:
            changes = {"slurm_mem": f"{memory}G"}
            made.append(new_version(services, "search", changes, base=1)[1])
        except AlreadyThere as error:
            refused.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    assert store.catalog.versions("search")[1:] == made


def test_every_version_has_a_number_of_its_own(empty_store):
    def add(name: str) -> None:
        for version in range(1, 6):
            settings = Settings(name=name, version=version, software="p")
            assert empty_store.catalog.add_settings(settings, now=NOW)

    threads = [threading.Thread(target=add, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, _ = empty_store.catalog.all_settings()
    assert len({item.number for item in found}) == len(found) == 15


@pytest.fixture
def empty_store(mongodb_uri):
    store = connect(mongodb_uri)
    yield store
    store.close()


# -- settings as files ----------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path, server_uri):
    """Another installation, with a MongoDB database of its own."""
    name = f"kraken_test_elsewhere_{tmp_path.name[:20]}"
    (tmp_path / "elsewhere").mkdir()
    yield runner_of(write_config(tmp_path / "elsewhere", database_uri(server_uri, name)))
    with pymongo.MongoClient(server_uri) as client:
        client.drop_database(name)


def test_exported_settings_have_the_same_digest_where_they_are_imported(
    with_search, elsewhere, tmp_path
):
    with_search("settings", "new-version", "search", "--description", "äöü: 'quoted'\n# no comment")
    with_search(
        *("settings", "add", "other", "--software", "p", "--config-params", "--a 'b c' $X\\n"),
        *("--slurm-directives", "--account=x y", "--slurm-directives", "--exclusive"),
    )
    file = tmp_path / "settings.yaml"
    names = ("search:1", "search:2", "other")
    with_search("settings", "export", *names, "--output", str(file))
    assert elsewhere("settings", "import", str(file)).count(": added") == 3
    for name in names:
        here, there = (
            json.loads(run("settings", "show", name, "--json")) for run in (with_search, elsewhere)
        )
        assert here["digest"] == there["digest"]
        assert {**here, "number": 0, "folder": ""} == {**there, "number": 0, "folder": ""}
    assert elsewhere("settings", "export", *names) == file.read_text(encoding="utf-8")
    assert elsewhere("settings", "import", str(file)).count(": there already") == 3


def test_all_that_is_not_archived_is_exported_where_none_is_named(with_search):
    with_search("settings", "new-version", "search", "--slurm-mem", "1G")
    with_search("settings", "archive", "search:1")
    found = yaml.safe_load(with_search("settings", "export"))["settings"]
    assert [(item["name"], item["version"]) for item in found] == [("rawqc", 1), ("search", 2)]


def test_settings_without_a_version_become_a_new_one_when_they_say_something_new(
    with_search, store
):
    text = yaml.safe_dump({"settings": [{"name": "search", "software": "search"}]})
    assert "search version 2: added" in with_search("settings", "import", "-", stdin=text)
    assert "search version 2: there already" in with_search("settings", "import", "-", stdin=text)
    assert store.catalog.settings("search", 2).slurm_mem is None
    new = yaml.safe_dump({"settings": [{"name": "fresh", "software": "p"}]})
    assert "fresh version 1: added" in with_search("settings", "import", "-", stdin=new)


def changed(text: str, **changes) -> str:
    data = yaml.safe_load(text)
    entry = {**data["settings"][0], **changes}
    data["settings"][0] = {key: value for key, value in entry.items() if value is not ...}
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda text: changed(text, slurm_mem="1G"), "keep the digest of the earlier ones"),
        (lambda text: changed(text, digest=None, slurm_mem="1G"), "digest of the earlier ones"),
        (lambda text: changed(text, colour="red"), "'colour': there is no such field"),
        (lambda text: changed(text, status="inactive"), "'status': there is no such field"),
        (
            lambda text: changed(text, num_threads=2**63, digest=...),
            "num_threads: expected 1 to 4096",
        ),
        (lambda text: changed(text, description="\ud800"), "expected text in Unicode"),
        (lambda text: text + "- &a {}\n- *a\n", "aliases (*name) are not read"),
        (lambda text: "settings: " + "[" * 5000, "can't be read"),
        (lambda text: text.replace("slurm_mem: 64G", "slurm_time: 1:00:00"), "in quotes"),
        (lambda text: changed(text, software="/x", digest="d"), "digest of the earlier ones"),
        (lambda text: text.replace("name: search", "name: search\n  name: x"), "name stands twice"),
        (lambda text: text + "more: 1\n", "also more"),
        (lambda text: "- a\n- b\n", "one key `settings`, a list of mappings"),
        (lambda text: "settings: [1]\n", "one key `settings`, a list of mappings"),
        (lambda text: "a: [\n", "YAML with one key"),
        (lambda text: "", "YAML with one key"),
        (lambda text: "settings: !!python/object/apply:os.system [id]\n", "YAML with one key"),
    ],
)
def test_a_file_that_can_not_be_used_is_told_and_nothing_is_added(
    with_search, store, change, reported
):
    before, _ = store.catalog.all_settings()
    text = change(with_search("settings", "export", "search"))
    assert reported in with_search("settings", "import", "-", stdin=text, exit_code=1)
    assert store.catalog.all_settings()[0] == before


def test_a_version_that_says_something_else_here_is_refused(with_search, elsewhere, store):
    elsewhere("settings", "add", "search", "--software", "something_else")
    text = with_search("settings", "export", "search")
    reported = elsewhere("settings", "import", "-", stdin=text, exit_code=1)
    assert "This version says something else here, and a version never changes" in reported


def test_either_all_settings_of_a_file_are_added_or_none(with_search, store):
    entries = [{"name": "good", "software": "p"}, {"name": "bad", "software": "/p"}]
    text = yaml.safe_dump({"settings": entries})
    assert "Settings 'bad'" in with_search("settings", "import", "-", stdin=text, exit_code=1)
    assert "good" not in with_search("settings", "list")


def test_what_is_no_text_is_no_file_of_settings(with_search, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"\xff\xfe\x00")
    reported = with_search("settings", "import", str(file), exit_code=1)
    assert f"{file}: The file of settings can't be read" in reported


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("settings:\n- {name: x\n", "Found while parsing a flow mapping (line 2, column 3), exp"),
        ("settings:\n- {name: x, software_type: custom}\n", "Settings 'x' can't be used"),
        ("settings: 5\n", "Found a `settings` that is none"),
        ("setings: []\n", "Found no `settings`"),
        ("[]\n", "Found list at the top"),
    ],
)
def test_what_is_wrong_with_a_file_of_settings_is_told_with_the_file(
    with_search, tmp_path, text, expected
):
    file = tmp_path / "laboratory.yaml"
    file.write_text(text)
    reported = with_search("settings", "import", str(file), exit_code=1)
    assert f"{file}: " in reported
    assert expected in reported


def test_settings_in_mongodb_that_can_not_be_read_are_told(kraken, store, mongodb_uri):
    with pymongo.MongoClient(mongodb_uri) as client:
        settings = client.get_default_database()["settings"]
        settings.insert_one({"name": "odd", "software": "p", "num_threads": "many"})
    reported = kraken("settings", "list", exit_code=1)
    assert "settings odd version 1 in MongoDB can't be read" in reported
    assert "rawqc" in reported
    assert "num_threads" in kraken("settings", "show", "odd", exit_code=1)


def test_the_configuration_decides_which_engines_settings_may_name(kraken, path):
    assert list(load_config(path, environment={}).engines) == ["local"]
    reported = kraken("settings", "add", "s", "--software", "p", "--job-engine", "big", exit_code=1)
    assert "job_engine: expected one of local, found 'big'" in reported
