"""Every key and every command is documented, and the documents name nothing that isn't there."""

import re
from pathlib import Path

import click
import pytest

from kraken_dagster.alerts.rules.registry import RULE_FAILED, RULES
from kraken_dagster.cli.main import main
from kraken_dagster.config import alerts, copying, engines, offsite, quality_rules, thresholds
from kraken_dagster.config import schema as config
from kraken_dagster.model import errors, settings

_ROOT = Path(__file__).resolve().parents[2]
_MODELS = (
    config.KrakenConfig,
    config.MongoDB,
    config.Dagit,
    config.Page,
    alerts.Alerts,
    alerts.Audiences,
    alerts.SmtpChannel,
    alerts.WebhookChannel,
    alerts.AppriseChannel,
    alerts.Smtp,
    alerts.QuietHours,
    alerts.Digest,
    thresholds.Thresholds,
    config.Locations,
    config.Location,
    config.BackupLocation,
    engines.LocalEngine,
    engines.SlurmEngine,
    config.CodeLocation,
    config.InstrumentEntry,
    config.Simulation,
    offsite.Offsite,
    offsite.UploadHours,
    copying.CopyHours,
    offsite.ObjectLock,
    offsite.OffsiteProject,
    config.ReadingLimits,
    quality_rules.QualityControl,
    quality_rules.QcClass,
    quality_rules.QcMetric,
    quality_rules.QcHint,
    quality_rules.Bounds,
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


def _commands(group: click.Group, prefix: str = "kraken") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[f"{prefix} {name}"] = command
        if isinstance(command, click.Group):
            found |= _commands(command, f"{prefix} {name}")
    return found


_COMMANDS = _commands(main)


@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_every_command_and_option_is_documented(command):
    lines = _read("docs/commands.md").splitlines()
    row = next(line for line in lines if re.match(rf"\| `{command}[ `]", line))
    for parameter in _COMMANDS[command].params:
        is_field = parameter.name in settings.Settings.model_fields  # settings.md has those
        if parameter.opts[0].startswith("--") and not is_field:
            assert parameter.opts[0] in row


def test_every_rule_of_alerts_is_documented():
    lines = _read("docs/alerts.md").splitlines()
    for rule in (*RULES, RULE_FAILED):
        [row] = [line for line in lines if line.startswith(f"| `{rule.kind}` |")]
        options = ", ".join(f"`{name}`" for name in rule.thresholds) or "-"
        reported = [rule.severity, rule.audience, rule.condition, options, rule.source]
        assert row == f"| `{rule.kind}` | {' | '.join(reported)} |"
        assert set(rule.thresholds) <= thresholds.Thresholds.model_fields.keys()


def test_every_hint_of_quality_control_is_documented():
    lines = [line for line in _read("docs/quality.md").splitlines() if line.startswith("| `")]
    for hint in quality_rules.QualityControl().hints:
        (line,) = [line for line in lines if line.endswith(f"| {hint.text} |")]
        assert all(f"`{name}`" in line for name in hint.metrics), line


def test_every_field_of_settings_is_documented():
    text = _read("docs/settings.md")
    for name, field in settings.Settings.model_fields.items():
        assert f"| `{name}` | {field.description} |" in text


def _below(error: type) -> set[type]:
    return {error}.union(*(_below(sub) for sub in error.__subclasses__()))


def test_every_error_says_what_it_means_and_is_exported_by_its_package():
    ours = {e for e in _below(errors.KrakenError) if e.__module__.startswith(errors.__name__)}
    assert {e.__name__ for e in ours} == set(errors.__all__)
    assert [e.__name__ for e in ours if not vars(e).get("__doc__")] == []


@pytest.mark.parametrize("document", sorted(path.name for path in (_ROOT / "docs").glob("*.md")))
def test_paths_and_links_in_the_documents_lead_somewhere(document):
    path = _ROOT / "docs" / document
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_architecture_names_modules_and_packages_that_exist():
    text = _read("docs/architecture.md")
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.(?:py|sh))?)`", text))
    assert len(named) > 40
    roots = (_ROOT / "kraken_dagster", _ROOT)
    assert [
        name for name in sorted(named) if not any((root / name).exists() for root in roots)
    ] == []


def test_guarantees_cite_tests_that_exist():
    cited = set(re.findall(r"`(test_\w+)`", _read("docs/guarantees.md")))
    there = {
        name
        for path in (_ROOT / "kraken_dagster_tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert cited
    assert cited - there == set()


def test_each_decision_has_a_number_of_its_own() -> None:
    names = sorted(path.name for path in (_ROOT / "docs" / "decisions").glob("0*.md"))
    numbers = [name.partition("-")[0] for name in names]
    assert len(numbers) == len(set(numbers)), names
