"""Processing jobs: what is run on which file, and what became of it."""

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from kraken_dagster.domain.errors import SubmitFailed
from kraken_dagster.domain.processing import ScopedSettings
from kraken_dagster.domain.vendors import safe_relative

SOFTWARE_TYPE_CUSTOM = "custom"
SOFTWARE_TYPE_MSQC = "msqc"
BUILT_IN_PROGRAMS = frozenset({"kraken-rawqc"})


class JobState(StrEnum):
    INTENDED = "intended"  # recorded, perhaps submitted: the engine must be asked by name
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    NODE_FAILURE = "node_failure"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"  # the engine doesn't know it; that is not the same as ended


OPEN_STATES = frozenset({JobState.INTENDED, JobState.WAITING, JobState.RUNNING, JobState.UNKNOWN})
ENDED_STATES = frozenset(JobState) - OPEN_STATES


@dataclass(frozen=True)
class JobReport:
    """What an engine says of one job. `detail` is in the engine's own words."""

    state: JobState
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    detail: str | None = None


@dataclass(frozen=True)
class JobSpec:
    """What an engine is asked to run: an argument list, never a shell's line."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    output_path: str


class Settings(BaseModel):
    """A version of the settings that a program is run with (collection `settings`)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: int = 1
    description: str = ""
    software_type: str = SOFTWARE_TYPE_CUSTOM
    software: str
    metrics_type: str = SOFTWARE_TYPE_CUSTOM
    config_params: str | None = None
    config_file_name: str | None = None
    fasta_file_name: str | None = None
    speclib_file_name: str | None = None
    num_threads: int = 1
    status: str = "active"


class AssignedSettings(BaseModel):
    """Settings together with the scope in which a project uses them."""

    model_config = ConfigDict(frozen=True)
    settings: Settings
    scope: ScopedSettings


class QuantJob(BaseModel):
    """A document of the collection `quant_job`: one job of one file under one settings version."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: str = Field(alias="_id")
    raw_file: str
    instrument_id: str
    settings_name: str
    settings_version: int
    software_type: str
    software: str
    metrics_type: str
    engine: str
    attempt: int
    state: JobState
    output_path: str
    relative_output_path: str
    command: list[str]
    environment: dict[str, str]
    cluster_job_id: str | None = None
    exit_code: int | None = None
    detail: str | None = None
    log_tail: str | None = None
    created_at: datetime
    unknown_since: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    collected_at: datetime | None = None
    result_error: str | None = None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    def spec(self) -> JobSpec:
        return JobSpec(
            name=self.id,
            command=tuple(self.command),
            environment=self.environment,
            output_path=self.output_path,
        )

    @property
    def failure(self) -> str | None:
        """Why there is no result, in words; None while it runs and when it succeeded."""
        if self.result_error is not None:
            return self.result_error
        if self.is_open or self.state is JobState.SUCCEEDED:
            return None
        code = "" if self.exit_code is None else f" with exit code {self.exit_code}"
        detail = f": {self.detail}" if self.detail else ""
        last = (self.log_tail or "").strip().rpartition("\n")[2]
        return f"{self.state}{code}{detail}" + (f"; its log ends with {last!r}" if last else "")


def job_name(raw_file_id: str, settings: Settings, attempt: int) -> str:
    """The unique, deterministic name of a job; plain enough for any shell and file system."""
    digest = hashlib.sha256(raw_file_id.encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", raw_file_id)[:40].strip("-")
    return f"kraken-{readable}-{digest}-{settings.name}-v{settings.version}-{attempt}"


@dataclass(frozen=True)
class JobPaths:
    """Paths as the engine sees them."""

    raw_file: str
    relative_raw_file: str
    output: str
    relative_output: str
    settings: str
    software_base: str


def job_environment(
    settings: Settings, paths: JobPaths, *, raw_file_id: str, project_id: str
) -> dict[str, str]:
    """The variables that a job finds; the names are those of AlphaKraken's job scripts."""
    return {
        "RAW_FILE_PATH": paths.raw_file,
        "SETTINGS_PATH": paths.settings,
        "OUTPUT_PATH": paths.output,
        "RELATIVE_OUTPUT_PATH": paths.relative_output,
        "SPECLIB_FILE_NAME": settings.speclib_file_name or "",
        "FASTA_FILE_NAME": settings.fasta_file_name or "",
        "CONFIG_FILE_NAME": settings.config_file_name or "",
        "SOFTWARE": settings.software,
        "SOFTWARE_TYPE": settings.software_type,
        "METRICS_TYPE": settings.metrics_type,
        "CUSTOM_COMMAND": "",
        "NUM_THREADS": str(settings.num_threads),
        "RAW_FILE_ID": raw_file_id,
        "PROJECT_ID": project_id,
        "SETTINGS_NAME": settings.name,
        "SETTINGS_VERSION": str(settings.version),
    }


def job_command(
    settings: Settings, paths: JobPaths, *, raw_file_id: str, project_id: str
) -> list[str]:
    """The argument list of a job.

    `config_params` is split as a shell would split it, and then each placeholder is replaced
    within its argument, so that no value can become two arguments or a command.

    Raises:
        SubmitFailed: no command is known for the software type, or `config_params` can't be split.
    """
    program = _program(settings, paths)
    if settings.software_type == SOFTWARE_TYPE_MSQC:
        return [program, paths.raw_file, paths.output]
    if settings.software_type != SOFTWARE_TYPE_CUSTOM:
        raise SubmitFailed(
            f"Settings {settings.name!r} version {settings.version} can't be run",
            expected=f"software_type {SOFTWARE_TYPE_CUSTOM!r} or {SOFTWARE_TYPE_MSQC!r}",
            found=repr(settings.software_type),
            next_step="make a new version of the settings.",
        )
    values = {
        "RELATIVE_RAW_FILE_PATH": paths.relative_raw_file,
        "RELATIVE_OUTPUT_PATH": paths.relative_output,
        "RAW_FILE_PATH": paths.raw_file,
        "SETTINGS_PATH": paths.settings,
        "OUTPUT_PATH": paths.output,
        "NUM_THREADS": str(settings.num_threads),
        "RAW_FILE_ID": raw_file_id,
        "PROJECT_ID": project_id,
    }
    placeholder = re.compile("|".join(values))
    return [
        program,
        *(
            placeholder.sub(lambda found: values[found[0]], argument)
            for argument in _split(settings)
        ),
    ]


def _program(settings: Settings, paths: JobPaths) -> str:
    if settings.software in BUILT_IN_PROGRAMS:
        return settings.software
    if not paths.software_base:
        raise SubmitFailed(
            f"Nothing says where the program of settings {settings.name!r} is",
            file=settings.software,
            expected="`locations.software` in instruments.yaml",
            next_step="set it to the folder of the programs, and reload the code location.",
        )
    return f"{paths.software_base}/{safe_relative(settings.software)}"


def _split(settings: Settings) -> list[str]:
    try:
        return shlex.split(settings.config_params or "")
    except ValueError as error:
        raise SubmitFailed(
            f"config_params of settings {settings.name!r} can't be split into arguments",
            found=repr(settings.config_params),
            next_step=f"mend its quotes ({error}) in a new version of the settings.",
        ) from error


def failed_details(failures: Sequence[tuple[str, str]]) -> str:
    """The errors of several settings' jobs in one line: pairs of settings name and error."""
    each = "; ".join(f"[{name}] {error}" for name, error in failures)
    return f"error while processing: {each}"


def next_run_folder(base: str, existing: set[str]) -> str:
    """`base`, or else the first of `base.run2`, `base.run3`, ... that isn't there."""
    if base not in existing:
        return base
    number = 2
    while f"{base}.run{number}" in existing:
        number += 1
    return f"{base}.run{number}"
