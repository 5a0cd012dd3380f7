"""Names that some file system takes for one: case, accents, dots and spaces at the end.

SMB, NTFS, exFAT and HFS+ each do some of it. Who compares names folds away all of it, and looks at
the disk whether it makes a difference there.
"""

import unicodedata
from collections.abc import Iterable


def folded(path: str) -> str:
    """A name, or each name of a path with `/`, such that equal ones may be one file somewhere."""
    return "/".join(map(_folded_name, path.split("/")))


def _folded_name(name: str) -> str:
    plain = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", plain).rstrip(". ")


def strangers(expected: Iterable[str], listed: Iterable[str]) -> list[str]:
    """The listed paths that are none of the expected ones, however the file system spells those."""
    wanted, there = set(expected), set(listed)
    spelled_otherwise = {folded(path) for path in wanted - there}
    return sorted(path for path in there - wanted if folded(path) not in spelled_otherwise)


def twins(paths: Iterable[str]) -> dict[str, list[str]]:
    """The paths that fold to what others fold to; each with those others."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(folded(path), []).append(path)
    return {
        path: [other for other in group if other != path]
        for group in groups.values()
        if len(group) > 1
        for path in group
    }


def is_same_entry(ours: str, theirs: str, listed: set[str]) -> bool:
    """Whether two names that both lead to something in a folder lead to one entry of it."""
    if ours == theirs:
        return True
    return folded(ours) == folded(theirs) and not {ours, theirs} <= listed
