"""Takes the right to write from what is proven, and gives it back where a copy has to go on.

Who reads a backup can then alter it neither by mistake nor because its software writes into what it
opens: no file in it opens for writing, and no folder takes or loses an entry. Its owner and root
still can. A store that keeps no modes (CIFS, exFAT) refuses the change or forgets it: that is no
part of the proof, and fails nothing.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kraken_dagster.model.files.vendors import safe_relative

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take_writing(handle: int, group: int | None = None) -> bool:
    """Whether nobody has the right to write to an open file or folder any more.

    Who may read it stays as it is, as the site's umask has decided that, unless there is a group:
    then it is the group's to read, and no others'.
    """
    with suppress(OSError):  # somebody else's, or a store that keeps no modes
        facts = os.fstat(handle)
        wanted = stat.S_IMODE(facts.st_mode) & ~_WRITE
        if group is not None:
            with suppress(OSError):  # not ours to give: `kraken doctor` says so
                os.fchown(handle, -1, group)
            enter = stat.S_IXGRP if stat.S_ISDIR(facts.st_mode) else 0
            wanted = (wanted | stat.S_IRGRP | enter) & ~stat.S_IRWXO
        if wanted != stat.S_IMODE(facts.st_mode):
            os.fchmod(handle, wanted)
        return not os.fstat(handle).st_mode & _WRITE
    return False


def protect(paths: Iterable[Path], group: int | None = None) -> None:
    """Takes the right to write from files and folders; a link is left alone, as is what is gone."""
    for path in paths:
        with suppress(OSError):
            handle = os.open(path, _NO_LINK)
            try:
                take_writing(handle, group)
            finally:
                os.close(handle)


def folders_of(top: Path, members: Iterable[Path]) -> list[Path]:
    """The folders that lead from `top` to its members, the deepest first, `top` itself last."""
    found = {top}
    for member in members:
        parent = member.parent
        while parent not in found and parent.is_relative_to(top):
            found.add(parent)
            parent = parent.parent
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def lift(top: Path) -> list[Path]:
    """Gives the owner the right to change the entries of a folder and of all folders in it.

    Returns those that lacked it, for `protect`.
    """
    lifted = [top] if _lift(top) else []
    for parent, folders, _ in os.walk(top):
        lifted += [path for path in (Path(parent, name) for name in folders) if _lift(path)]
    return lifted


def _lift(folder: Path) -> bool:
    with suppress(OSError):
        handle = os.open(folder, _NO_LINK | os.O_DIRECTORY)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if not mode & stat.S_IWUSR:
                os.fchmod(handle, mode | stat.S_IWUSR)
                return True
        finally:
            os.close(handle)
    return False


def protect_backup(folder: Path, names: Iterable[str], top: str | None, group: int | None) -> None:
    """Takes the right to write from what is recorded of a backup in `folder`, from nothing else.

    `top` is the raw file's own folder there, None where it is none.
    """
    members = [folder / safe_relative(name) for name in names]
    protect(members, group)
    if top is not None:
        protect(folders_of(folder / top, members), group)
