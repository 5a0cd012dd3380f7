"""Where the code server of `kraken up` listens, and the workspace that leads Dagster to it."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kraken_dagster.monitoring.loaded import CODE_SERVER

_MODULE = "kraken_dagster.definitions"
_KNOWN_KEYS = {"module_name", "location_name"}
_WORKSPACE, _SOCKET = "workspace.yaml", "socket"
# The path of a socket has 108 bytes on Linux, 104 elsewhere.
_LONGEST_PATH = 100
# Ticks, Dagit's questions and launches, each takes a thread for as long as it takes. With Dagster's
# own number (6 on two processors) a few slow folders would keep it from answering at all.
_WORKERS = "64"


@dataclass(frozen=True)
class CodeServerPlace:
    """`folder` is Kraken's own and closed to others; the socket stands in it, or in a private
    folder for temporary files where its path would be too long."""

    folder: Path
    socket: Path
    location_name: str

    @property
    def workspace(self) -> Path:
        return self.folder / _WORKSPACE

    def command(self) -> list[str]:
        return [
            # -P: what stands in the working directory is nobody's module
            *(sys.executable, "-P", "-m", "kraken_dagster.operations.code_server.serve"),
            *("--socket", str(self.socket), "--location-name", self.location_name),
        ]

    def environment(self) -> Mapping[str, str]:
        """What its process finds in its environment besides."""
        return {"DAGSTER_GRPC_MAX_WORKERS": _WORKERS, "DAGSTER_CODE_SERVER_MAX_WORKERS": _WORKERS}

    def answers(self) -> bool:
        """Whether it listens, which it does once the code is loaded, or has failed to be."""
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.settimeout(1)
            probe.connect(str(self.socket))
            return True
        return False

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.socket.parent != self.folder:
            shutil.rmtree(self.socket.parent, ignore_errors=True)


def folder_in(home: Path) -> Path:
    return home / CODE_SERVER


def prepare(home: Path, workspace: Path) -> CodeServerPlace | None:
    """Makes the folder with the workspace; None where the site's own names something else.

    Raises:
        OSError
    """
    folder = folder_in(home)
    shutil.rmtree(folder, ignore_errors=True)  # of a `kraken up` that was killed
    name = _location_of_ours(workspace)
    if name is None:
        return None
    folder.mkdir(mode=0o700, parents=True)
    path = folder / _SOCKET
    if len(os.fsencode(path)) > _LONGEST_PATH:
        path = Path(tempfile.mkdtemp(prefix="kraken-")) / _SOCKET
    place = CodeServerPlace(folder, path, name)
    entry = {"grpc_server": {"socket": str(path), "location_name": name}}
    place.workspace.write_text(yaml.safe_dump({"load_from": [entry]}), encoding="utf-8")
    return place


def socket_of(home: Path) -> Path | None:
    """Where the code server of the `kraken up` of this home listens; None if it has none."""
    try:
        text = (folder_in(home) / _WORKSPACE).read_text(encoding="utf-8")
        return Path(yaml.safe_load(text)["load_from"][0]["grpc_server"]["socket"])
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return None


def _location_of_ours(workspace: Path) -> str | None:
    """The name of the one code location, if it is ours as it comes with the package."""
    try:
        entries: Any = yaml.safe_load(workspace.read_text(encoding="utf-8"))["load_from"]
        [entry] = entries
        module = entry["python_module"]
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError):
        return None  # whoever loads it says what is wrong with it
    module = {"module_name": module} if isinstance(module, str) else module
    if not isinstance(module, dict) or len(entry) > 1 or set(module) - _KNOWN_KEYS:
        return None
    return module.get("location_name", _MODULE) if module.get("module_name") == _MODULE else None
