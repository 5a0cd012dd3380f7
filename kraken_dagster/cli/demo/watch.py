"""What `kraken demo --once` does while Kraken works: tells what each file waits for, and judges."""

import hashlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from kraken_dagster.model.raw_file import FINAL, RawFile, Status
from kraken_dagster.operations import report as reports
from kraken_dagster.operations.supervisor import say
from kraken_dagster.orchestration.file_runs.run_requests import files_of_run
from kraken_dagster.orchestration.partitions import collect_job
from kraken_dagster.retention.archiving.archive import due_for_move
from kraken_dagster.retention.archiving.compare import due_for_comparison
from kraken_dagster.runtime.services import Services
from kraken_dagster.simulation.plans import ExpectedFile

PATIENCE_S = 600.0  # without anything that moves; however long it takes as long as something does
_TELL_EVERY_S = 30.0
_SOON = timedelta(days=1)
_TOLD_AT_MOST = 3
_WAITS_FOR = {
    Status.QUEUED_FOR_MONITORING: "the next look at its folder",
    Status.MONITORING_ACQUISITION: "the end of its acquisition",
    Status.MONITORING_DONE: "its backup",
    Status.CHECKSUMMING: "its backup",
    Status.CHECKSUMMING_DONE: "its backup",
    Status.COPYING: "the end of its copy",
    Status.COPYING_DONE: "the decision what is run on it",
    Status.QUEUED_FOR_QUANTING: "its processing job",
    Status.QUANTING: "the end of its processing job, and its metrics",
}
_UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]

Expected = Mapping[str, Sequence[ExpectedFile]]


def wait_for_scans(services: Services, *, patience_s: float = PATIENCE_S) -> None:
    """Until every instrument's folder is looked at, as it would be long before an acquisition."""
    deadline = time.monotonic() + patience_s
    say("waiting for Dagster: an instrument begins once its folder is watched")
    while time.monotonic() < deadline:
        if all(services.store.health.get(item) for item in services.config.instruments):
            return
        time.sleep(0.5)


@dataclass
class Watch:
    """Waits until every expected file has ended, as long as anything moves."""

    services: Services
    instance: dg.DagsterInstance
    laboratory: "subprocess.Popen[bytes]"
    expected: Expected
    patience_s: float = PATIENCE_S
    _reported: dict[str, str] = field(default_factory=dict)

    def wait(self) -> list[str]:
        """What has not ended, with what it waits for; nothing if all is done."""
        before: object = None
        moved_at = told_at = time.monotonic()
        while True:
            found, now = _all_files(self.services), time.monotonic()
            waiting = self._waiting(found)
            if self._tell(found, waiting):
                told_at = now
            if not waiting:
                return []
            picture = self._picture(found)
            if picture != before:
                before, moved_at = picture, now
            if now - moved_at > self.patience_s:
                self.laboratory.terminate()
                since = f"nothing has moved for {self.patience_s:g} s"
                return [f"{name}: waits for {what}; {since}" for name, what in waiting.items()]
            if now - told_at > _TELL_EVERY_S:
                told_at = now
                _tell_again(waiting, moved_s=now - moved_at)
            time.sleep(1)

    def _waiting(self, found: Sequence[RawFile]) -> dict[str, str]:
        """What each file waits for that has not ended, and what has not begun."""
        waiting = {item.id: what for item in found if (what := _waits_for(item)) is not None}
        for instrument_id in self.services.config.instruments:
            for due in (due_for_move, due_for_comparison):
                for item in due(self.services, instrument_id, self.services.now() + _SOON):
                    waiting.setdefault(item.id, "its archiving on the instrument")
        for name in self._not_seen(found):
            waiting.setdefault(name, "its acquisition")
        if self.laboratory.poll() is None:
            waiting.setdefault("the laboratory", "the end of its plan")
        if not waiting:
            for run in self.instance.get_runs(RunsFilter(statuses=_UNDER_WAY)):
                waiting[f"Dagster's run of {run.job_name}"] = "its end"
        return waiting

    def _not_seen(self, found: Sequence[RawFile]) -> Iterator[str]:
        known = Counter((item.instrument_id, item.original_name) for item in found)
        wanted = Counter(
            (instrument_id, item.original_name)
            for instrument_id, items in self.expected.items()
            for item in items
            if not item.may_be_missed
        )
        for (_, name), count in (wanted - known).items():
            yield name if count == 1 else f"{name} ({count} times)"

    def _picture(self, found: Sequence[RawFile]) -> object:
        """Whatever differs once something has moved."""
        root = self.services.config.locations.instruments.path
        files = [item.model_dump_json() for item in found]
        jobs = [
            job.model_dump_json()
            for name in self.services.config.engines
            for job in self.services.store.jobs.uncollected(name)
        ]
        runs = [run.status for run in self.instance.get_runs(RunsFilter(statuses=_UNDER_WAY))]
        return files, jobs, runs, sum(_sizes(root)), self.laboratory.poll()

    def _tell(self, found: Sequence[RawFile], waiting: Mapping[str, str]) -> bool:
        """Says of each file what has changed; whether anything has."""
        statuses = {item.id: item.status.value for item in found}
        changed = False
        for name in [*statuses, *(name for name in waiting if name not in statuses)]:
            waits = f"waits for {waiting[name]}" if name in waiting else None
            line = ", ".join(part for part in (statuses.get(name), waits) if part is not None)
            if self._reported.get(name) != line:
                self._reported[name], changed = line, True
                say(f"{name}: {line}")
        return changed


def _tell_again(waiting: Mapping[str, str], *, moved_s: float) -> None:
    some = [f"{name} for {what}" for name, what in list(waiting.items())[:_TOLD_AT_MOST]]
    more = f", and {len(waiting) - len(some)} more" if len(waiting) > len(some) else ""
    say(f"waiting: {'; '.join(some)}{more}. Something moved {moved_s:.0f} s ago")


def _waits_for(item: RawFile) -> str | None:
    if item.status is Status.ERROR and item.retry_at is not None:
        return f"the next try at {item.retry_at:%H:%M:%S} UTC, after: {item.status_details}"
    return None if item.status in FINAL else _WAITS_FOR.get(item.status, "its next step")


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                yield (Path(place) / name).lstat().st_size


def _all_files(services: Services) -> list[RawFile]:
    return [
        item
        for instrument_id in services.config.instruments
        for item in services.store.raw_files.in_status(instrument_id, list(Status))
    ]


def judge(
    services: Services, instance: dg.DagsterInstance, expected: Expected
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each raw file, and what did not end as it should."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for instrument_id, files in expected.items():
        wanted = Counter(files)
        found = services.store.raw_files.in_status(instrument_id, list(Status))
        for item in sorted(found, key=lambda item: item.created_at):
            match = next((one for one in wanted if wanted[one] and _matches(item, one)), None)
            if match is None:
                problems.append(f"{item.id}: {item.status} ({item.status_details}) not expected")
            else:
                wanted[match] -= 1
            problems.extend(_unproven(services, item))
            rows.append(_row(item, match))
        problems.extend(
            f"{one.original_name}: never ended as {one.expected_status}"
            for one in wanted.elements()
            if not one.may_be_missed
        )
    problems.extend(reports.status(services)["wrong"])
    problems.extend(_failed_runs(services, instance))
    return rows, problems


def _row(item: RawFile, match: ExpectedFile | None) -> dict[str, Any]:
    as_expected = "NOT AS EXPECTED"
    if match is not None:
        as_expected = "as expected" + (f": {match.explanation}" if match.explanation else "")
    return {
        "instrument": item.instrument_id,
        "file": item.id,
        "status": item.status,
        "expected": as_expected,
        "size_bytes": item.size,
        "reason": item.status_details,
    }


def to_practise(services: Services) -> list[str]:
    """The files whose processing failed, which is on purpose: for `kraken retry`."""
    return [item.id for item in _all_files(services) if item.status is Status.QUANTING_FAILED]


def _failed_runs(services: Services, instance: dg.DagsterInstance) -> Iterator[str]:
    """Runs that Dagit shows red, but for those of the files to practise on."""
    on_purpose = set(to_practise(services))
    collecting = {collect_job(item) for item in services.config.instruments}
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE])):
        if run.job_name not in collecting or on_purpose.isdisjoint(files_of_run(instance, run)):
            yield f"Dagster's run {run.run_id} of {run.job_name} failed"


def _matches(item: RawFile, expected: ExpectedFile) -> bool:
    return (
        item.original_name == expected.original_name
        and item.status == expected.expected_status
        and expected.reason_contains in (item.status_details or "")
    )


def _unproven(services: Services, item: RawFile) -> Iterator[str]:
    """What in the backup is not what was recorded; read here without Kraken's own reader."""
    for name, fact in item.file_info.items():
        path = services.backup_folder(item) / name
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != fact.md5:
            yield f"{path}: MD5 {found}, recorded {fact.md5}"
