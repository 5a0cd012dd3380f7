"""Every `kraken ...` that a message or a document names can be typed."""

import re
import shlex
from pathlib import Path

import click
import pytest

from kraken_dagster.cli.main import main

_ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`(kraken (?:[a-z]|--)[^`]*)`")


def _texts() -> list[Path]:
    code = (path for name in ("kraken_dagster", "resources") for path in _all(name, "*.py"))
    texts = [*code, *_all("kraken_dagster", "*.html"), *_all("docs", "*.md"), _ROOT / "README.md"]
    return [path for path in texts if "`kraken " in path.read_text("utf-8")]


def _all(folder: str, pattern: str) -> list[Path]:
    return sorted((_ROOT / folder).rglob(pattern))


def _joined(text: str) -> str:
    """String literals that follow on each other as one."""
    return re.sub(r"\"\s*\n\s*f?\"", "", text)


def what_is_wrong(line: str) -> str | None:
    """The first word or option of a command line that `kraken` does not know."""
    words = shlex.split(line.replace("…", " ").replace("'", " "), comments=True)[1:]
    known: click.Command = main
    for word in words:
        name = word.split("=")[0].rstrip(",.;:")
        if name in ("&&", "|", "(", "#"):
            break
        options = {flag for item in known.params for flag in (*item.opts, *item.secondary_opts)}
        if name.startswith("-"):
            if name.strip("-") and name not in {*options, "--help"}:
                return f"{known.name} has no {name}"
        elif isinstance(known, click.Group) and name in known.commands:
            known = known.commands[name]
        elif isinstance(known, click.Group) and re.fullmatch("[a-z-]+", name):
            return f"{known.name} has no command {name}"
    return None


@pytest.mark.parametrize("path", _texts(), ids=lambda path: str(path.relative_to(_ROOT)))
def test_a_command_that_a_text_names_exists(path):
    text = _joined(path.read_text("utf-8"))
    wrong = {line: what_is_wrong(line) for line in _NAMED.findall(text)}
    assert {line: why for line, why in wrong.items() if why} == {}


@pytest.mark.parametrize(
    "line",
    ["kraken purge --dry-run", "kraken sensor", "kraken project ad", "kraken --configs x up"],
)
def test_a_command_that_does_not_exist_is_found(line):
    assert what_is_wrong(line)
