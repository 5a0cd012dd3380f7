"""A process that archives, purges or renames, and kills itself at the n-th thing it does."""

import multiprocessing
import os
import signal
import sys
import threading
from datetime import datetime
from types import FrameType
from typing import Any

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.operations.instruments.rename import rename
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.retention.retention_cases import move_all, purge_all

# What changes a disk or MongoDB. The kernel's rename is called by way of ctypes, which a profiler
# doesn't see, so the function around it stands for it.
_CALLS = frozenset({"unlink", "rmdir", "fchmod", "fsync", "mkdir", "rename", "sendall"})
_FUNCTIONS = frozenset({"renameat2"})
# A rename changes MongoDB only, and reads a lot of it.
_OF_INTEREST = {"rename": (frozenset[str](), frozenset({"update_one", "update_many"}))}


def _rename(services: Services, old: str) -> None:
    rename(services, old, "astral1", by="a test")


_STEPS = {"move": move_all, "purge": purge_all, "rename": _rename}

# Forked from a server that has loaded everything once: a fresh process in a few milliseconds.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def run(services: Services, step: str, instrument_id: str, *, die_at: int = 0) -> int:
    """Does a step in a process of its own; its exit code, -9 if it killed itself."""
    arguments = (services.config.model_dump_json(), step, instrument_id, services.now(), die_at)
    process = _context.Process(target=_child, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def _child(config: str, step: str, instrument_id: str, now: datetime, die_at: int) -> None:
    parsed = KrakenConfig.model_validate_json(config)
    assert parsed.mongodb.uri is not None
    store = connect(parsed.mongodb.uri)
    store.raw_files.latest([instrument_id])  # connected, so that what follows is the step's own
    services = Services(config=parsed, store=store, engines={}, now=lambda: now)
    if die_at:
        profile = _Deadly(die_at, *_OF_INTEREST.get(step, (_CALLS, _FUNCTIONS)))
        threading.setprofile(profile)
        sys.setprofile(profile)
    _STEPS[step](services, instrument_id)
    sys.setprofile(None)


class _Deadly:
    """Kills the process right before, and right after, each thing of interest: one of these."""

    def __init__(self, die_at: int, calls: frozenset[str], functions: frozenset[str]) -> None:
        self.left, self.calls, self.functions = die_at, calls, functions

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("c_call", "c_return"):
            interesting = getattr(argument, "__name__", None) in self.calls
        else:
            interesting = frame.f_code.co_name in self.functions
        if not interesting or threading.current_thread().name.startswith("pymongo"):
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
