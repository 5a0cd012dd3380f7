"""What is nobody's but Kraken's, and what others shall read although its processes write it.

Kraken's processes leave others no rights to what they write: to its home, with MongoDB's data,
Dagster's storage and the logs. What stands in stores and on instruments' disks, where jobs and
people read it, gets the rights that the site's own umask gives.
"""

import grp
import os
import stat
from contextlib import suppress
from pathlib import Path

from kraken_dagster.fs.processes.job_keeper import SITE_UMASK
from kraken_dagster.model.errors import ConfigError

PRIVATE_UMASK = 0o077
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def be_private() -> None:
    """At the start of a process: what it and its children write is Kraken's alone.

    The umask of before goes on to the children by the environment.
    """
    before = os.umask(PRIVATE_UMASK)
    os.environ.setdefault(SITE_UMASK, f"{before:03o}")


def site_umask() -> int:
    """That with which Kraken was started."""
    with suppress(KeyError, ValueError):
        return int(os.environ[SITE_UMASK], 8) & 0o777
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def share(handle: int, *, is_folder: bool, group: int | None = None) -> None:
    """Gives others the rights to a new file or folder that the site's umask gives.

    With a group it is that group's to read, and no others'. Not an error where a store keeps no
    modes.
    """
    mode = (0o777 if is_folder else 0o666) & ~site_umask()
    if group is not None:
        mode = (mode | (0o050 if is_folder else 0o040)) & ~stat.S_IRWXO
        with suppress(OSError):  # not ours to give: `kraken doctor` says so
            os.fchown(handle, -1, group)
    with suppress(OSError):
        os.fchmod(handle, mode)


def make_folders(folder: Path, group: int | None = None) -> None:
    """The folder and its parents, those that are new with the rights of `share`.

    Raises:
        OSError
    """
    try:
        folder.mkdir()
    except FileNotFoundError:
        make_folders(folder.parent, group)
        folder.mkdir(exist_ok=True)  # another may be as far
    except OSError:
        if not folder.is_dir():
            raise
        return
    share_folder(folder, group=group)


def share_folder(
    folder: str | Path, *, group: int | None = None, inside: int | None = None
) -> None:
    """`share` of a folder that was made a moment before; not of one that a link leads to."""
    with suppress(OSError):
        handle = os.open(folder, _NO_LINK | os.O_DIRECTORY, dir_fd=inside)
        try:
            share(handle, is_folder=True, group=group)
        finally:
            os.close(handle)


def group_id(name: str) -> int:
    """
    Raises:
        ConfigError: this machine has no such group.
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(
            "locations.backup.group is no group of this machine",
            expected="the name of a group that `getent group` lists",
            found=repr(name),
            next_step="make the group, or correct the name in instruments.yaml.",
        ) from None


def make_private(folder: Path) -> None:
    """Takes all rights of others from a folder and all that is in it; a link is left alone.

    The folder itself comes last: one that is private was done to its end, and is not walked again.
    """
    if is_private(folder):
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            _close(Path(parent, name))
    _close(folder)


def _close(path: Path) -> None:
    with suppress(OSError):  # another user's, or gone meanwhile
        handle = os.open(path, _NO_LINK)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if mode & _OTHERS:
                os.fchmod(handle, mode & ~_OTHERS)
        finally:
            os.close(handle)


def is_private(folder: Path) -> bool:
    """Whether others have no rights to it; so too where there is nothing."""
    try:
        return not folder.stat().st_mode & _OTHERS
    except OSError:
        return True
