"""Moves a raw file aside on its instrument: renames into `Backup/`, or a refusal in words.

All of a raw file is looked at before anything is renamed. A run that dies between two renames
leaves some members here and some there; each is judged by itself, so the next run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kraken_dagster.fs.dir_handles import Folder, KernelRename, Tree, rename, renameat2, walk
from kraken_dagster.fs.instrument_folder import (
    instrument_errors,
    open_archive_folder,
    open_instrument,
    require_mounted,
)
from kraken_dagster.model.errors import LeaseLost, MoveRefused, NowhereFound
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.files.names import folded
from kraken_dagster.model.files.vendors import (
    BACKUP_FOLDER_NAME,
    RULES,
    members,
    move_mapping,
    target_name,
)
from kraken_dagster.retention.archiving.rename_checks import (
    AGAIN,
    COMPARE,
    Action,
    MovePlan,
    OnLook,
    Pair,
    another,
    incomplete,
    judge,
    refuse_other_content,
    stands,
)
from kraken_dagster.retention.instrument_disk import make_folder, rename_to_delete

_Judged = list[tuple[Pair, Action]]


@dataclass(frozen=True)
class MoveResult:
    """Names in the instrument's folder: renamed now, renamed earlier, and equal to what was moved
    earlier, with their new names."""

    moved: tuple[str, ...] = ()
    already: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)


def archive_members(
    plan: MovePlan,
    *,
    may_go_on: Callable[[], bool],
    on_bytes: Callable[[int], None] = lambda _: None,
    on_scan: OnLook = lambda *_: None,
    kernel: KernelRename = renameat2,
) -> MoveResult:
    """Renames the members of a raw file into `Backup/`, where each has its place under the id.

    `on_look` gets what is to be recorded of how the source looks, before anything is renamed.

    Raises:
        MoveRefused, BackupIncomplete, UnsafePath: nothing was renamed.
        FolderError: the instrument is away.
        InstrumentBusy: the instrument doesn't allow it (now).
        LeaseLost: `may_go_on` said no before a rename.
    """
    with open_instrument(plan.instrument_folder) as root:
        require_mounted(root)

        def judged(backup: Folder | None) -> _Judged:
            return _judged(plan, root, backup, on_bytes, on_scan)

        with instrument_errors(root.path / plan.original_name):
            if root.stat(BACKUP_FOLDER_NAME) is None:
                return _move_the_first(plan, root, judged, may_go_on, kernel)
            with open_archive_folder(root) as backup:
                return _act(root, backup, judged(backup), may_go_on, kernel)


def compare(
    plan: MovePlan,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
    on_scan: OnLook = lambda *_: None,
) -> None:
    """The same as `archive_members`, but that nothing is created or renamed.

    Raises: as `archive_members`.
    """
    with open_instrument(plan.instrument_folder) as root:
        require_mounted(root)
        with instrument_errors(root.path / plan.original_name):
            if root.stat(BACKUP_FOLDER_NAME) is None:
                _judged(plan, root, None, on_bytes, on_scan)
                return
            with open_archive_folder(root) as backup:
                _judged(plan, root, backup, on_bytes, on_scan)


def _move_the_first(
    plan: MovePlan,
    root: Folder,
    judged: Callable[[Folder | None], _Judged],
    may_go_on: Callable[[], bool],
    kernel: KernelRename,
) -> MoveResult:
    """Where there is no `Backup` yet, it is created once there is something to put into it."""
    actions = judged(None)
    if not actions:
        return MoveResult()
    _require(may_go_on, plan.original_name)
    make_folder(root, BACKUP_FOLDER_NAME)
    with open_archive_folder(root) as backup:
        return _act(root, backup, actions, may_go_on, kernel)


def _judged(
    plan: MovePlan,
    root: Folder,
    backup: Folder | None,
    on_bytes: Callable[[int], None],
    on_scan: OnLook,
) -> _Judged:
    pairs = _pairs(plan, root, backup)
    judged = [(pair, judge(plan, root, backup, pair, on_bytes)) for pair in pairs]
    refuse_other_content(plan, root, pairs, on_bytes, on_scan)
    return judged


def _pairs(plan: MovePlan, root: Folder, backup: Folder | None) -> "list[Pair]":
    """What is to be renamed, the main file last; a folder is one pair."""
    here, there = root.names(), [] if backup is None else backup.names()
    rules = RULES[plan.vendor]
    if not plan.sizes:
        names = _names_without_record(plan, root, here, backup, there)
    elif rules.is_folder:
        names = {plan.original_name: plan.raw_file_id}
    else:
        names = {
            target_name(plan.vendor, plan.original_name, plan.raw_file_id, key): key
            for key in plan.sizes
        }
        _refuse_unknown_companions(plan, root, here, names)
    ordered = sorted(names.items(), key=lambda pair: (pair[0] == plan.original_name, pair))
    pairs = [
        Pair(
            source,
            target,
            walk(root, source) if source in here else Tree(),
            walk(backup, target) if backup and _taken(backup, target, there) else Tree(),
        )
        for source, target in ordered
    ]
    gone = [pair for pair in pairs if not stands(pair.here) and not stands(pair.there)]
    if any(not is_debris(pair.target) for pair in gone):
        raise _nowhere(plan, root)
    return [pair for pair in pairs if pair not in gone]


def _names_without_record(
    plan: MovePlan, root: Folder, root_names: list[str], backup: Folder | None, moved: list[str]
) -> dict[str, str]:
    """What stands there to be moved, and what stands in `Backup` because it was moved before.

    The main file is renamed last: companions without it are another acquisition's.
    """
    if not RULES[plan.vendor].has_companions:  # nothing else is of interest, nor looked at
        root_names = [name for name in root_names if name == plan.original_name]
        moved = [name for name in moved if name == plan.raw_file_id]
    here, there = _paths(root, root_names), [] if backup is None else _paths(backup, moved)
    to_move = move_mapping(plan.vendor, plan.raw_file_id, plan.original_name, here)
    if to_move and (plan.main_size is None or plan.original_name not in to_move):
        raise another(root.path / plan.original_name, plan.main_size, None)
    names = {
        source: target.removeprefix(f"{BACKUP_FOLDER_NAME}/") for source, target in to_move.items()
    }
    if RULES[plan.vendor].is_folder:
        return names or _if_there(there, plan)
    return names | {
        target_name(plan.vendor, plan.original_name, plan.raw_file_id, key): key
        for key in members(plan.vendor, plan.raw_file_id, there)
    }


def _if_there(there: Sequence[str], plan: MovePlan) -> dict[str, str]:
    return {plan.original_name: plan.raw_file_id} if f"{plan.raw_file_id}/" in there else {}


def _paths(root: Folder, names: list[str]) -> list[str]:
    """The plain files, and one path below each folder: what tells a mapping that it is there."""
    paths = []
    for name in names:
        seen = root.stat(name)
        if seen is not None and seen.kind in (Kind.FILE, Kind.FOLDER):
            paths.append(name if seen.kind is Kind.FILE else f"{name}/")
    return paths


def _refuse_unknown_companions(
    plan: MovePlan, root: Folder, here: list[str], names: Mapping[str, str]
) -> None:
    for name in members(plan.vendor, plan.original_name, here):
        seen = root.stat(name)
        if name not in names and seen is not None and seen.kind is Kind.FILE:
            raise incomplete(root.path / plan.original_name, name)


def _taken(backup: Folder, target: str, there: list[str]) -> bool:
    """Whether the place is taken; also by a name that an instrument's disk takes for the same."""
    if target in there:
        return True
    for name in there:
        if folded(name) == folded(target):
            raise MoveRefused(
                "`Backup` has a name that differs only in case",
                file=backup.path / target,
                found=ascii(name),
                next_step=f"move that one out of `Backup`, or leave this one where it is. {AGAIN}",
            )
    return False


def _act(
    root: Folder,
    backup: Folder,
    actions: Sequence[tuple[Pair, Action]],
    may_go_on: Callable[[], bool],
    kernel: KernelRename,
) -> MoveResult:
    moved, already, set_aside = [], [], {}
    for pair, action in actions:
        if action is Action.NOTHING:
            already.append(pair.source)
            continue
        _require(may_go_on, pair.source)
        _refuse_changed(root, pair)
        if action is Action.SET_ASIDE:
            set_aside[pair.source] = rename_to_delete(root, pair.source, kernel=kernel)
            continue
        try:
            rename(root, pair.source, backup, pair.target, kernel=kernel)
        except FileExistsError:
            raise MoveRefused(
                "Something appeared in `Backup` under this raw file id",
                file=backup.path / pair.target,
                next_step=COMPARE,
            ) from None
        moved.append(pair.source)
    return MoveResult(tuple(moved), tuple(already), set_aside)


def _require(may_go_on: Callable[[], bool], source: str) -> None:
    if not may_go_on():
        raise LeaseLost("Another run may have taken this file over", file=source)


def _refuse_changed(root: Folder, pair: Pair) -> None:
    """Nothing has been written to it, or come to stand in its place, since it was looked at."""
    now = walk(root, pair.source)
    before = {path: seen for path, seen in pair.here.files.items() if not is_debris(path)}
    there = {path: seen for path, seen in now.files.items() if not is_debris(path)}
    same_files = there.keys() == before.keys() and all(
        seen.is_unchanged(there[path])
        or (seen.is_unchanged(there[path], inodes=False) and root.invents(path)[0])
        for path, seen in before.items()
    )
    if not same_files or now.odd or now.folders.keys() != pair.here.folders.keys():
        raise MoveRefused(
            "The file changed while it was being archived",
            file=root.path / pair.source,
            next_step=f"see what writes to it. {AGAIN}",
        )


def _nowhere(plan: MovePlan, root: Folder) -> NowhereFound:
    return NowhereFound(
        "The file is neither in the instrument's folder nor in `Backup`, or not all of it",
        file=root.path / plan.original_name,
        next_step="find out who moved or deleted it. Its backup is in place: `kraken verify` "
        "proves it.",
    )
