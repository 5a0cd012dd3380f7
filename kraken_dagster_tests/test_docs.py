"""Every key and every command is documented, and the documents name nothing that isn't there."""

import re
from pathlib import Path

import pytest

from kraken_dagster.cli import main
from kraken_dagster.domain import config, engines, errors

_ROOT = Path(__file__).resolve().parents[1]
_MODELS = (
    config.KrakenConfig,
    config.MongoDB,
    config.Locations,
    config.Location,
    engines.LocalEngine,
    engines.SlurmEngine,
    config.InstrumentEntry,
    config.Simulation,
)


def _read(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("model", _MODELS, ids=lambda model: model.__name__)
def test_every_key_is_documented_with_its_description(model):
    text = _read("docs/configuration.md")
    for name, field in model.model_fields.items():
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), None)
        assert row is not None, f"{name} is not in docs/configuration.md"
        assert any(
            field.description in line
            for line in text.splitlines()
            if line.startswith(f"| `{name}` |")
        ), f"docs/configuration.md tells something else of {name}"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_and_option_is_documented(command):
    text = _read("docs/commands.md")
    row = next(line for line in text.splitlines() if line.startswith(f"| `kraken {command}"))
    for parameter in main.commands[command].params:
        if parameter.opts[0].startswith("--"):
            assert parameter.opts[0] in row


def test_the_tree_of_errors_in_the_docstring_is_complete():
    classes = [
        name
        for name, item in vars(errors).items()
        if isinstance(item, type) and issubclass(item, errors.KrakenError)
    ]
    assert [name for name in classes if name not in (errors.__doc__ or "")] == []


@pytest.mark.parametrize("document", sorted(path.name for path in (_ROOT / "docs").glob("*.md")))
def test_paths_and_links_in_the_documents_lead_somewhere(document):
    path = _ROOT / "docs" / document
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_guarantees_cite_tests_that_exist():
    cited = set(re.findall(r"`(test_\w+)`", _read("docs/guarantees.md")))
    there = {
        name
        for path in (_ROOT / "kraken_dagster_tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert cited
    assert cited - there == set()
