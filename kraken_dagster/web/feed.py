"""Keeps the page's copy of all files up to date from MongoDB, in a thread of its own."""

import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from kraken_dagster.alerts.exposition import Known, known
from kraken_dagster.model.alerts.alert import Alert, State
from kraken_dagster.model.errors import KrakenError, StoreError
from kraken_dagster.operations.report import status
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.intake import rows_of
from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.views.disks import KEPT, Samples, name_of

_LOOK_EVERY_S = 1.0
_REPORT_EVERY = timedelta(seconds=5)
_COMPARE_EVERY = timedelta(minutes=10)
# Clocks of several hosts write the times by which changes are found.
_OVERLAP = timedelta(minutes=2)
_AT_ONCE = 500
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_log = logging.getLogger("kraken.page")


@dataclass
class Feed:
    """What the page knows. `seen_at`: when MongoDB was last asked, and has answered."""

    services: Services
    names: Mapping[str, str] = field(default_factory=dict)  # other names of columns
    table: Table = field(default_factory=Table)
    report: dict[str, Any] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)  # those that are open
    known: Known = field(default_factory=Known)  # for Prometheus
    samples: dict[str, Samples] = field(default_factory=dict)  # how much was free on disks
    alerts_looked_at: datetime | None = None  # by whoever looks after them
    seen_at: datetime | None = None
    problem: str | None = None  # why it could not be asked since
    stamp: int = 0  # counts whatever a page may have to show anew
    stopping: threading.Event = field(default_factory=threading.Event)
    _marks: dict[str, int] = field(default_factory=dict)
    _stamps: dict[str, datetime | None] = field(default_factory=dict)
    _newest: datetime = _BEGIN
    _compared_at: datetime = _BEGIN
    _reported_at: datetime = _BEGIN
    _thread: threading.Thread | None = None

    @property
    def is_loaded(self) -> bool:
        return self._newest != _BEGIN or (self.seen_at is not None)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def refresh(self) -> None:
        """Takes up what has changed; what goes wrong is kept in `problem`, and tried again."""
        now = self.services.now()
        try:
            if now - self._compared_at >= _COMPARE_EVERY:
                self._compare()
                self._sample(now)
                self._compared_at = now
            else:
                self._take_up(self.services.store.changes.ids_since(self._newest - _OVERLAP))
            if now - self._reported_at >= _REPORT_EVERY:
                self._report(now)
        except StoreError as error:
            self._failed(str(error))
        except KrakenError as error:
            self._failed(str(error))
        else:
            if self.problem is not None:
                self.stamp += 1
            self.problem, self.seen_at = None, now

    def _run(self) -> None:
        while not self.stopping.wait(_LOOK_EVERY_S if self.is_loaded or self.problem else 0):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001 - the page goes on with what it has
                _log.exception("the page could not take up what is new")
                self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, problem: str) -> None:
        if self.problem is None:
            _log.warning("%s", problem)
            self.stamp += 1
        self.problem = problem

    def _sample(self, now: datetime) -> None:
        """What is known of disks is an hour apart."""
        config = self.services.config
        names = [*config.instruments, *(name_of("store", item) for item in ("backup", "output"))]
        alerts, since = self.services.store.alerts, now - KEPT
        self.samples = {item: alerts.samples(item, since=since, until=now) for item in names}

    def _report(self, now: datetime) -> None:
        report = status(self.services)
        if report != self.report:
            self.stamp += 1
        self.known = known(self.services)
        self.report, self._reported_at = report, now
        self.refresh_alerts()

    def refresh_alerts(self) -> None:
        """
        Raises:
            StoreUnavailable
        """
        found = [
            it for it in self.services.store.alerts.current() if it.state is not State.SILENCED
        ]
        if [(it.id, it.state) for it in found] != [(it.id, it.state) for it in self.alerts]:
            self.stamp += 1
        self.alerts = found
        self.alerts_looked_at = self.services.store.alerts.last_look().get("looked_at")

    def _compare(self) -> None:
        """Everything, with what the page has: also what was removed, or written without a date."""
        stamps = self.services.store.changes.stamps()
        if self._stamps.keys() - stamps.keys():  # rows don't move: a new table
            self.table, self._marks, self._stamps = Table(), {}, {}
            self.stamp += 1
        known = self._stamps
        self._take_up(key for key, at in stamps.items() if key not in known or known[key] != at)

    def _take_up(self, ids: Iterable[str]) -> None:
        for some in _batches(ids, _AT_ONCE):
            self._take_up_some(some)

    def _take_up_some(self, ids: Collection[str]) -> None:
        rows = list(rows_of(self.services.store, ids, self.names))
        for row in rows:
            self._stamps[row.id] = row.updated_at
            if row.updated_at is not None:
                # One of a clock that runs ahead must not hide what comes until then.
                self._newest = max(self._newest, min(row.updated_at, self.services.now()))
        with self.table.lock:
            for row in rows:
                mark = hash(tuple(row.cells.items()))
                if self._marks.get(row.id) != mark:
                    self.table.put(row.id, row.cells)
                    self._marks[row.id] = mark
                    self.stamp += 1


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
