"""Projects, and the rules that what people enter must keep: of projects, settings, assignments.

A rule is a sentence: "expected ..., found ...". All that are broken are told at once.
"""

import re
import reprlib
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kraken_dagster.model.eligibility import ANY_SCOPE
from kraken_dagster.model.errors import InputRefused, SettingsRefused, UnsafePath
from kraken_dagster.model.files.vendors import Vendor, safe_relative
from kraken_dagster.model.jobs.resources import (
    MEMORY,
    TIME,
    Resources,
    amount_bytes,
    elapsed_seconds,
)
from kraken_dagster.model.programs import CUSTOM, PROGRAMS, Start
from kraken_dagster.model.settings import (
    ACTIVE,
    Settings,
)

CONDA_ENVIRONMENT = re.compile(r"\w[\w.+-]*", re.ASCII)
SETTINGS_NAME = re.compile(r"[a-zA-Z0-9_]{1,64}")
_PROJECT_ID = re.compile(r"[A-Z0-9]{4,16}")
_FILES = ("fasta_file_name", "speclib_file_name", "config_file_name")
_AMOUNTS = ("slurm_mem", "slurm_max_mem")
_TIMES = ("slurm_time", "slurm_max_time")
_COUNTS = {
    "version": 1_000_000,
    "num_threads": 4096,
    "slurm_cpus_per_task": 65_536,
    "slurm_nodes": 100_000,
}
_ENTERED = Settings.model_fields.keys() - {"number", "status"}
_TEXTS = ("description", "config_params")
_SHOWN_CHARACTERS = 100
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
    for key in ("name", "description"):
        if not _is_text(getattr(project, key)):
            yield f"{key}: expected text without control characters"
    if len(project.description) > _LONGEST["description"]:
        yield _too_long("description", project.description)


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings of values as a person wrote them.

    Raises:
        InputRefused: a key that settings don't have, or a value that is no such thing.
    """
    what = f"settings {values.get('name')!r}"
    unknown = sorted(_shown(key) for key in values if key not in _ENTERED)
    problems = [f"{key}: there is no such field" for key in unknown]
    problems += [
        f"{key}: expected text in Unicode"
        for key, value in values.items()
        if isinstance(value, str) and re.search("[\ud800-\udfff]", value)
    ]
    if not problems:
        try:
            return Settings.model_validate(
                {key: value for key, value in values.items() if value is not None}
            )
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}{_hint(item)}, "
                f"found {_shown(item['input'])}"
                for item in error.errors(include_url=False)
            ]
    raise _refused(what, problems)


def _hint(item: Mapping[str, Any]) -> str:
    """YAML reads `1:00:00` as a number of seconds."""
    number_for_text = item["type"] == "string_type" and isinstance(item["input"], int | float)
    return " (in YAML: in quotes)" if number_for_text else ""


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
    if settings.software_type not in PROGRAMS:
        expected = ", ".join(PROGRAMS)
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
    for key in _TEXTS:
        if not _is_text(getattr(settings, key) or ""):
            yield f"{key}: expected text without control characters"


def _software_problems(settings: Settings) -> Iterator[str]:
    software, program = settings.software, PROGRAMS.get(settings.software_type, CUSTOM)
    if program.start is Start.CONDA:
        if CONDA_ENVIRONMENT.fullmatch(software) is None:
            yield f"software: expected the name of a conda environment, {_found(software)}"
    elif not _is_plain_path(software):
        yield f"software: expected a path below locations.software, {_found(software)}"
    needed = program.needs_one_of
    if needed and not any(getattr(settings, key) for key in needed):
        yield f"{', '.join(needed)}: expected at least one of them for {program.name}"


def _resource_problems(settings: Settings) -> Iterator[str]:
    for key, most in _COUNTS.items():
        value = getattr(settings, key)
        if value is not None and not 1 <= value <= most:
            yield f"{key}: expected 1 to {most}, found {value}"
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


def _is_text(text: str) -> bool:
    """Whether MongoDB, a terminal and a program's parameters can hold it."""
    return all(char.isprintable() or char in "\n\t" for char in text)


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
    return f"found {_shown(value)}"


def _shown(value: object) -> str:
    """A value as it is told, however large it is."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = _SHOWN_CHARACTERS
    brief.maxlevel = 3
    return brief.repr(value)


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise _refused(what, problems)


def _refused(what: str, problems: list[str]) -> InputRefused:
    return InputRefused(
        f"{what[0].upper()}{what[1:]} can't be used: {'; '.join(problems)}",
        next_step="correct what is named, and ask again. Nothing was changed.",
    )
