"""The schema of `engines` in instruments.yaml: what runs the jobs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from kraken_dagster.model.jobs.resources import Resources
from kraken_dagster.model.strict import Strict

EngineName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
ENGINE_LOCAL = "local"


class QueueOrder(StrEnum):
    OLDEST_FIRST = "oldest_first"
    NEWEST_FIRST = "newest_first"


class _Engine(Strict):
    slots: int = Field(2, ge=1, description="How many jobs are open at once; `cluster_slots` wins.")
    queue_order: QueueOrder = Field(
        QueueOrder.OLDEST_FIRST,
        description="Whose jobs are submitted first when slots are short: `oldest_first`, or "
        "`newest_first` while catching up.",
    )
    conda: str = Field(
        "conda", description="The conda program, which starts AlphaDIA in its environment."
    )


class LocalEngine(_Engine):
    """Jobs as processes on this machine."""

    type: Literal["local"] = Field("local", description="Jobs on this machine.")


HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]


class SlurmEngine(_Engine):
    """Jobs on a Slurm cluster, reached by SSH."""

    type: Literal["slurm"] = Field(description="Jobs on a Slurm cluster, reached by SSH.")
    slots: int = Field(
        100, ge=1, description="How many jobs are open at once; `cluster_slots` wins."
    )
    host: HostName | list[HostName] = Field(
        description="The head node; of several, the next is tried where one gives no answer.",
        min_length=1,
    )
    port: int = Field(22, ge=1, le=65535, description="The port of sshd.")
    user: str = Field(description="The user on the cluster.", min_length=1)
    key_file: Path | None = Field(
        None, description="The private key; without one the SSH agent is asked."
    )
    known_hosts: Path = Field(
        Path("~/.ssh/known_hosts"), description="The file with the head nodes' keys."
    )
    timeout_s: float = Field(
        15,
        ge=2,
        le=20,
        description="Seconds within which a command on the head node must be done.",
    )
    partition: str | None = Field(None, description="The partition; settings may name another.")
    nodes: int | None = Field(None, ge=1, description="`--nodes` of sbatch.")
    cpus: int | None = Field(None, ge=1, description="`--cpus-per-task`; settings may say more.")
    mem: str | None = Field(None, description="`--mem`, like 64G; settings may say more.")
    time: str | None = Field(None, description="`--time`, like 02:00:00; settings may say more.")
    directives: list[str] = Field(
        default_factory=list, description="Further options of sbatch, like `--account=proteomics`."
    )
    setup: str = Field(
        "", description="Shell lines at the start of every job, like `module load anaconda`."
    )
    job_script: str | None = Field(
        None,
        description="A job script of the site's own on the cluster, as for AlphaKraken; it finds "
        "the same variables.",
    )

    @property
    def hosts(self) -> list[str]:
        return [self.host] if isinstance(self.host, str) else self.host

    @property
    def resources(self) -> Resources:
        return Resources(
            partition=self.partition,
            nodes=self.nodes,
            cpus=self.cpus,
            mem=self.mem,
            time=self.time,
            directives=tuple(self.directives),
        )


def _type_of(value: object) -> object:
    given = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return ENGINE_LOCAL if given is None else given


Engine = Annotated[
    Annotated[LocalEngine, Tag("local")] | Annotated[SlurmEngine, Tag("slurm")],
    Discriminator(_type_of),
]
