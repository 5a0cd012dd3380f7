"""What is compared before a member of a raw file is archived, and what is refused then."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from kraken_dagster.fs.dir_handles import Folder, Tree
from kraken_dagster.model.errors import BackupIncomplete, ContentChanged, MoveRefused, NameTaken
from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.marks import SourceLook
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME, RULES, Vendor

# Gets the look to be recorded, if it is another, and whether change times held; None: no evidence.
OnLook = Callable[[SourceLook | None, bool | None], None]
AGAIN = "It is scanned again by itself."
COMPARE = f"compare both by hand, and take the wrong one away. {AGAIN}"


@dataclass(frozen=True)
class MovePlan:
    """What is archived. `sizes` in bytes by path below `Backup/`, as the record has them.

    Without a record (`sizes` is empty: a failed acquisition) what stands there is moved, if its
    main file has `main_size` bytes; nothing is where that isn't known.
    `look` and `digests` (MD5) are those of the source when it was copied; `ctimes_count` unless
    change times are known to mean nothing on this mount.
    """

    instrument_folder: Path
    vendor: Vendor
    raw_file_id: str
    original_name: str
    sizes: Mapping[str, int]
    main_size: int | None
    scan: SourceLook | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    ctimes_count: bool = True


class Action(StrEnum):
    MOVE = "move"
    NOTHING = "nothing"
    SET_ASIDE = "set aside"


@dataclass(frozen=True)
class Pair:
    source: str
    target: str
    here: Tree
    there: Tree


def stands(tree: Tree) -> bool:
    return bool(tree.files or tree.folders or tree.odd)


def judge(
    plan: MovePlan, root: Folder, backup: Folder | None, pair: Pair, on_bytes: Callable[[int], None]
) -> Action:
    source, target = root.path / pair.source, root.path / BACKUP_FOLDER_NAME / pair.target
    for tree, path in ((pair.here, source), (pair.there, target)):
        if tree.odd:
            raise MoveRefused(
                "A link or a special file, and those are never moved",
                file=path,
                found=ascii(sorted(tree.odd)[:5]),
                next_step=f"replace it on the instrument by the data itself. {AGAIN}",
            )
    if stands(pair.here):
        _refuse_other_source(plan, source, pair)
    if backup is None or not stands(pair.there):
        return Action.MOVE
    wanted = _wanted(plan, pair)
    sizes = _clean(plan, {key: seen.size for key, seen in pair.there.files.items()}, wanted)
    if wanted and sizes != wanted:
        raise MoveRefused(
            "What `Backup` has under this raw file id is incomplete, or something else",
            file=target,
            expected=_first_differences(wanted, sizes),
            found=_first_differences(sizes, wanted),
            next_step=COMPARE,
        )
    if not stands(pair.here):
        return Action.NOTHING
    _refuse_unequal(root, backup, pair, on_bytes)
    return Action.SET_ASIDE


def _wanted(plan: MovePlan, pair: Pair) -> dict[str, int]:
    """The recorded sizes of what the pair stands for; without a record those of the source."""
    if not plan.sizes:
        return _by_key(pair.here, pair.source, pair.target)
    found = _by_key(pair.here, pair.source, pair.target).keys() | pair.there.files.keys()
    return {
        key: size
        for key, size in plan.sizes.items()
        if (key == pair.target or key.startswith(f"{pair.target}/"))
        and (key in found or not is_debris(key))  # debris that was once recorded may go
    }


def _clean(plan: MovePlan, found: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    """Without debris, which goes along with its folder and is no reason for or against anything."""
    kept = wanted if plan.sizes else ()
    return {key: size for key, size in found.items() if key in kept or not is_debris(key)}


def _by_key(tree: Tree, source: str, target: str) -> dict[str, int]:
    """Sizes by the path that each file has, or will have, below `Backup`."""
    return {target + path[len(source) :]: seen.size for path, seen in tree.files.items()}


def _refuse_other_source(plan: MovePlan, source: Path, pair: Pair) -> None:
    """The main file's size first: it tells another acquisition from a changed one."""
    found = _by_key(pair.here, pair.source, pair.target)
    found = _clean(plan, found, plan.sizes)
    rules = RULES[plan.vendor]
    recorded = rules.main_file_among(plan.raw_file_id, plan.sizes)
    main = recorded or rules.main_file_among(plan.raw_file_id, found)
    main_size = plan.main_size if recorded is None else plan.sizes[recorded]
    if main in found and main_size is not None and found[main] != main_size:
        raise another(source, main_size, found[main])
    if not plan.sizes:
        if main is None and rules.is_folder:
            raise another(source, main_size, None)
        return
    if unknown := [key for key in found if key not in plan.sizes]:
        raise incomplete(source, unknown[0])
    wanted = _wanted(plan, pair)
    if wanted != found:
        raise MoveRefused(
            "The file changed after it was backed up",
            file=source,
            expected=_first_differences(wanted, found),
            found=_first_differences(found, wanted),
            next_step=f"compare it with its backup, and put the right one in its place. {AGAIN}",
        )


def _refuse_unequal(
    root: Folder, backup: Folder, pair: Pair, on_bytes: Callable[[int], None]
) -> None:
    for path in pair.here.files:
        if is_debris(path):
            continue
        target = pair.target + path[len(pair.source) :]
        differs = target not in pair.there.files
        if not differs:
            _, here = root.read(path, on_bytes=on_bytes)
            _, there = backup.read(target, on_bytes=on_bytes)
            differs = here != there
        if differs:
            raise MoveRefused(
                "`Backup` has something else under this raw file id",
                file=backup.path / target,
                expected=f"the same as {path!a} in the instrument's folder",
                next_step=COMPARE,
            )


def another(source: Path, main_size: int | None, found: int | None) -> NameTaken:
    return NameTaken(
        "Another acquisition has taken the name of this one",
        file=source,
        expected=f"{_bytes(main_size)} in the main file",
        found=_bytes(found),
        next_step=f"see what it is. With a main file it gets an id of its own. {AGAIN}",
    )


def _bytes(size: int | None) -> str:
    return "nothing that is known" if size is None else f"{size} bytes"


def incomplete(path: Path, member: str) -> BackupIncomplete:
    return BackupIncomplete(
        "The instrument has a file of this acquisition that the backup lacks",
        file=path,
        found=ascii(member),
        next_step="`kraken retry` has it backed up.",
    )


def _first_differences(one: Mapping[str, int], other: Mapping[str, int]) -> str:
    differing = [f"{name!a}: {size} bytes" for name, size in one.items() if other.get(name) != size]
    return ", ".join(sorted(differing)[:3]) or "nothing more"


def refuse_other_content(
    plan: MovePlan,
    root: Folder,
    pairs: Sequence[Pair],
    on_bytes: Callable[[int], None],
    on_scan: OnLook,
) -> None:
    """What looks as it did when it was copied is taken for that; anything else is read, once.

    What was archived already isn't looked at: our own rename has changed its times.

    Raises:
        ContentChanged
    """
    here = {
        pair.target + path[len(pair.source) :]: (path, seen)
        for pair in pairs
        for path, seen in pair.here.files.items()
    }
    here = {key: found for key, found in here.items() if key in plan.digests}
    if plan.scan is None or not here:
        return
    scans = {key: (it.size, it.mtime_ns, it.ctime_ns) for key, (_, it) in here.items()}
    main = RULES[plan.vendor].main_file_among(plan.raw_file_id, scans)
    now = SourceLook.of(scans, main=main)
    written, changed = not plan.scan.is_written_as(now), not plan.scan.is_changed_as(now)
    if not written and not changed:
        on_scan(None, True)
        return
    if not written and (not plan.ctimes_count or root.invents(next(iter(here.values()))[0])[1]):
        on_scan(None, False)
        return
    for key, (path, _) in sorted(here.items()):
        _, fact = root.read(path, on_bytes=on_bytes)
        if fact.md5 != plan.digests[key]:
            raise _other_content(root.path / path, plan.digests[key], fact.md5)
    on_scan(plan.scan.after(now), None if written else False)


def _other_content(path: Path, expected: str, found: str | None) -> ContentChanged:
    return ContentChanged(
        "The file has the same size as what was backed up, and other content",
        file=path,
        expected=f"MD5 {expected}",
        found=f"MD5 {found}",
        next_step="nothing: it is backed up as an acquisition of its own, under an id of "
        "its own; the backup of the earlier one stays.",
    )
