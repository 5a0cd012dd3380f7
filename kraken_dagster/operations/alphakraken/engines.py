"""What runs AlphaKraken's jobs: a cluster by SSH; its other engines have no counterpart here."""

import re
from dataclasses import dataclass, field
from typing import Any

from kraken_dagster.operations.alphakraken.notes import Section

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SCRIPT, _LATER_SCRIPT = "submit_job.sh", "submit_slurm_job.sh"
_SLOTS = 30  # what AlphaKraken's documents advise for the pool `cluster_slots_pool`
_UNKNOWN_HOST, _UNKNOWN_USER = "set-me.invalid", "set-me"


@dataclass(frozen=True)
class Cluster:
    """What stands in no file of AlphaKraken's, but in Airflow's connections and pools."""

    hosts: tuple[str, ...] = ()
    user: str | None = None
    slots: int | None = None


@dataclass
class Engines:
    """`engines` of instruments.yaml, which of them is the default, and the cluster's paths."""

    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    default: str | None = None
    view: dict[str, str] = field(default_factory=dict)


def engines(file: Section, places: Section, general: Section, cluster: Cluster) -> Engines:
    """All of AlphaKraken's engines that are clusters."""
    found = Engines()
    if "runners" in file:
        for runner in file.entries("runners"):
            _of_runner(runner, found, cluster)
        general.leave("job_engine", "the later `runners` counts")
    else:
        _of_job_engine(places, general.below("job_engine"), found, cluster)
    found.default = next(iter(found.engines), None)
    if found.default is not None:
        _to_do(found, file.notes.to_do, cluster)
    return found


def _of_job_engine(places: Section, section: Section, found: Engines, cluster: Cluster) -> None:
    given = section.text("type")
    kind = given or "slurm"
    section.end()
    if kind != "slurm":
        section.refuse("type", f"{kind!r} is no engine of Kraken's: jobs run on this machine")
        return
    if given:
        section.take("type", "engines.slurm")
    slurm = places.below("slurm")
    folder, script = slurm.text("absolute_path"), None
    slurm.end()
    if folder is not None:
        script = f"{folder.rstrip('/')}/{_SCRIPT}"
        slurm.take("absolute_path", f"engines.slurm.job_script: {script}")
    found.engines["slurm"] = _engine(cluster, script)


def _of_runner(section: Section, found: Engines, cluster: Cluster) -> None:
    name, kind, system = section.text("name"), section.text("engine"), section.text("os")
    view = section.below("view")
    paths = {key: path for key in view if (path := view.text(key)) is not None}
    section.leave("ssh_connection_id_prefix", "Airflow's connections: `host` and `user` here")
    section.end()
    if kind != "slurm" or system not in (None, "linux"):
        what = f"{kind!r} on {system!r}" if kind == "slurm" else repr(kind)
        section.refuse("engine", f"{what} is no engine of Kraken's; settings that name it must "
                       "name another")  # fmt: skip
        return
    if name is None or _NAME.fullmatch(name) is None or name in found.engines:
        section.refuse("name", f"expected a name of its own, of letters, digits, _ and -: {name!r}")
        return
    if found.engines and paths != found.view:
        section.refuse("view", "all engines see the same paths here; those of the first count")
    found.view = found.view or paths
    section.take("view", "`cluster` of `locations`")
    folder = paths.get("slurm") or paths.get("software")
    script = _SCRIPT if "slurm" in paths else _LATER_SCRIPT
    section.take("name", f"engines.{name}")
    found.engines[name] = _engine(cluster, f"{folder.rstrip('/')}/{script}" if folder else None)


def _engine(cluster: Cluster, script: str | None) -> dict[str, Any]:
    hosts = list(cluster.hosts)
    engine: dict[str, Any] = {
        "type": "slurm",
        "host": (hosts if len(hosts) > 1 else hosts[0]) if hosts else _UNKNOWN_HOST,
        "user": cluster.user or _UNKNOWN_USER,
        "slots": cluster.slots or _SLOTS,
    }
    if script is not None:
        engine["job_script"] = script
    return engine


def _to_do(found: Engines, lines: list[str], cluster: Cluster) -> None:
    if not cluster.hosts or cluster.user is None:
        lines.append(
            "set `host` and `user` of the engine: they stand in Airflow's connections "
            "`cluster_ssh_connection...` (Admin, Connections), the password nowhere here."
        )
    if any("job_script" in engine for engine in found.engines.values()):
        lines.append(
            "look whether the `job_script` is your site's own; without one Kraken sends its own, "
            "which needs no copy on the cluster (docs/cluster.md)."
        )
    lines.append("give that user a key: `key_file`, or an SSH agent (docs/cluster.md).")
    if cluster.slots is None:
        lines.append(
            f"compare `slots: {_SLOTS}`, which AlphaKraken advises, with Airflow's pool "
            "`cluster_slots_pool`."
        )
