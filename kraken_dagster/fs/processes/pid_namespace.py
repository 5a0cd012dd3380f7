"""Where process numbers mean the same: one boot of a machine, or one life of a container."""

import os
from contextlib import suppress
from pathlib import Path

from kraken_dagster.fs.processes.job_keeper import facts_of

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> str:
    """A name that no other has, before or after: the kernel's boot, the namespace, and when its
    first process began, as a namespace's number is given anew.

    What can't be read is left out: where nobody may see the first process it is the same for all.
    """
    parts = []
    with suppress(OSError):
        parts.append(_BOOT_ID.read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    first = facts_of(1)
    return " ".join([*parts, "-" if first is None else str(first.start)])
