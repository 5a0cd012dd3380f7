"""One look at an instrument's folder, by a process of its own.

A network mount that hangs blocks whoever touches it, beyond any signal. So a child looks, and
the caller waits for a bounded time. As long as a child hangs at a folder, no other is started
for it: that bookkeeping is of this process only, and losing it costs one more child.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from kraken_dagster.model.errors import FolderHangs, FolderMissing, FolderUnreadable
from kraken_dagster.model.files.folder import Entry, Kind, Listing

_SCRIPT = Path(__file__).with_name("scan_folder.py")
_hanging: dict[str, tuple[float, "subprocess.Popen[bytes]"]] = {}
_lock = threading.Lock()


def list_folder(folder: str, *, main_files: Sequence[str] = (), timeout_s: float) -> Listing:
    """The entries of `folder` and, for each folder in it, what is known of its main file.

    Args:
        main_files: what that may be called; without any no folder is looked into.

    Raises:
        FolderMissing, FolderUnreadable: the folder can't be listed.
        FolderHangs: it gave no answer within `timeout_s`.
    """
    _refuse_while_hanging(folder)
    command = [sys.executable, "-I", "-S", str(_SCRIPT), folder, *main_files]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()  # in vain while the mount hangs; the child then dies when it answers
        with _lock:
            _hanging[folder] = (time.monotonic() - timeout_s, child)
        raise _hangs(folder, timeout_s) from None
    if child.returncode != 0:
        raise _failed(folder, errors.decode(errors="replace"))
    answer = json.loads(output)
    entries = tuple(Entry(**{**item, "kind": Kind(item["kind"])}) for item in answer["entries"])
    return Listing(entries, answer["free_bytes"], answer["total_bytes"])


def _refuse_while_hanging(folder: str) -> None:
    with _lock:
        if folder not in _hanging:
            return
        since, child = _hanging[folder]
        if child.poll() is None:
            raise _hangs(folder, time.monotonic() - since)
        del _hanging[folder]
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def _hangs(folder: str, seconds: float) -> FolderHangs:
    return FolderHangs(
        "The instrument's folder gives no answer",
        file=folder,
        expected="a listing within the bound",
        found=f"nothing for {seconds:.0f} s",
        next_step="check that the instrument's PC and its share are up, then the mount "
        "(`umount -l` and mount again). It is scanned again by itself.",
    )


def _failed(folder: str, message: str) -> FolderMissing | FolderUnreadable:
    last = message.strip().splitlines()[-1] if message.strip() else "no message"
    if last.startswith("FileNotFoundError"):
        return FolderMissing(
            "The instrument's folder is not there",
            file=folder,
            next_step="mount the instrument's share, or correct `path` in instruments.yaml.",
        )
    return FolderUnreadable(
        "The instrument's folder can't be read",
        file=folder,
        found=last,
        next_step="check that it is a folder and that Kraken's user may list it.",
    )
