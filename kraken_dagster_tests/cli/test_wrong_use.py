"""Commands that are used wrongly: told what was expected, with exit code 2, and nothing is done."""

import click.testing
import pytest

from kraken_dagster.cli.main import main
from kraken_dagster_tests.support.helpers import write_config


@pytest.fixture
def refused(tmp_path, mongodb_uri):
    """Runs a command that is refused as wrong use, and gives what it says."""
    qc = {"classes": {"hela": {"pattern": "hela"}}}
    path = write_config(tmp_path, mongodb_uri, qc=qc)

    def run(*arguments: str) -> str:
        result = click.testing.CliRunner().invoke(main, ["--config", str(path), *arguments])
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        return result.stderr

    return run


@pytest.mark.parametrize("group", [("project",), ("quality", "guide-set")])
def test_a_group_alone_shows_its_commands_and_is_told_of_no_error(refused, group):
    lines = refused(*group).splitlines()
    assert lines[0].startswith("Usage: ")
    assert "Commands:" in lines
    assert not [line for line in lines if "Error" in line or "\\n" in line]


@pytest.mark.parametrize("port", ["99999", "0", "-1"])
def test_a_port_that_there_is_not_is_refused(refused, port):
    assert "1<=x<=65535" in refused("up", "--port", port)


@pytest.mark.parametrize(
    "command", [("verify",), ("purge",), ("rebuild",), ("files",), ("quality", "verdicts")]
)
def test_an_unknown_instrument_is_told_with_those_that_are_known(refused, command):
    said = refused(*command, "--instrument", "thermo9")
    assert "no such instrument: thermo9 (known: thermo1, bruker1)" in said


def test_a_preview_for_an_unknown_instrument_is_told_with_those_that_are_known(refused):
    said = refused("project", "preview", "x.raw", "thermo9")
    assert "no such instrument: thermo9 (known: thermo1, bruker1)" in said


@pytest.mark.parametrize("command", ["verdicts", "evaluate", "export"])
def test_a_sample_class_that_there_never_was_is_refused(refused, command):
    said = refused("quality", command, "--class", "hella")
    assert "no such sample class: hella (known: hela)" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("annotate", "thermo1", "column", " "),
        ("exclude", "x.raw", "--why", ""),
        ("guide-set", "add", "x.raw", "--why", ""),
    ],
)
def test_what_people_should_read_later_is_not_empty(refused, arguments):
    assert "it is empty: say what was done, or why" in refused("quality", *arguments)
