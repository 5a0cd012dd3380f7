"""A version of settings: which program runs, with which parameters, on what of a cluster.

Source of the fields: the documents of AlphaKraken's collection `settings`; what asks for more of
a cluster than cpus, memory and time is ours.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kraken_dagster.model.eligibility import ScopedSettings
from kraken_dagster.model.jobs.resources import Resources
from kraken_dagster.model.programs import CUSTOM, PROGRAMS

ACTIVE = "active"
ARCHIVED = "inactive"  # AlphaKraken's word

# What an installation of Kraken adds to the settings, and what may change while they are used.
_NOT_CONTENT = frozenset({"number", "status"})


class Settings(BaseModel):
    """A version of the settings that a program is run with (collection `settings`).

    `number` counts all versions of all settings, for people; None in a document of AlphaKraken's
    older versions. Files are named relative to the settings' own folder.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(description="1 to 64 of a-z, A-Z, 0-9 and _; the folder of its files.")
    version: int = Field(1, description="Counts from 1; a version that was used never changes.")
    number: int | None = Field(None, description="Counts all versions of all settings.")
    description: str = Field("", description="For people; 512 characters at most.")
    software_type: str = Field(
        CUSTOM.name,
        description=f"{', '.join(PROGRAMS)}; of each type one settings applies.",
    )
    software: str = Field(
        description="The program below locations.software; for alphadia a conda environment."
    )
    metrics_type: str = Field(CUSTOM.name, description="What reads the results; see metrics.md.")
    config_params: str | None = Field(
        None, description="Parameters of the program, with placeholders like RAW_FILE_PATH."
    )
    config_file_name: str | None = Field(None, description="In the settings' folder.")
    fasta_file_name: str | None = Field(None, description="In the settings' folder.")
    speclib_file_name: str | None = Field(
        None, description="In the settings' folder; alphadia needs it or a fasta."
    )
    num_threads: int = Field(1, description="Threads of the program.")
    job_engine: str | None = Field(
        None, description="One of `engines` in instruments.yaml; else the instrument's."
    )
    slurm_partition: str | None = Field(None, description="The partition.")
    slurm_nodes: int | None = Field(None, description="`--nodes` of sbatch.")
    slurm_cpus_per_task: int | None = Field(None, description="`--cpus-per-task` of sbatch.")
    slurm_mem: str | None = Field(None, description="`--mem`: <number>[KMGT], like 64G.")
    slurm_time: str | None = Field(None, description="`--time`: HH:MM:SS or D-HH:MM:SS.")
    slurm_directives: tuple[str, ...] = Field(
        (), description="Further options of sbatch, like `--account=proteomics`."
    )
    slurm_max_mem: str | None = Field(
        None, description="A job that ran out of memory runs again with twice as much, up to this."
    )
    slurm_max_time: str | None = Field(
        None, description="A job that ran out of time runs again with twice as much, up to this."
    )
    status: str = Field(ACTIVE, description="`active`, or `inactive`: archived.")

    @property
    def title(self) -> str:
        return f"{self.name} version {self.version}"

    @property
    def is_active(self) -> bool:
        return self.status == ACTIVE

    @property
    def input_names(self) -> dict[str, str]:
        """The files that the fields name, by role, below the settings' own folder."""
        named = {
            "fasta": self.fasta_file_name,
            "library": self.speclib_file_name,
            "config": self.config_file_name,
        }
        return {role: name for role, name in named.items() if name}

    @property
    def resources(self) -> Resources:
        return Resources(
            partition=self.slurm_partition,
            nodes=self.slurm_nodes,
            cpus=self.slurm_cpus_per_task,
            mem=self.slurm_mem,
            time=self.slurm_time,
            directives=self.slurm_directives,
        )

    @property
    def content(self) -> dict[str, Any]:
        """What the settings say, as plain values; what they leave open is left out."""
        values = self.model_dump(mode="json", exclude=set(_NOT_CONTENT))
        return {key: value for key, value in values.items() if value not in (None, "", [])}

    @property
    def digest(self) -> str:
        """`sha256:` and the digest of the content: equal in every database that has them."""
        text = json.dumps(self.content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def says_the_same(self, other: "Settings") -> bool:
        """Whether both are equal but for their versions."""
        return _without_version(self.content) == _without_version(other.content)


def _without_version(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "version"}


class AssignedSettings(BaseModel):
    """Settings together with the scope in which a project uses them; `id` is the document's."""

    model_config = ConfigDict(frozen=True)
    settings: Settings
    scope: ScopedSettings
    id: str = ""
