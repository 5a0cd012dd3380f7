"""The commands `kraken status`, `files`, `show` and `retry` as a person and a script see them."""

import json
from contextlib import closing

import click.testing
import pytest

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import NOW, job, record, write_config

HOSTILE = "evil\x1b[31m\x07\x9b\u202e\nname.raw"


@pytest.fixture
def path(tmp_path, mongodb_uri):
    return write_config(tmp_path, mongodb_uri)


@pytest.fixture
def kraken(path):
    """Runs the command with this configuration."""
    runner = click.testing.CliRunner()
    return lambda *arguments: runner.invoke(main, ["--config", str(path), *arguments])


@pytest.fixture
def services(path, mongodb_uri):
    config = load_config(path, environment={})
    with closing(connect(mongodb_uri)) as store:
        store.prepare()
        yield Services(
            config=config, store=store, engines={"local": LocalJobs(config.home / "jobs")}
        )


def add(services, name: str = "x.raw", **fields) -> None:
    assert services.store.raw_files.register(record(name, **fields), reason="discovered")


def read(result) -> object:
    """What the command wrote as JSON; nothing else is on stdout."""
    return json.loads(result.stdout)


def test_status_is_wrong_while_an_instrument_was_never_looked_at(kraken, services):
    look_at(services, "thermo1")
    result = kraken("status", "--json")
    assert result.exit_code == 1
    found = read(result)
    assert [item["id"] for item in found["instruments"]] == ["thermo1", "bruker1"]
    assert [item["status"] for item in found["instruments"]] == ["ok", "never looked at"]
    (wrong,) = found["wrong"]
    assert "switch bruker1_watcher on" in wrong


def test_status_is_fine_when_every_instrument_is(kraken, services):
    add(services, status=Status.DONE)
    for name in services.config.instruments:
        look_at(services, name)
    result = kraken("status", "--json")
    assert result.exit_code == 0
    found = read(result)
    assert (found["simulation"], found["wrong"]) == (False, [])
    assert [(item["id"], item["open_jobs"]) for item in found["engines"]] == [("local", 0)]
    assert found["instruments"][0]["files"] == {"done": 1}
    assert "1 done" in kraken("status").stdout


def test_status_is_wrong_while_a_file_is_in_error(kraken, services):
    for name in services.config.instruments:
        look_at(services, name)
    assert kraken("status").exit_code == 0
    add(services, status=Status.ERROR)
    result = kraken("status")
    assert result.exit_code == 1
    assert "1 error" in result.stdout


def test_status_is_wrong_once_nobody_looks_any_more(kraken, services):
    for name in services.config.instruments:
        look_at(services, name)
    services.store.health.well("thermo1", details="fine", free_bytes=0, left_alone=[], now=NOW)
    result = kraken("status", "--json")
    assert result.exit_code == 1
    assert read(result)["instruments"][0]["status"] == "not looked at"


def test_files_lists_the_newest_first_as_json_and_as_a_table(kraken, services):
    for hour in range(3):
        add(services, f"{hour}.raw", created_at=NOW.replace(hour=hour), status=Status.DONE)
    add(services, "x.d", instrument_id="bruker1", status_details="no main file")
    result = kraken("files", "--json")
    assert result.exit_code == 0
    assert [item["id"] for item in read(result)] == ["x.d", "2.raw", "1.raw", "0.raw"]
    assert read(result)[0]["created_at"] == "2026-03-01T12:00:00+00:00"
    table = kraken("files")
    assert table.exit_code == 0
    assert "no main file" in table.stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--instrument", "bruker1"], ["x.d"]),
        (["--instrument", "bruker1", "--instrument", "thermo1"], ["x.d", "x.raw", "y.raw"]),
        (["--status", "error"], ["y.raw"]),
        (["--status", "error", "--status", "done"], ["x.raw", "y.raw"]),
        (["--limit", "1"], ["x.d"]),
        (["--instrument", "bruker1", "--status", "error"], []),
    ],
)
def test_files_can_be_chosen(kraken, services, options, expected):
    add(services, "x.raw", status=Status.DONE)
    add(services, "y.raw", status=Status.ERROR)
    add(services, "x.d", instrument_id="bruker1", created_at=NOW.replace(hour=13))
    result = kraken("files", "--json", *options)
    assert (result.exit_code, sorted(item["id"] for item in read(result))) == (0, expected)


def test_show_tells_everything_that_is_known_of_a_file(kraken, services):
    add(services)
    raw_file = services.store.raw_files.get("x.raw")
    facts = {"file_info": {"x.raw": [5.0, "a" * 32]}, "size": 5}
    services.store.raw_files.update(raw_file, facts, now=NOW, note="measured")
    services.store.jobs.intend(job())
    services.store.metrics.add(job(), {"proteins": 4711.5}, provenance={}, now=NOW)
    result = kraken("show", "x.raw", "--json")
    assert result.exit_code == 0
    found = read(result)
    assert (found["id"], found["size_bytes"]) == ("x.raw", 5)
    assert found["file_info"] == {"x.raw": {"size_bytes": 5, "md5": "a" * 32}}
    assert (found["jobs"][0]["_id"], found["metrics"][0]["proteins"]) == ("job-1", 4711.5)
    assert [event["reason"] for event in found["history"]] == ["discovered", "measured"]
    text = kraken("show", "x.raw", "--all").stdout
    for expected in ("a" * 32, "job-1", "4711.5", "measured"):
        assert expected in text


@pytest.mark.parametrize("command", ["show", "retry"])
def test_an_unknown_file_is_told_on_stderr(kraken, services, command):
    result = kraken(command, "nobody.raw")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("kraken: No such raw file in MongoDB: 'nobody.raw'.")


@pytest.mark.parametrize(
    ("status", "becomes", "reported"),
    [
        (Status.ERROR, "error", "thermo1_watcher goes on with it"),
        (Status.QUANTING_FAILED, "queued_for_quanting", "cluster_jobs submits its jobs"),
        (Status.IGNORED, "queued_for_monitoring", "thermo1_watcher watches it"),
    ],
)
def test_retry_makes_what_failed_due_again(kraken, services, status, becomes, reported):
    add(services, status=status)
    result = kraken("retry", "x.raw")
    assert result.exit_code == 0
    assert reported in result.stdout
    raw_file = services.store.raw_files.get("x.raw")
    assert raw_file.status == becomes
    assert raw_file.history[-1]["reason"].startswith("asked for again by ")
    if status is Status.ERROR:
        due = services.store.raw_files.due_again("thermo1", services.now())
        assert [item.id for item in due] == ["x.raw"]


@pytest.mark.parametrize(
    ("status", "reported"),
    [(Status.DONE, "it has ended well"), (Status.COPYING, "it is on its way")],
)
def test_retry_of_what_did_not_fail_changes_nothing(kraken, services, status, reported):
    add(services, status=status)
    result = kraken("retry", "x.raw")
    assert result.exit_code == 1
    assert reported in result.stderr
    assert services.store.raw_files.get("x.raw").status is status


def test_retry_goes_on_with_the_others_after_one_that_can_not_be(kraken, services):
    add(services, "a.raw", status=Status.DONE)
    add(services, "b.raw", status=Status.IGNORED)
    result = kraken("retry", "nobody.raw", "a.raw", "b.raw")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 2
    assert services.store.raw_files.get("b.raw").status is Status.QUEUED_FOR_MONITORING


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["conquer"],
        ["show"],
        ["retry"],
        ["status", "--yaml"],
        ["files", "--instrument", "nobody1"],
        ["files", "--status", "fine"],
        ["files", "--limit", "0"],
    ],
)
def test_wrong_use_is_exit_code_2_with_a_word_on_stderr(kraken, services, arguments):
    result = kraken(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


@pytest.mark.parametrize("command", [["status"], ["files"], ["show", "x"], ["retry", "x"]])
def test_a_broken_configuration_is_told_and_nothing_else(kraken, path, command):
    path.write_text("hme: x")
    result = kraken(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 1, key 'hme': no such key" in result.stderr


def test_control_characters_in_names_never_reach_the_terminal(kraken, services):
    add(services, HOSTILE, status=Status.ERROR, status_details=HOSTILE, project_id=HOSTILE)
    raw_file = services.store.raw_files.get(HOSTILE)
    facts = {"file_info": {HOSTILE: [5.0, "a" * 32]}, "backup_base_path": HOSTILE}
    services.store.raw_files.update(raw_file, facts, now=NOW, note=HOSTILE)
    hostile_job = job(raw_file=HOSTILE, output_path=HOSTILE, settings_name=HOSTILE)
    services.store.jobs.intend(hostile_job)
    services.store.metrics.add(hostile_job, {HOSTILE: 1.0}, provenance={}, now=NOW)
    (services.instrument_folder("thermo1") / HOSTILE).mkdir()
    look_at(services, "thermo1")
    for command in (
        ["status"],
        ["files"],
        ["show", HOSTILE],
        ["retry", HOSTILE],
        ["retry", HOSTILE + "?"],
        ["show", HOSTILE + "?"],
    ):
        result = kraken(*command)
        assert "evil" in result.output
        assert all(char.isprintable() or char == "\n" for char in result.output), command
