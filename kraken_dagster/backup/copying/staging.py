"""Where members are written to: at their places, or for a folder that is new in a staging folder
beside it, which gets the final name once it is whole and on the disk.
"""

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path

from kraken_dagster.backup.copying.plan import CopyPlan
from kraken_dagster.fs.attributes import flush_folder
from kraken_dagster.fs.copying.part_files import PART_PREFIX, conflict, remove_leftovers
from kraken_dagster.fs.digests import entries_below, exists, is_empty, target_errors
from kraken_dagster.fs.stores.read_only import folders_of, lift, protect
from kraken_dagster.model.errors import BackupUnwritable
from kraken_dagster.model.files.names import strangers


class Places:
    """The members' places below `top`: the staging folder, or where there is none the raw file's
    own name.

    All methods may hang with the store.
    """

    def __init__(self, plan: CopyPlan) -> None:
        self.plan = plan
        self.final_top = plan.target_folder / plan.target_top
        staged = plan.is_folder and not stands(self.final_top)
        self.staging = staging_folder(self.final_top) if staged else None
        self._leftovers = False

    def of(self, target: str) -> Path:
        if self.staging is None:
            return self.plan.target_folder / target
        return self.staging / Path(target).relative_to(self.plan.target_top)

    def lifted(self, missing: Sequence[tuple[str, str]]) -> list[Path]:
        """Members can be added to a folder that stands, and what dead copies left be removed.

        Returns the folders that are to be protected again.
        """
        if not self.plan.is_folder or not (missing or self.staging is not None or self._leftovers):
            return []
        found = lift(self.staging or self.final_top)
        return found if self.staging is None else []

    def protect(self, top: Path) -> None:
        """`top` is the raw file's folder, or where there is none its main file."""
        members = self._members()
        protect(members, self.plan.group)
        if self.plan.is_folder:
            protect(folders_of(top, members), self.plan.group)

    def _members(self) -> list[Path]:
        return [self.of(target) for target in self.plan.members.values()]

    def strangers(self, top: Path) -> list[str]:
        """What is in a folder besides the members, whatever spelling the store has for those."""
        listed = []
        with target_errors(top):
            for path, facts in entries_below(top):
                left = _is_left(path.relative_to(top))
                self._leftovers |= left
                if not left and not stat.S_ISDIR(facts.st_mode):
                    listed.append(path.relative_to(top).as_posix())
        prefix = f"{self.plan.target_top}/"
        expected = (target.removeprefix(prefix) for target in self.plan.members.values())
        return strangers(expected, listed)

    def clear(self) -> None:
        """Leaves nothing in the staging folder but the members, and all of them."""
        assert self.staging is not None
        with target_errors(self.staging):
            self._clear(self.staging)
            self._refuse_incomplete()

    def _refuse_incomplete(self) -> None:
        missing = [path for path in self._members() if not exists(path)]
        if missing:
            raise BackupUnwritable(
                "What was copied a moment ago is not there",
                file=self.final_top,
                found=f"no {missing[:5]}",
                next_step="find out who removes files from the backup; copied again by itself.",
            )

    def _clear(self, staging: Path) -> None:
        others = {staging / name for name in self.strangers(staging)}
        for path, facts in reversed([*entries_below(staging)]):
            if stat.S_ISDIR(facts.st_mode):
                if is_empty(path):
                    path.rmdir()
            elif path in others or _is_left(path.relative_to(staging)):
                path.unlink()  # left by a copy that died, of a member that is gone

    def publish(self) -> None:
        """Gives the staging folder its final name."""
        assert self.staging is not None
        with target_errors(self.final_top):
            for folder in folders_of(self.staging, self._members()):
                flush_folder(folder)
            if exists(self.final_top):
                raise conflict(self.final_top, "nothing", "something that came to stand there")
            if self.plan.read_only:  # before it has its name; it stays in its parent
                self.protect(self.staging)
            self.staging.rename(self.final_top)
            flush_folder(self.final_top.parent)


def stands(path: Path) -> bool:
    with target_errors(path):
        return exists(path)


def _is_left(path: Path) -> bool:
    """Whether it is a dead copy's."""
    return any(part.startswith(PART_PREFIX) for part in path.parts)


def staging_folder(final_top: Path) -> Path:
    mark = hashlib.sha256(final_top.name.encode()).hexdigest()[:16]
    return final_top.with_name(f"{PART_PREFIX}{mark}-folder")


def remove_dead_copy(final_top: Path) -> None:
    """Removes all that dead copies left beside a place in the backup; only for who holds the file's
    lease, and where there is nothing (more) to copy.

    Raises:
        OSError
    """
    remove_leftovers(final_top)
    staging = staging_folder(final_top)
    if staging.is_symlink() or not staging.is_dir():
        return
    lift(staging)
    for path, facts in reversed([*entries_below(staging)]):
        if stat.S_ISDIR(facts.st_mode):
            path.rmdir()
        else:
            path.unlink()
    staging.rmdir()
