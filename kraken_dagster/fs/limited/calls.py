"""Calls functions by their names, for another process: the worker's part of `limited_child`."""

import json
import os
import resource
import threading
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from kraken_dagster.fs.limited.error_records import error_to_record
from kraken_dagster.fs.limited.limits import too_much_memory
from kraken_dagster.fs.limited.worker import MOST_ANSWER_BYTES
from kraken_dagster.fs.stores.roots import RootPath, adopted, shown
from kraken_dagster.model.errors import ReadingEnded

_HANDLES = "/proc/self/fd"


def packed(value: Any, handles: list[int]) -> dict[str, Any]:
    """An argument as JSON takes it. Of a path through an open root the handle goes with it."""
    if isinstance(value, RootPath) and value.is_relative_to(_HANDLES):
        number, *below = value.relative_to(_HANDLES).parts
        handles.append(int(number))
        top = shown(RootPath(_HANDLES, number))
        return {"root": len(handles) - 1, "top": str(top), "below": below}
    return {"path": str(value)} if isinstance(value, Path) else {"value": value}


def _unpacked(item: dict[str, Any], handles: list[int], stack: ExitStack) -> Any:
    if "root" in item:
        root = stack.enter_context(adopted(handles[item["root"]], Path(item["top"])))
        return root.joinpath(*item["below"])
    return Path(item["path"]) if "path" in item else item["value"]


class Calls:
    """Answers requests, and says with each answer whether this process is good for another one.

    Args:
        much_memory: bytes; a process that has held more is not.
    """

    def __init__(self, much_memory: int) -> None:
        self._much_memory = much_memory
        self._process = os.getpid()

    def answer(self, request: Any, handles: list[int]) -> dict[str, Any]:
        """Result or error of what is asked for, as JSON takes it."""
        try:
            answer = {"result": self._called(request, handles)}
            _require_short(answer)
        except BaseException as error:  # noqa: BLE001 - told to who has asked
            answer = {"error": error_to_record(_reported(error))}
            tired = isinstance(error, MemoryError)
        else:
            tired = False
        if os.getpid() != self._process:  # a process that the function has made, and that came here
            os._exit(0)
        return {**answer, "last": tired or self._is_worn()}

    def _called(self, request: Any, handles: list[int]) -> Any:
        module, _, name = request["function"].partition(":")
        with ExitStack() as stack:
            arguments = [_unpacked(item, handles, stack) for item in request["arguments"]]
            return getattr(import_module(module), name)(*arguments)

    def _is_worn(self) -> bool:
        """Whether something is left of what was called: memory, threads, processes."""
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if held > self._much_memory or threading.active_count() > 1:
            return True
        return _has_children(os.getpid()) or _has_children(os.getppid(), but=os.getpid())


def _has_children(pid: int, but: int | None = None) -> bool:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            if {int(word) for word in file.read_text().split()} - {but}:
                return True
        except OSError:  # a thread that has ended
            continue
    return False


def _reported(error: BaseException) -> BaseException:
    return too_much_memory() if isinstance(error, MemoryError) else error


def _require_short(answer: object) -> None:
    size = len(json.dumps(answer))
    if size > MOST_ANSWER_BYTES // 2:
        raise ReadingEnded(
            "What was read is too long",
            expected=f"at most {MOST_ANSWER_BYTES // 2} bytes",
            found=f"{size} bytes",
            next_step="find out what made this file.",
        )
