"""Processing jobs: what is run on which file, and what became of it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from kraken_dagster.model.errors import SettingsRefused
from kraken_dagster.model.jobs.report import OPEN_STATES, JobState
from kraken_dagster.model.jobs.resources import Resources, more_memory, more_time
from kraken_dagster.model.printable import printable
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.settings import Settings

_MOST_RESUBMISSIONS = 3
# Of a job whose stores are not there where it runs; it counts only where the job has not begun.
EXIT_STORE_AWAY = 75
# Of a job whose output was away when its program had ended: well, or (of a site's script) badly.
# Above all signals, so that no program ends by them.
EXIT_ENDED_WELL_AWAY, EXIT_ENDED_BADLY_AWAY = 193, 194
_ADVICE: Mapping[JobState, str] = {
    JobState.TIMEOUT: "more slurm_time, or a slurm_max_time, in a new version of the settings.",
    JobState.OUT_OF_MEMORY: "more slurm_mem, or a slurm_max_mem, in a new version of the settings.",
    JobState.CANCELLED: "find out who cancelled it and why; `kraken retry` submits it again.",
    JobState.NODE_FAILURE: "it was submitted again in vain; ask the cluster's administrators.",
    JobState.PREEMPTED: "it was submitted again in vain; use a partition that is not preempted.",
    JobState.SKIPPED: "unset debug_no_cluster_ssh; `kraken retry` submits it.",
}


@dataclass(frozen=True)
class JobSpec:
    """What an engine is asked to run: an argument list, never a shell's line.

    `working_copy` are files that the program must not read where they are: each is copied into a
    temporary folder of the job's own, and the first one's path in the command is replaced.
    `stores` are roots as the job sees them, the output's first, each with its marker's line.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    output_path: str
    resources: Resources = field(default_factory=Resources)
    working_copy: tuple[str, ...] = ()
    log_name: str = "log.txt"
    stores: tuple[tuple[str, str], ...] = ()


class InputFile(BaseModel):
    """A file that a job reads beside the raw file, as it was when the job was submitted.

    `path` is relative to the settings' own folder; `role` is fasta, library, config, or parameter
    where only `config_params` names it. Size in bytes, mtime in ns, MD5 as hex.
    """

    model_config = ConfigDict(frozen=True)
    role: str
    path: str
    size: int
    mtime_ns: int
    md5: str


_KEPT_FOR_ANOTHER_TRY = {
    "raw_file",
    "instrument_id",
    "settings_name",
    "settings_version",
    "settings_digest",
    "settings_path",
    "inputs",
    "software_type",
    "software",
    "metrics_type",
    "engine",
    "attempt",
    "output_path",
    "relative_output_path",
    "command",
    "environment",
    "max_mem",
    "max_time",
    "working_copy",
    "log_name",
}


class QuantJob(BaseModel):
    """A document of the collection `quant_job`: one job of one file under one settings version."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: str = Field(alias="_id")
    raw_file: str
    instrument_id: str
    settings_name: str
    settings_version: int
    settings_digest: str | None = None
    # The settings' own folder, as the engine sees it.
    settings_path: str = ""
    inputs: list[InputFile] = []
    software_type: str
    software: str
    metrics_type: str
    engine: str
    attempt: int
    resubmission: int = 0
    state: JobState
    output_path: str
    relative_output_path: str
    command: list[str]
    environment: dict[str, str]
    resources: Resources = Resources()
    max_mem: str | None = None
    max_time: str | None = None
    working_copy: list[str] = []
    log_name: str = "log.txt"
    created_at: datetime
    # Submitting was begun, and its end is not known as long as there is no job id.
    tried_at: datetime | None = None
    # The code location that submitted it; of this machine's jobs no other can say anything.
    location: str | None = None
    # Since when the engine says that it has no job of that name.
    missing_since: datetime | None = None
    cluster_job_id: str | None = None
    # Somebody else submitted it; its result is awaited, and it is never submitted here.
    followed: bool = False
    exit_code: int | None = None
    detail: str | None = None
    log_tail: str | None = None
    error_codes: list[str] = []
    unknown_since: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    elapsed_s: float | None = None
    peak_memory_bytes: int | None = None
    node: str | None = None
    collected_at: datetime | None = None
    result_error: str | None = None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def told_state(self) -> str:
        """Its state; one that isn't known in the engine's own words."""
        reported = self.detail if self.state is JobState.UNKNOWN else None
        return f"{self.state}: {reported}" if reported else str(self.state)

    @property
    def met_no_store(self) -> bool:
        """Whether it ended because the output or the backup was away, or full, where it ran."""
        return self.state is JobState.NODE_FAILURE and self.exit_code == EXIT_STORE_AWAY

    def spec(self) -> JobSpec:
        return JobSpec(
            name=self.id,
            command=tuple(self.command),
            environment=self.environment,
            output_path=self.output_path,
            resources=self.resources,
            working_copy=tuple(self.working_copy),
            log_name=self.log_name,
        )

    def another_try(self, resources: Resources, *, now: datetime) -> "QuantJob":
        """The record of the same job, to be submitted once more."""
        number = self.resubmission + 1
        name = self.id.removesuffix(f"-r{self.resubmission}") if self.resubmission else self.id
        kept = self.model_dump(by_alias=True, include=_KEPT_FOR_ANOTHER_TRY)
        return QuantJob(
            **kept,
            _id=f"{name}-r{number}",
            resubmission=number,
            resources=resources,
            state=JobState.INTENDED,
            created_at=now,
            detail=f"try {number + 1}, after {self.state} on {self.node or 'no node'}",
        )

    @property
    def failure(self) -> str | None:
        """Why there is no result, in words; None while it runs and when it succeeded."""
        if self.result_error is not None:
            return self.result_error
        if self.is_open or self.state is JobState.SUCCEEDED:
            return None
        codes = f"{', '.join(self.error_codes)}: " if self.error_codes else ""
        code = "" if self.exit_code is None else f" with exit code {self.exit_code}"
        detail = f": {self.detail}" if self.detail else ""
        last = (self.log_tail or "").strip().rpartition("\n")[2]
        log = f"; its log ends with {last!r}" if last else ""
        advice = f". Next: {_ADVICE[self.state]}" if self.state in _ADVICE else ""
        return f"{codes}{self.state}{code}{detail}{log}{advice}"


def job_name(raw_file: RawFile, settings: Settings, attempt: int) -> str:
    """The unique, deterministic name of a job; plain enough for any shell and file system.

    The moment at which the file was registered is part of it, so that two databases whose jobs
    run on one cluster don't take each other's for their own.

    Raises:
        SettingsRefused: the settings' name is not plain.
    """
    if re.fullmatch(r"\w{1,64}", settings.name, re.ASCII) is None:
        raise SettingsRefused(
            "A settings' name can't be used",
            expected="1 to 64 of a-z, A-Z, 0-9 and _",
            found=repr(settings.name),
            next_step="add the settings under another name, and assign that.",
        )
    registered = f"{raw_file.created_at_:%Y%m%d%H%M%S%f}"
    digest = hashlib.sha256(f"{registered}\0{raw_file.id}".encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", raw_file.id)[:40].strip("-")
    return f"kraken-{readable}-{digest}-{settings.name}-v{settings.version}-{attempt}"


def resources_for_another_try(job: QuantJob) -> Resources | None:
    """What a job that ended badly is submitted again with; None if it isn't."""
    if job.followed:
        return None
    if job.met_no_store:  # which time cures, however long it takes
        return job.resources
    if job.resubmission >= _MOST_RESUBMISSIONS:
        return None
    if job.state in (JobState.NODE_FAILURE, JobState.PREEMPTED):
        return job.resources
    if job.state is JobState.OUT_OF_MEMORY:
        mem = more_memory(job.resources.mem, job.max_mem)
        return None if mem is None else replace(job.resources, mem=mem)
    if job.state is JobState.TIMEOUT:
        time = more_time(job.resources.time, job.max_time)
        return None if time is None else replace(job.resources, time=time)
    return None


def failed_details(failures: Sequence[tuple[str, str]]) -> str:
    """The errors of several settings' jobs in one line: pairs of settings name and error."""
    each = "; ".join(f"[{name}] {error}" for name, error in failures)
    return printable(f"error while processing: {each}")


def next_run_folder(base: str, existing: set[str]) -> str:
    """`base`, or else the first of `base.run2`, `base.run3`, ... that isn't there."""
    if base not in existing:
        return base
    number = 2
    while f"{base}.run{number}" in existing:
        number += 1
    return f"{base}.run{number}"
