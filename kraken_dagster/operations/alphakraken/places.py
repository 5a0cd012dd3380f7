"""Where AlphaKraken's folders are, here and on the cluster; both forms of its file.

Until 0.10 a section `locations` has both; later `mounts` has what is mounted and each of `runners`
has a `view`, while the folder of all mounts stands in the environment file.
"""

from pathlib import PurePosixPath
from typing import Any

from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.alphakraken.notes import Notes, Section

_PLACES = ("backup", "output", "settings", "software")
_NOT_MOUNTED = ("settings", "software")
MOUNTS_VARIABLE = "MOUNTS_PATH"


def mounts_folder(named: str | None, places: Section, environment: dict[str, str]) -> PurePosixPath:
    """The folder of all mounts on this machine.

    Args:
        named: on the command line, which counts before the environment file, and that before
            `locations.general` of the older form.

    Raises:
        ConfigError: nothing says an absolute one.
    """
    general = places.below("general")
    there = general.text("mounts_path")
    folder = named or environment.get(MOUNTS_VARIABLE) or there
    if folder is None or not PurePosixPath(folder).is_absolute() or "${" in folder:
        raise ConfigError(
            "Nothing says where the mounts are on this machine",
            expected="an absolute path",
            found=repr(folder) if folder else None,
            next_step="name AlphaKraken's environment file by --env, or the folder by --mounts.",
        )
    if there is not None:
        other = f"; {folder} was named, and counts" if there != folder else ""
        general.take("mounts_path", f"the folder of all `locations`{other}")
    general.end()
    return PurePosixPath(folder)


def locations(
    file: Section, places: Section, mounts: PurePosixPath, view: dict[str, str]
) -> dict[str, Any]:
    """`locations` of instruments.yaml.

    Args:
        view: the paths on the cluster that a runner names, which count before those of `places`.
    """
    mounted = file.below("mounts")
    found: dict[str, Any] = {"instruments": str(mounts / "instruments")}
    for name in _PLACES:
        target, cluster = name, view.get(name)
        if name in places:
            target, cluster = _of_location(places.below(name), mounts, cluster)
        if name in mounted:
            _of_mount(mounted.below(name), mounts / name)
        path = str(mounts / target)
        found[name] = {"path": path, "cluster": cluster} if cluster and cluster != path else path
        if name in _NOT_MOUNTED:
            file.notes.to_do.append(
                f"mount {cluster or f'the {name}'} at {path}, read-only: AlphaKraken sees it on "
                "the cluster only, Kraken reads it here too."
            )
    for section in (places, mounted):
        for name in ("logs", "airflow_logs"):
            section.leave(name, "Airflow's logs: Dagster keeps its own")
        section.end()
    display = file.below("display_paths")
    for name in display:
        display.leave(name, "paths for people: Kraken shows those of `locations`")
    return found


def inside(target: str) -> bool:
    """Whether a path is one below the folder of mounts."""
    path = PurePosixPath(target)
    return not path.is_absolute() and ".." not in path.parts and path.parts != ()


def tell_of_mount(source: str | None, user: str | None, path: PurePosixPath, notes: Notes) -> None:
    """What a person mounts, or has mounted already for AlphaKraken."""
    if source is not None:
        who = f" as the user {user!r}" if user else ""
        notes.to_do.append(f"keep {source} mounted at {path}{who} (/etc/fstab).")


def _of_location(
    section: Section, mounts: PurePosixPath, cluster: str | None
) -> tuple[str, str | None]:
    """The path below the folder of mounts, and that on the cluster."""
    name = section.name.rpartition(".")[2]
    target = section.text("mount_target") or name
    if not inside(target):
        section.refuse("mount_target", f"expected a folder below {mounts}, found {target!r}")
        target = name
    absolute = section.text("absolute_path")
    cluster = cluster or absolute
    if absolute is not None:
        section.take("absolute_path", f"locations.{name}.cluster: {cluster}")
    source, user = section.text("mount_src"), section.text("username")
    tell_of_mount(source, user, mounts / target, section.notes)
    if source is not None:
        section.change("mount_src", f"mounting is the host's: `locations.{name}.path`")
    section.leave("password", "secrets are no part of instruments.yaml")
    section.end()
    return target, cluster


def _of_mount(section: Section, path: PurePosixPath) -> None:
    source, user = section.text("mount_src"), section.text("username")
    tell_of_mount(source, user, path, section.notes)
    section.change("mount_src", f"mounting is the host's: {path}")
    section.leave("mount_target", f"the place is {path}")
    section.leave("password", "secrets are no part of instruments.yaml")
    section.end()
