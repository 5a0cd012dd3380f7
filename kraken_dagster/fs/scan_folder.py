"""Lists folders, as often as it is asked. A program of its own: stdlib only, starts in 15 ms.

    python -I -S scan_folder.py

A question is a line of JSON on stdin: `{"folder": ..., "main_files": [...], "entries": true}`. The
answer are lines of JSON on stdout: lists of entries, then an object, which is the last. An entry is
`[name, kind, size, mtime, ctime, main_size, main_mtime, main_ctime, problem]`, without the nulls at
its end. It ends with its stdin.

Names that are not valid UTF-8 come with surrogates, as `os.fsdecode` makes them. What the system
refuses to tell of an entry is its `problem`: only "no such file" and "not a directory" mean that
something isn't there.
"""

import json
import os
import stat
import sys

_ABSENT = (FileNotFoundError, NotADirectoryError)
_AT_ONCE = 1000
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link"}


def answer(question: "dict[str, object]") -> "dict[str, object]":
    """Writes the entries; returns the folder's stamp, and the free and all bytes of its disk.

    The stamp is taken first: what changes during the listing changes the next one's.
    """
    folder = str(question["folder"])
    seen, disk = os.stat(folder), os.statvfs(folder)
    if question["entries"]:
        _list(folder, [str(name) for name in question["main_files"]])  # type: ignore[attr-defined]
    return {
        "stamp": [seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns],
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "total_bytes": disk.f_blocks * disk.f_frsize,
    }


def _list(folder: str, main_files: "list[str]") -> None:
    some: list[list[object]] = []
    with os.scandir(folder) as items:
        for item in items:
            entry = _entry(item, main_files)
            if entry is not None:
                some.append(entry)
            if len(some) == _AT_ONCE:
                _say(some)
                some = []
    _say(some)


def _entry(item: "os.DirEntry[str]", main_files: "list[str]") -> "list[object] | None":
    try:
        facts = item.stat(follow_symlinks=False)
    except _ABSENT:
        return None  # it went while we looked
    except OSError as error:
        return [item.name, "damaged entry", 0, 0, 0, None, None, None, _words(error)]
    kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "special file")
    entry: list[object] = [item.name, kind, facts.st_size, facts.st_mtime, facts.st_ctime]
    if main_files and kind == "folder":
        try:
            entry += _main_file(item.path, main_files)
        except OSError as error:
            entry += [None, None, None, _words(error)]
    return entry


def _main_file(folder: str, names: "list[str]") -> "list[object]":
    """The facts of the first of these that is a plain file in the folder; empty without one.

    As they are spelt first, which costs the least, and is all it takes on a disk without case.
    """
    for name in names:
        if main := _plain_file(os.path.join(folder, name)):
            return main
    try:
        there = {name.lower(): name for name in os.listdir(folder)}
    except _ABSENT:
        return []
    for name in names:
        spelt = there.get(name.lower())
        if spelt and spelt != name and (main := _plain_file(os.path.join(folder, spelt))):
            return main
    return []


def _plain_file(path: str) -> "list[object]":
    try:
        main = os.lstat(path)
    except _ABSENT:
        return []
    if not stat.S_ISREG(main.st_mode):
        return []
    return [main.st_size, main.st_mtime, main.st_ctime]


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _say(line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")  # `json.dump` would take the encoder in Python
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        try:
            last = answer(json.loads(line))
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            last = {"missing": missing, "problem": f"{type(error).__name__}: {error}"}
        _say(last)


if __name__ == "__main__":
    main()
