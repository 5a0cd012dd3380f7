"""A version of settings: which program runs, with which parameters, on what of a cluster.

Source of the fields: the documents of AlphaKraken's collection `settings`; what asks for more of
a cluster than cpus, memory and time is ours.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from kraken_dagster.domain.processing import ScopedSettings
from kraken_dagster.domain.resources import Resources

SOFTWARE_TYPE_ALPHADIA = "alphadia"
SOFTWARE_TYPE_CUSTOM = "custom"
SOFTWARE_TYPE_DIANN = "diann"
SOFTWARE_TYPE_MSQC = "msqc"
SOFTWARE_TYPE_SKYLINE = "skyline"
SOFTWARE_TYPES = (
    SOFTWARE_TYPE_ALPHADIA,
    SOFTWARE_TYPE_CUSTOM,
    SOFTWARE_TYPE_DIANN,
    SOFTWARE_TYPE_MSQC,
    SOFTWARE_TYPE_SKYLINE,
)
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

    name: str
    version: int = 1
    number: int | None = None
    description: str = ""
    software_type: str = SOFTWARE_TYPE_CUSTOM
    software: str
    metrics_type: str = SOFTWARE_TYPE_CUSTOM
    config_params: str | None = None
    config_file_name: str | None = None
    fasta_file_name: str | None = None
    speclib_file_name: str | None = None
    num_threads: int = 1
    job_engine: str | None = None
    slurm_partition: str | None = None
    slurm_nodes: int | None = None
    slurm_cpus_per_task: int | None = None
    slurm_mem: str | None = None
    slurm_time: str | None = None
    slurm_directives: tuple[str, ...] = ()
    # A job that ran out of memory or time is submitted again with twice as much, up to these.
    slurm_max_mem: str | None = None
    slurm_max_time: str | None = None
    status: str = ACTIVE

    @property
    def title(self) -> str:
        return f"{self.name} version {self.version}"

    @property
    def is_active(self) -> bool:
        return self.status == ACTIVE

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
