"""Whether jobs could alter the backup, by the user that they run as.

It decides nothing: each job finds out for itself, on the machine that runs it. See
docs/guarantees.md.
"""

import os
from collections.abc import Iterator

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.slurm import Slurm
from kraken_dagster.operations.doctor.finding import Finding

_WORKING_FOLDER = (
    "each gets a working folder in $TMPDIR with copies of databases and links to all else, and the "
    "backup is looked after when it has ended"
)
_ROOT = (
    "they run as root, who may write to anything: each works on copies in $TMPDIR, as far as "
    "there is room, and the backup is looked after when it has ended. Let another user run them"
)
# Prints the user's number, and each path that the user can write to or owns.
_LOOK = 'id -u; for path do if test -w "$path" || test -O "$path"; then echo "$path"; fi; done'


def jobs_here() -> str:
    """Jobs of this machine run as Kraken's own user, who owns the backup."""
    if os.geteuid() == 0:
        return f"jobs on this machine: {_ROOT}"
    reported = "jobs on this machine run as the user who makes the backup and could alter it"
    return f"{reported}: {_WORKING_FOLDER}"


def jobs_there(config: KrakenConfig, name: str, engine: Slurm) -> Iterator[Finding]:
    """What the cluster's user can do to the backup, as its head node sees it.

    Raises:
        ClusterError
    """
    root = config.locations.backup.cluster_path
    paths = [root, *(f"{root}/{instrument_id}" for instrument_id in config.instruments)]
    answer = engine.run(["sh", "-c", _LOOK, "kraken", *paths])
    user, *could = answer.stdout.splitlines() or [""]
    what = f"engine {name}"
    if user == "0":
        yield Finding("warning", what, f"its jobs: {_ROOT}")
    elif could:
        reported = f"its user can write to the backup, {could[0]!r} say: {_WORKING_FOLDER}"
        yield Finding(
            "ok", what, f"{reported}. Mounted read-only on the nodes, it needs none of that"
        )
    elif user.isdecimal():
        yield Finding("ok", what, "its user can't write to the backup, so jobs work on it directly")
