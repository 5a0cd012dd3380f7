"""What `kraken doctor` says of rights: who else may read Kraken's home, and who reads backups."""

import os
from collections.abc import Iterator
from pathlib import Path

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.private import group_id, is_private
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.doctor.finding import Finding
from kraken_dagster.runtime.homes import private_parts


def examine_rights(config: KrakenConfig, config_path: Path) -> Iterator[Finding]:
    """Kraken's home, and the group of the backup where there is one."""
    parts = [path for path in private_parts(config, config_path) if not is_private(path)]
    if parts:
        reported = f"other users may enter or read {', '.join(map(repr, map(str, parts)))}"
        mend = "`kraken up` takes that right away when it starts, as the user whose they are"
        yield Finding("warning", "home", f"{reported}; {mend}")
    else:
        yield Finding("ok", "home", f"{config.home}: nothing of Kraken's is open to other users")
    if (name := config.locations.backup.group) is not None:
        yield _group(name)


def _group(name: str) -> Finding:
    what = "backup group"
    try:
        group = group_id(name)
    except ConfigError as error:
        return Finding("error", what, str(error))
    if os.geteuid() != 0 and group not in {os.getegid(), *os.getgroups()}:
        reported = f"Kraken's user is not in the group {name!r}, and can give it no file"
        return Finding("error", what, f"{reported}; add it to the group, and start Kraken anew")
    return Finding("ok", what, f"backups are made the group {name!r}'s to read, and nobody else's")
