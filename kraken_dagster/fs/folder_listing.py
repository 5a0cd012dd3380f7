"""One look at an instrument's folder, by a process of its own (`scanners.py`).

As long as a child hangs at a folder, no other is sent there: that bookkeeping is of this process
only, and losing it costs one more child.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

from kraken_dagster.fs.scanners import Scanner, ScannerEnded, give_back, take
from kraken_dagster.model.errors import FolderHangs, FolderMissing, FolderUnreadable
from kraken_dagster.model.files.folder import Entry, Kind, Listing

_KINDS = {kind.value: kind for kind in Kind}
_hanging: dict[str, tuple[float, Scanner]] = {}
_lock = threading.Lock()


def list_folder(
    folder: str, *, main_files: Sequence[str] = (), timeout_s: float, entries: bool = True
) -> Listing:
    """The entries of `folder` and, for each folder in it, what is known of its main file.

    Args:
        main_files: what that may be called; without any no folder is looked into.
        entries: without them only the stamp and the space are asked for.

    Raises:
        FolderMissing, FolderUnreadable: the folder can't be listed.
        FolderHangs: it gave no answer within `timeout_s`.
    """
    _refuse_while_hanging(folder)
    question = {"folder": folder, "main_files": list(main_files), "entries": entries}
    try:
        rows, last = _answer(folder, question, timeout_s)
    except ScannerEnded:  # somebody has killed it, maybe long ago
        rows, last = _answer_of_another(folder, question, timeout_s)
    if "problem" in last:
        raise _failed(folder, last)
    rows.sort()
    return Listing(tuple(rows), last["free_bytes"], last["total_bytes"], tuple(last["stamp"]))


def _answer(
    folder: str, question: dict[str, object], timeout_s: float
) -> tuple[list[Entry], dict[str, Any]]:
    scanner, rows = take(), []
    last: dict[str, Any] = {}
    try:
        for said in scanner.ask(question, time.monotonic() + timeout_s):
            if isinstance(said, dict):
                last = said
            else:
                rows += [Entry(row[0], _KINDS[row[1]], *row[2:]) for row in said]
    except TimeoutError:
        scanner.kill()
        with _lock:
            _hanging[folder] = (time.monotonic() - timeout_s, scanner)
        raise _hangs(folder, timeout_s) from None
    except BaseException:  # whatever it still says would be taken for another answer
        scanner.kill()
        scanner.process.wait()
        scanner.is_gone()
        raise
    give_back(scanner)
    return rows, last


def _answer_of_another(
    folder: str, question: dict[str, object], timeout_s: float
) -> tuple[list[Entry], dict[str, Any]]:
    try:
        return _answer(folder, question, timeout_s)
    except ScannerEnded:
        return [], {"missing": False, "problem": "the process that lists it was killed, twice"}


def _refuse_while_hanging(folder: str) -> None:
    with _lock:
        if folder not in _hanging:
            return
        since, scanner = _hanging[folder]
        if not scanner.is_gone():
            raise _hangs(folder, time.monotonic() - since)
        del _hanging[folder]


def _hangs(folder: str, seconds: float) -> FolderHangs:
    return FolderHangs(
        "The instrument's folder gives no answer",
        file=folder,
        expected="a listing within the bound",
        found=f"nothing for {seconds:.0f} s",
        next_step="check that the instrument's PC and its share are up, then the mount "
        "(`umount -l` and mount again). It is scanned again by itself.",
    )


def _failed(folder: str, last: dict[str, Any]) -> FolderMissing | FolderUnreadable:
    if last["missing"]:
        return FolderMissing(
            "The instrument's folder is not there",
            file=folder,
            next_step="mount the instrument's share, or correct `path` in instruments.yaml.",
        )
    return FolderUnreadable(
        "The instrument's folder can't be read",
        file=folder,
        found=last["problem"].encode(errors="replace").decode(),
        next_step="check that it is a folder and that Kraken's user may list it.",
    )
