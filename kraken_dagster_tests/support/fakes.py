"""What stands in for the world outside: a MongoDB that goes away, an engine, programs."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from kraken_dagster.model.errors import StoreUnavailable, SubmitFailed
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import Settings
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.helpers import NOW, mark_stores


class Stumbling:
    """A store whose MongoDB goes away for good right after the `calls`th call."""

    def __init__(self, store: Any, calls: int) -> None:
        self._store = store
        self._left = [calls]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            part = Stumbling(found, 0)
            part._left = self._left
            return part

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._left[0] < 0:
                raise StoreUnavailable("gone")
            self._left[0] -= 1
            answer = found(*args, **kwargs)
            if self._left[0] < 0:
                raise StoreUnavailable("gone")
            return answer

        return call


def stumbling(services: Services, calls: int) -> Services:
    store: Any = Stumbling(services.store, calls)
    return replace(services, store=store)


class MemoryEngine:
    """An engine that starts nothing, and is told when a job ends."""

    settles_s = 0.0

    def __init__(self) -> None:
        self.started: list[str] = []
        self.open: set[str] = set()
        self.most_open = 0
        self.fails_after_submitting = 0
        self.refuses = False
        self._lock = threading.Lock()

    def submit(self, spec: JobSpec, *, may_start: Callable[[], None] = lambda: None) -> str:
        with self._lock:
            if self.refuses:
                raise SubmitFailed("no such partition")
            if spec.name not in self.started:
                self.started.append(spec.name)
                self.open.add(spec.name)
                self.most_open = max(self.most_open, len(self.open))
            if self.fails_after_submitting:
                self.fails_after_submitting -= 1
                raise SubmitFailed("the answer got lost")
        return f"id of {spec.name}"

    def find(self, name: str) -> str | None:
        return f"id of {name}" if name in self.started else None

    def states(self, ids: Sequence[str]) -> dict[str, JobReport]:
        return {job_id: JobReport(self._state(job_id.removeprefix("id of "))) for job_id in ids}

    def _state(self, name: str) -> JobState:
        if name not in self.started:
            return JobState.UNKNOWN
        return JobState.RUNNING if name in self.open else JobState.SUCCEEDED

    def cancel(self, job_id: str) -> None:
        self.open.discard(job_id.removeprefix("id of "))

    def usage(self, ids: Sequence[str]) -> dict[str, JobReport]:
        return {}

    def log_tail(self, spec: JobSpec, *, lines: int = 20) -> str:
        return ""

    def check(self) -> None:
        pass


def custom_settings(services: Services, name: str, script: str = "", **fields: Any) -> Settings:
    """Settings for every file of the fallback project, and the shell script that they run.

    The stores of a world that was put together by a test are initialised too.
    """
    mark_stores(services)
    software = services.config.locations.software
    assert software is not None
    software.path.mkdir(exist_ok=True)
    program = software.path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    settings = Settings(**{"name": name, "software": name, "software_type": "custom", **fields})
    services.store.catalog.add_settings(settings, now=NOW)
    later = timedelta(days=len(services.store.catalog.assigned(None)))
    services.store.catalog.assign(FALLBACK_PROJECT, settings, now=services.now() + later)
    return settings
