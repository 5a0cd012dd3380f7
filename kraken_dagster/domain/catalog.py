"""Projects, and the rules that what people enter must keep: of projects, settings, assignments.

A rule is a sentence: "expected ..., found ...". All that are broken are told at once.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kraken_dagster.domain.errors import InputRefused, SettingsRefused, UnsafePath
from kraken_dagster.domain.processing import ANY_SCOPE
from kraken_dagster.domain.resources import MEMORY, TIME, Resources, amount_bytes, elapsed_seconds
from kraken_dagster.domain.settings import (
    ACTIVE,
    SOFTWARE_TYPE_ALPHADIA,
    SOFTWARE_TYPES,
    Settings,
)
from kraken_dagster.domain.vendors import Vendor, safe_relative

CONDA_ENVIRONMENT = re.compile(r"\w[\w.+-]*", re.ASCII)
SETTINGS_NAME = re.compile(r"[a-zA-Z0-9_]{1,64}")
_PROJECT_ID = re.compile(r"[A-Z0-9]{4,16}")
_FILES = ("fasta_file_name", "speclib_file_name", "config_file_name")
_AMOUNTS = ("slurm_mem", "slurm_max_mem")
_TIMES = ("slurm_time", "slurm_max_time")
_COUNTS = ("version", "num_threads", "slurm_cpus_per_task", "slurm_nodes")
# The longest that AlphaKraken's models take; what is longer it could not save again.
_LONGEST: Mapping[str, int] = {
    "description": 512,
    "software": 128,
    "config_params": 2048,
    **dict.fromkeys(_FILES, 128),
}
_LONGEST_PROJECT_NAME = 64
_LONGEST_FILTER = 128


class Project(BaseModel):
    """A document of the collection `project`."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: str = Field(alias="_id")
    name: str = ""
    description: str = ""
    status: str = ACTIVE

    @property
    def is_active(self) -> bool:
        return self.status == ACTIVE


def check_project(project: Project) -> None:
    """Raises InputRefused, naming each field that breaks a rule."""
    _refuse(f"project {project.id!r}", list(_project_problems(project)))


def _project_problems(project: Project) -> Iterator[str]:
    if _PROJECT_ID.fullmatch(project.id) is None or project.id.isdigit():
        yield f"id: expected 4 to 16 of A-Z and 0-9, a letter among them, found {project.id!r}"
    elif "DDA" in project.id:
        yield f"id: expected no DDA in it, found {project.id!r}: files of DDA are not processed"
    if not 0 < len(project.name) <= _LONGEST_PROJECT_NAME:
        yield f"name: expected 1 to {_LONGEST_PROJECT_NAME} characters, found {len(project.name)}"
    if len(project.description) > _LONGEST["description"]:
        yield _too_long("description", project.description)


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings of values as a person wrote them.

    Raises:
        InputRefused: a key that settings don't have, or a value that is no such thing.
    """
    what = f"settings {values.get('name')!r}"
    unknown = sorted(str(key) for key in values if key not in Settings.model_fields)
    problems = [f"{key}: there is no such field" for key in unknown]
    if not problems:
        try:
            return Settings.model_validate(
                {key: value for key, value in values.items() if value is not None}
            )
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}, found {item['input']!r}"
                for item in error.errors()
            ]
    raise _refused(what, problems)


def check_settings(
    settings: Settings, *, metrics_types: Collection[str], engines: Collection[str]
) -> None:
    """Raises InputRefused, naming each field that breaks a rule.

    Args:
        metrics_types: those that this installation can read.
        engines: the names in `engines` of instruments.yaml.
    """
    problems = [*_settings_problems(settings), *_resource_problems(settings)]
    if settings.metrics_type not in metrics_types:
        expected = ", ".join(sorted(metrics_types))
        problems.append(
            f"metrics_type: expected one of {expected}, {_found(settings.metrics_type)}"
        )
    if settings.job_engine is not None and settings.job_engine not in engines:
        expected = ", ".join(sorted(engines))
        problems.append(f"job_engine: expected one of {expected}, {_found(settings.job_engine)}")
    _refuse(f"settings {settings.name!r}", problems)


def _settings_problems(settings: Settings) -> Iterator[str]:
    if SETTINGS_NAME.fullmatch(settings.name) is None:
        yield f"name: expected 1 to 64 of a-z, A-Z, 0-9 and _, {_found(settings.name)}"
    for key, longest in _LONGEST.items():
        if len(getattr(settings, key) or "") > longest:
            yield _too_long(key, getattr(settings, key))
    if settings.software_type not in SOFTWARE_TYPES:
        expected = ", ".join(SOFTWARE_TYPES)
        yield f"software_type: expected one of {expected}, {_found(settings.software_type)}"
    for key in _FILES:
        name = getattr(settings, key)
        if name and not _is_plain_path(name):
            yield f"{key}: expected a path below the settings' own folder, {_found(name)}"
    yield from _software_problems(settings)
    try:
        shlex.split(settings.config_params or "")
    except ValueError as error:
        yield f"config_params: expected balanced quotes ({error}), {_found(settings.config_params)}"
    if "\0" in (settings.config_params or ""):
        yield f"config_params: expected no NUL, {_found(settings.config_params)}"


def _software_problems(settings: Settings) -> Iterator[str]:
    software = settings.software
    if settings.software_type != SOFTWARE_TYPE_ALPHADIA:
        if not _is_plain_path(software):
            yield f"software: expected a path below locations.software, {_found(software)}"
        return
    if CONDA_ENVIRONMENT.fullmatch(software) is None:
        yield f"software: expected the name of a conda environment, {_found(software)}"
    if not settings.fasta_file_name and not settings.speclib_file_name:
        yield "fasta_file_name, speclib_file_name: expected at least one of both for alphadia"


def _resource_problems(settings: Settings) -> Iterator[str]:
    for key in _COUNTS:
        value = getattr(settings, key)
        if value is not None and value < 1:
            yield f"{key}: expected 1 or more, found {value}"
    for key in _AMOUNTS:
        value = getattr(settings, key)
        if value is not None and not (re.fullmatch(MEMORY, value) and amount_bytes(value)):
            yield f"{key}: expected <number>[KMGT], like 64G, {_found(value)}"
    for key in _TIMES:
        value = getattr(settings, key)
        if value is not None and not (re.fullmatch(TIME, value) and elapsed_seconds(value)):
            yield f"{key}: expected HH:MM:SS or D-HH:MM:SS, {_found(value)}"
    others = Resources(partition=settings.slurm_partition, directives=settings.slurm_directives)
    for key, asked in (
        ("slurm_partition", replace(others, directives=())),
        ("slurm_directives", replace(others, partition=None)),
    ):
        try:
            asked.options()
        except SettingsRefused as error:
            yield f"{key}: expected {error.expected}, found {error.found}"


def check_assignment(
    *,
    scope: str,
    excluded: Collection[str],
    raw_file_id_filter: str | None,
    instruments: Collection[str],
) -> None:
    """Raises InputRefused, naming each field that breaks a rule.

    Args:
        instruments: the ids of all instruments of instruments.yaml.
    """
    problems = []
    scopes = (ANY_SCOPE, *Vendor, *sorted(instruments))
    if scope not in scopes:
        problems.append(f"scope: expected one of {', '.join(scopes)}, {_found(scope)}")
    for item in excluded:
        if item not in instruments:
            known = ", ".join(sorted(instruments))
            problems.append(f"excluded: expected an instrument of {known}, {_found(item)}")
    if len(raw_file_id_filter or "") > _LONGEST_FILTER:
        problems.append(f"filter: expected at most {_LONGEST_FILTER} characters")
    if scope in excluded:
        problems.append(f"excluded: {scope!r} is the scope itself, so that nothing is left")
    _refuse("the assignment", problems)


def _is_plain_path(text: str) -> bool:
    if not text.isprintable() or text.startswith("-"):
        return False
    try:
        safe_relative(text)
    except UnsafePath:
        return False
    return True


def _too_long(key: str, text: str) -> str:
    return f"{key}: expected at most {_LONGEST[key]} characters, found {len(text)}"


def _found(value: object) -> str:
    return f"found {value!r}"


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise _refused(what, problems)


def _refused(what: str, problems: list[str]) -> InputRefused:
    return InputRefused(
        f"{what[0].upper()}{what[1:]} can't be used: {'; '.join(problems)}",
        next_step="correct what is named, and ask again. Nothing was changed.",
    )
