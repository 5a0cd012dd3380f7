"""`kraken compose`: Docker's services of the instruments, from instruments.yaml.

Containers see disks under the paths that they have on the host. What is bound is the folder above a
mount point, so that a disk that is mounted later, or again, is seen at once; a folder that is not
there is never made up.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kraken_dagster.config.code_locations import CodeLocation, locations_of
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.containers import docker_launcher

WORKERS, WORKSPACE = "compose.workers.yaml", "workspace.docker.yaml"
_MARK = "# Written by `kraken compose` from instruments.yaml; it is written anew the next time.\n"
_PORT = 4000
_SITE = "/etc/kraken"
_HEALTH = ["CMD", "python", "/opt/kraken/health.py", "grpc", f"127.0.0.1:{_PORT}"]
_POSTGRES = (
    "postgresql+psycopg2://dagster:${POSTGRES_PASSWORD:?set it in .env}"
    "@${POSTGRES_HOST:-postgres}/dagster"
)
_MONGODB = (
    "${KRAKEN_MONGODB_URI:-mongodb://kraken:${MONGODB_PASSWORD:?set it in .env}"
    "@mongodb/krakendb?authSource=admin}"
)
_LOGGING = {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}}
_COMMAND = (
    # Not `code-server start`: its own child ends when it was not heard of for a while, and
    # nobody starts it again, or notices. With a wrong configuration it tells Dagit so.
    *("dagster", "api", "grpc", "--lazy-load-user-code"),
    *("-m", "kraken_dagster.definitions"),
    *("-h", "0.0.0.0", "-p", str(_PORT)),  # noqa: S104 - in the container; see `ports`
)
_HEALTH_CHECK = {
    "test": list(_HEALTH),
    "interval": "30s",
    "timeout": "20s",
    "retries": 3,
    "start_period": "180s",
}


@dataclass(frozen=True)
class Written:
    """What differs from the files that were there; `wrote` are those that have changed."""

    wrote: tuple[Path, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """Whether Dagster's daemon and Dagit have to load their workspace anew."""
        return any(path.name == WORKSPACE for path in self.wrote)


def write(
    config: KrakenConfig,
    config_path: Path,
    *,
    host: str | None,
    dry_run: bool,
    launches: bool = False,
) -> Written:
    """Writes a host's services, and where the daemon is the workspace, beside instruments.yaml.

    Args:
        host: one of the addresses in `code_locations`; None is the host of the daemon.
        launches: Dagster's DockerRunLauncher starts the runs, in containers of their own.

    Raises:
        ConfigError: a path can't be bound, no code location is on that host, or a file of that name
            is somebody else's. Nothing is written then.
    """
    folder, whole = config_path.parent, config.whole
    locations = locations_of(whole.code_locations, whole.instruments)
    here = _on_host(locations, host, config_path)
    files = {WORKERS: _workers(whole, config_path, here)}
    if launches:
        _require_one_host(locations, config_path)
        _give_contexts(files[WORKERS]["services"], whole, config_path, here)
    if host is None:
        files[WORKSPACE] = workspace(locations)
    before = {name: _known(folder / name) for name in files}
    wrote = tuple(folder / name for name in files if files[name] != before[name])
    if not dry_run:
        for path in wrote:
            _replace(path, _MARK + yaml.safe_dump(files[path.name], sort_keys=False, width=200))
    return _compared(wrote, before[WORKERS], files[WORKERS])


def _on_host(
    locations: Mapping[str, CodeLocation], host: str | None, config_path: Path
) -> dict[str, CodeLocation]:
    here = {name: item for name, item in locations.items() if item.host == host}
    if host is not None and not here:
        raise ConfigError(
            "No code location is on this host",
            file=config_path,
            expected=f"one of {sorted({it.host for it in locations.values() if it.host})}",
            found=host,
            next_step="add it to `code_locations`, or name another with --host.",
        )
    return here


def _compared(wrote: tuple[Path, ...], before: dict[str, Any], after: dict[str, Any]) -> Written:
    old, new = (item.get("services") or {} for item in (before, after))
    return Written(
        wrote,
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in new.keys() & old.keys() if new[name] != old[name])),
    )


def _give_contexts(
    services: Mapping[str, Any],
    config: KrakenConfig,
    config_path: Path,
    here: Mapping[str, CodeLocation],
) -> None:
    """Into the workers' environments: what runs in containers of their own are given."""
    text = config_path.read_text(encoding="utf-8")
    for name, service in services.items():
        folders = _above(_mount_points(config, config_path, here[name]))
        own = service["environment"]
        own |= docker_launcher.environment(own, name, folders, text)


def _require_one_host(locations: Mapping[str, CodeLocation], config_path: Path) -> None:
    """
    Raises:
        ConfigError: a code location is elsewhere, where the daemon can start no container.
    """
    if elsewhere := sorted(name for name, item in locations.items() if item.host is not None):
        raise ConfigError(
            "The daemon starts containers on its own host only",
            file=config_path,
            found=f"code locations on other hosts: {', '.join(elsewhere)}",
            next_step="leave --docker-launcher out: runs are then processes of their workers.",
        )


def workspace(locations: Mapping[str, CodeLocation]) -> dict[str, Any]:
    """The code locations that the daemon and Dagit load."""
    servers = [
        {
            "host": item.host or name,
            "port": item.port if item.host else _PORT,
            "location_name": name,
        }
        for name, item in locations.items()
    ]
    return {"load_from": [{"grpc_server": item} for item in servers]}


def _workers(
    config: KrakenConfig, config_path: Path, here: Mapping[str, CodeLocation]
) -> dict[str, Any]:
    services = {name: _service(config, config_path, name, item) for name, item in here.items()}
    return {"services": services, "volumes": {f"home_{name}": {} for name in here}}


def _service(
    config: KrakenConfig, config_path: Path, name: str, location: CodeLocation
) -> dict[str, Any]:
    service: dict[str, Any] = {
        "image": "${KRAKEN_IMAGE:-kraken:1}",
        "profiles": ["instruments"],
        "restart": "unless-stopped",
        "init": True,
        "stop_grace_period": "60s",
        "logging": deepcopy(_LOGGING),  # YAML names what stands twice
        "networks": ["kraken"],
        "command": list(_COMMAND),
        "environment": {
            "KRAKEN_LOCATION": name,
            "KRAKEN_INSTRUMENTS": ",".join(location.instruments),
            "KRAKEN_DAGSTER_POSTGRES": _POSTGRES,
            "KRAKEN_MONGODB_URI": _MONGODB,
            "TZ": "${TZ:-UTC}",
        },
        # Passwords and other values that instruments.yaml takes from the environment.
        "env_file": [{"path": "${KRAKEN_SITE:-.}/kraken.env", "required": False}],
        "healthcheck": deepcopy(_HEALTH_CHECK),
        "volumes": [
            f"${{KRAKEN_SITE:-.}}:{_SITE}:ro",
            "logs:/var/lib/kraken/logs",
            f"home_{name}:/var/lib/kraken/home",
            *(_bind(folder) for folder in _above(_mount_points(config, config_path, location))),
        ],
    }
    if location.host is not None:
        service["ports"] = [f"{location.host}:{location.port}:{_PORT}"]
    return service


def _bind(folder: Path) -> dict[str, Any]:
    """`$` begins a variable in these files."""
    path = str(folder).replace("$", "$$")
    options = {"create_host_path": False, "propagation": "rslave"}
    return {"type": "bind", "source": path, "target": path, "bind": options}


def _mount_points(
    config: KrakenConfig, config_path: Path, location: CodeLocation
) -> dict[str, Path]:
    """By what they are called in instruments.yaml.

    Raises:
        ConfigError: a path is none of the host's, or there is no folder above it to be bound.
    """
    found = {f"locations.{name}": it.path for name, it in config.locations if it is not None}
    del found["locations.instruments"]
    for item in location.instruments:
        path = config.instrument(item).path
        assert path is not None  # `KrakenConfig.instrument` sets it
        found[f"instruments.{item}"] = path
    for key, path in found.items():
        if path.is_relative_to(config_path.parent) or len(path.parts) < 3:
            raise ConfigError(
                f"{key} can't be given to a container",
                file=path,
                expected="an absolute path outside the folder of instruments.yaml, two folders or "
                "more below `/`",
                next_step="mount it at a path like /srv/kraken/backup: the folder above the mount "
                "point is given to the container, so that it sees the disk come and go.",
            )
    return found


def _above(mount_points: Mapping[str, Path]) -> list[Path]:
    """The folders above them, without those that another one holds."""
    parents = {path.parent for path in mount_points.values()}
    return sorted(path for path in parents if not parents & set(path.parents))


def _known(path: Path) -> dict[str, Any]:
    """
    Raises:
        ConfigError: it is not one that `kraken compose` has written.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    if not text.startswith(_MARK):
        raise ConfigError(
            "A file of that name is there, and `kraken compose` has not written it",
            file=path,
            next_step="move it away; what a site adds goes into a file of its own, which "
            "COMPOSE_FILE names after this one.",
        )
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError:  # somebody has edited it; it is written anew
        return {}


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(
            "The folder of instruments.yaml can't be written to",
            file=path,
            found=error.strerror,
            next_step="run it as the user who owns the folder: `docker compose run --rm "
            "--user $(id -u) kraken compose`.",
        ) from error


def in_words(written: Written) -> Iterable[str]:
    """What has changed, and what to do about it."""
    for verb, names in (
        ("added", written.added),
        ("removed", written.removed),
        ("changed", written.changed),
    ):
        if names:
            yield f"{verb}: {', '.join(names)}"
    if not written.wrote:
        yield "nothing has changed"
        return
    yield "Next: docker compose up -d --remove-orphans"
    if written.moved:
        yield "and, as the code locations have changed: docker compose restart daemon dagit"
