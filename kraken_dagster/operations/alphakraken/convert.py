"""The whole of AlphaKraken's configuration, as the text of an instruments.yaml."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kraken_dagster.config.instruments import Options, OutputExistsMode
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.alphakraken.engines import Cluster, engines
from kraken_dagster.operations.alphakraken.environment import mongodb
from kraken_dagster.operations.alphakraken.instruments import instruments
from kraken_dagster.operations.alphakraken.notes import Notes, Section, Verdict
from kraken_dagster.operations.alphakraken.places import locations, mounts_folder
from kraken_dagster.operations.alphakraken.source import (
    read_environment,
    read_variables,
    read_yaml,
)

_HEAD = (
    "# Kraken's configuration, from AlphaKraken's by `kraken import-alphakraken`;\n"
    "# docs/configuration.md has every key.\n"
)
_MOVE_DELAY_M = 15  # AlphaKraken's own default; Kraken's is shorter
_WEBHOOKS = {
    "ops_alerts_webhook_url": ("operations", "KRAKEN_OPS_ALERTS_URL"),
    "business_alerts_webhook_url": ("laboratory", "KRAKEN_BUSINESS_ALERTS_URL"),
}
_PROOFS = {"local": "local", "force_local": "local", "s3": "local_and_offsite"}


@dataclass(frozen=True)
class Sources:
    """AlphaKraken's files, and what people say besides."""

    file: Path
    environment: Path | None = None
    variables: Path | None = None
    columns: Path | None = None
    mounts: str | None = None
    cluster: Cluster = field(default_factory=Cluster)


def convert(sources: Sources) -> tuple[str, Notes]:
    """The text of an instruments.yaml that Kraken can load, and what became of each key.

    Raises:
        ConfigError: a file can't be used, or the result can't; nothing was written.
    """
    notes = Notes()
    environment = read_environment(sources.environment)
    file = Section("", read_yaml(sources.file), notes)
    places, general = file.below("locations"), file.below("general")
    mounts = mounts_folder(sources.mounts, places, environment)
    found = engines(file, places, general, sources.cluster)
    result: dict[str, Any] = {
        "mongodb": mongodb(environment, notes),
        "home": "${KRAKEN_HOME:-.kraken}",
        "locations": locations(file, places, mounts, found.view),
        "engines": {"local": {"type": "local", "slots": 2}, **found.engines},
        "defaults": {"sensors": "stopped", "file_move_delay_m": _MOVE_DELAY_M},
        "options": _options(read_variables(sources.variables), notes),
        "instruments": instruments(file, mounts),
        "alerts": _alerts(general.below("notifications"), notes),
    }
    if found.default is not None:
        result["defaults"]["engine"] = found.default
    result |= _backup(file.below("backup"), result["options"], notes)
    if sources.columns is not None:
        result["page"] = {"columns": str(sources.columns.absolute())}
    general.end()
    file.end()
    _last_words(notes)
    text = _HEAD + yaml.safe_dump(
        {key: value for key, value in result.items() if value}, sort_keys=False, width=100
    )
    _check(text, sources.file)
    return text, notes


def _alerts(section: Section, notes: Notes) -> dict[str, Any]:
    """Channels that name the variable which holds a webhook's URL."""
    audiences: dict[str, list[dict[str, str]]] = {}
    for key, (audience, variable) in _WEBHOOKS.items():
        if (url := section.text(key)) is None:
            continue
        kind = "webhook" if _speaks_json(url) else "apprise"
        audiences[audience] = [{"type": kind, "url_variable": variable}]
        section.change(key, f"alerts.audiences.{audience}, a secret: in the variable {variable}")
        needs = "" if kind == "webhook" else ", as apprise has it (docs/alerts.md), extra `alerts`"
        notes.to_do.append(f"set {variable} where Kraken is started{needs}.")
    section.leave("hostname", "Kraken tells its own code location")
    section.leave("webapp_url", "of AlphaKraken's page; name Kraken's in `alerts.page_url`")
    section.end()
    return {"audiences": audiences} if audiences else {}


def _speaks_json(url: str) -> bool:
    """Whether it may be a program of the site's own; Slack and Teams want a form of their own."""
    return not any(word in url for word in ("slack.com", "office.com", "powerplatform", "logic."))


def _backup(section: Section, options: dict[str, Any], notes: Notes) -> dict[str, Any]:
    kind, s3 = section.text("backup_type"), section.below("s3")
    proof, section_of_s3 = section.text("purging_verification_type"), {}
    region, prefix = s3.text("region"), s3.text("bucket_prefix")
    if kind == "s3":
        section_of_s3 = {"region": region, "bucket_prefix": prefix}
        section.change("backup_type", "offsite: a second copy beside the local backup")
        notes.to_do.append("give Kraken the S3 server's keys (docs/offsite.md), and `endpoint`.")
    elif kind not in (None, "local"):
        section.refuse("backup_type", f"expected local or s3, found {kind!r}")
    elif kind is not None:
        section.take("backup_type", "a local backup")
    if kind != "s3" and (region or prefix):
        notes.add(
            Verdict.LEFT, section.key("s3"), "there is no second copy: `backup_type` is local"
        )
    if proof is not None and proof not in _PROOFS:
        section.refuse("purging_verification_type", f"expected {', '.join(_PROOFS)}: {proof!r}")
    elif proof is not None:
        ours = _PROOFS[proof] if kind == "s3" else "local"
        options["purge_proof"] = ours
        section.change("purging_verification_type", f"options.purge_proof: {ours}")
    s3.end()
    section.end()
    taken = {key: value for key, value in section_of_s3.items() if value}
    return {"offsite": taken} if taken else {}


def _options(values: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """Airflow's Variables; ours have the same names."""
    section = Section("variables", values, notes)
    options: dict[str, Any] = {}
    for key in section:
        known = Options.model_fields.get(key)
        if known is None:
            section.leave(key, "no option of Kraken's has this name")
            continue
        kinds = {bool: section.flag, float: section.number}
        value = kinds.get(known.annotation, section.text)(key)  # type: ignore[arg-type]
        if key == "output_exists_mode" and str(value) not in set(OutputExistsMode):
            section.refuse(key, f"expected one of {', '.join(OutputExistsMode)}, found {value!r}")
        elif value is not None:
            options[key] = value
            section.take(key, f"options.{key}: {str(value).lower()}")
    return options


def _last_words(notes: Notes) -> None:
    notes.to_do += [
        "compare the Airflow Variables with `options`, if they were not given by --variables; "
        "`min_free_space_gb` last.",
        "an alert's threshold that your site has changed in AlphaKraken's code goes to "
        "`alerts.thresholds`; the defaults are AlphaKraken's.",
        "pause AlphaKraken's DAGs before a watcher is switched on; then docs/operations.md, "
        "`Moving from AlphaKraken`.",
    ]


def _check(text: str, path: Path) -> None:
    """
    Raises:
        ConfigError: Kraken could not load it.
    """
    with tempfile.TemporaryDirectory(prefix="kraken-import-") as folder:
        copy = Path(folder) / "instruments.yaml"
        copy.write_text(text, encoding="utf-8")
        try:
            load_config(copy, environment={})
        except ConfigError as error:
            reported = str(error).replace(f"{copy}, ", "")
            raise ConfigError(
                "What it becomes is no configuration of Kraken's",
                file=path,
                found=reported,
                next_step="mend it in a copy of AlphaKraken's file.",
            ) from error
