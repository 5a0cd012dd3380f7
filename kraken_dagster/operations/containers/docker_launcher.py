"""Runs in containers of their own, by Dagster's DockerRunLauncher: what a worker says of them.

The daemon starts such a container on its own host; the worker's container context says which image,
which folders and which variables it gets, so that a run sees its own instrument only.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_SITE = "${KRAKEN_SITE_PATH:?the absolute path of the folder of instruments.yaml, in .env}"
_PROJECT = "${KRAKEN_PROJECT:-kraken}"
_IMAGE = "${KRAKEN_IMAGE:-kraken:1}"
# From the environment of the daemon, which starts the container.
_FROM_THE_DAEMON = ("KRAKEN_DAGSTER_POSTGRES", "KRAKEN_MONGODB_URI", "TZ")
_REQUIRED = re.compile(r"\$\{([A-Za-z_]\w*)\}")


def environment(
    own: Mapping[str, str], name: str, folders: Iterable[Path], text: str
) -> dict[str, str]:
    """What a worker's environment has more: its image and its container context.

    Args:
        own: the worker's environment, of which the names of Kraken's go to the run.
        name: the code location.
        folders: what is bound, as in the worker.
        text: of instruments.yaml; variables without a default in it are the run's too.
    """
    named = {key: own[key] for key in ("KRAKEN_LOCATION", "KRAKEN_INSTRUMENTS")}
    wanted = sorted({*_FROM_THE_DAEMON, *_REQUIRED.findall(text)})
    context = {
        "docker": {
            "env_vars": [*(f"{key}={value}" for key, value in named.items()), *wanted],
            "container_kwargs": {"mounts": [*_of_the_site(name), *map(_bind, folders)]},
        }
    }
    # `dagster api grpc` reads its options there.
    return {
        "DAGSTER_CONTAINER_IMAGE": _IMAGE,
        "DAGSTER_CONTAINER_CONTEXT": json.dumps(context),
    }


def _of_the_site(name: str) -> list[dict[str, Any]]:
    return [
        _mount("bind", _SITE, "/etc/kraken", read_only=True),
        _mount("volume", f"{_PROJECT}_logs", "/var/lib/kraken/logs"),
        _mount("volume", f"{_PROJECT}_home_{name}", "/var/lib/kraken/home"),
    ]


def _bind(folder: Path) -> dict[str, Any]:
    """As in the worker: a folder is never made, and mounts below it come and go."""
    path = str(folder).replace("$", "$$")  # which begins a variable in compose's files
    return {**_mount("bind", path, path), "BindOptions": {"Propagation": "rslave"}}


def _mount(kind: str, source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": kind, "Source": source, "Target": target, "ReadOnly": read_only}
