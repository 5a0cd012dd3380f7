"""A page that listens on a port of this machine, over a database with files to show."""

import http.client
import math
import threading
from array import array
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import uvicorn

from kraken_dagster.config.dagit import Dagit, Place, Role
from kraken_dagster.dagit.access import PAGE, Access
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.raw_file import BackupStatus, FileFact, Status
from kraken_dagster.model.raw_metrics import RawMetricsState, RawMetricsStatus
from kraken_dagster.raw_metrics.trace_files import keep_traces
from kraken_dagster.raw_readers.contents import Trace
from kraken_dagster.raw_readers.traces import to_npz
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.web.app import guarded_page
from kraken_dagster.web.column_config import ColumnChoice, ColumnEntry
from kraken_dagster.web.feed import Feed
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS, job, record, wait_until

CHOICE = ColumnChoice(
    (
        ColumnEntry(name="precursors", color_gradient="green_is_high", plot=True),
        ColumnEntry(name="proteins", color_gradient="green_is_high", plot=True),
        ColumnEntry(name="irt_*_delta_rt", plot=True, overlay=True),
    )
)
HTML_NAME = "<b onmouseover=alert(1)>&amp;\"'.raw"
RTL_NAME = "\u202egnp.raw"
HOSTILE = (HTML_NAME, RTL_NAME, *(f"{stem}.raw" for stem in HOSTILE_STEMS), "x" * 251 + ".raw")


@dataclass(frozen=True)
class Answer:
    status: int
    content: bytes
    headers: http.client.HTTPMessage

    @property
    def text(self) -> str:
        return self.content.decode()


@dataclass(frozen=True)
class OpenPage:
    """A page that listens."""

    place: Place
    access: Access
    feed: Feed

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.place.port}"

    def get(self, path: str, *headers: tuple[str, str], **query: Any) -> Answer:
        return self.send("GET", f"{path}?{urlencode(query)}" if query else path, *headers)

    def send(self, method: str, path: str, *headers: tuple[str, str], body: str = "") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=60)
        connection.request(method, path, body=body.encode(), headers=dict(headers))
        answer = connection.getresponse()
        with closing(connection):
            return Answer(answer.status, answer.read(), answer.headers)

    def login(self, role: Role = Role.OPERATOR) -> tuple[str, str]:
        """The cookie of somebody who has opened a link."""
        self.access.prepare(self.origin, of=PAGE)
        link = self.access.new_link(role, now=utc_now(), to=PAGE)
        answer = self.send("GET", link.removeprefix(self.origin))
        assert answer.status == 303, answer
        return "Cookie", answer.headers["Set-Cookie"].partition(";")[0]


@contextmanager
def served(
    services: Services,
    *,
    settings: Dagit | None = None,
    root_path: str = "",
    lives: bool = True,
    choice: ColumnChoice = CHOICE,
) -> Iterator[OpenPage]:
    """Serves the page as `kraken web` does. `lives`: it follows MongoDB by itself."""
    place = Place(settings or Dagit(), port=free_port(), name="The page", root_path=root_path)
    access, feed = Access(services.config.home), Feed(services, choice.other_names)
    app = guarded_page(feed, choice, place, access)
    config = uvicorn.Config(
        app,
        port=place.port,
        lifespan="off",
        log_level="error",
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        if lives:
            feed.start()
        else:
            feed.refresh()
        wait_until(lambda: server.started and feed.seen_at, "the page has read everything")
        yield OpenPage(place, access, feed)
    finally:
        feed.stop()
        server.should_exit = True
        thread.join(30)


def fill(services: Services, *, count: int = 40, now: datetime) -> None:
    """Files of two instruments, an hour apart, with metrics; and one for each hostile name."""
    for number in range(count):
        instrument = ("thermo1", "bruker1")[number % 2]
        at = now - timedelta(hours=count - number)
        done(services, f"{instrument}_hela_{number:04d}.raw", at, instrument, number)
    for number, name in enumerate(HOSTILE):
        add(services, name, now - timedelta(days=3, minutes=number), status_details=name[:500])
    add(
        services,
        "failed_0001.raw",
        now - timedelta(minutes=30),
        status=Status.ERROR,
        status_details="The backup store is full. Next: free some space.",
    )
    add(
        services,
        "thermo1_now.raw",
        now - timedelta(minutes=5),
        status=Status.MONITORING_ACQUISITION,
    )


def add(services: Services, name: str, at: datetime, **fields: Any) -> None:
    standard = {"created_at": at, "created_at_": at, "updated_at_": at, "size": 1_500_000_000}
    services.store.raw_files.register(record(name, **{**standard, **fields}), reason="seen")


def with_traces(services: Services, name: str, *, highest: float) -> None:
    """Has the file of a chromatogram in the output, with 3,000 points, and a pump's pressure."""
    raw_file = services.store.raw_files.current(name)
    rt = array("d", (0.01 * number for number in range(3000)))
    tic = array("d", (highest * (1 + math.sin(at / 3)) / 2 for at in rt))
    tic[1500] = highest
    traces = [
        Trace("tic", "arbitrary", rt, tic),
        Trace("pressure_1", "bar", rt, array("d", (300 + at for at in rt)), "Evosep HP"),
    ]
    place = keep_traces(services, raw_file, to_npz(traces))
    state = RawMetricsState(
        status=RawMetricsStatus.DONE, at=services.now(), complete=True, traces=place
    )
    services.store.raw_metrics.keep(name, state)


def with_disks(services: Services, *, days: int = 20) -> None:
    """Disks that get fuller, as watchers and alerts have kept it: each hour, and now."""
    now, health, gb = services.now(), services.store.health, 1024**3
    disks = {"file system backup": (40_000, 700), "file system output": (9_000, 50)}
    disks |= {"thermo1": (1_500, 90), "bruker1": (3_000, 60)}
    for name, (free, per_day) in disks.items():
        for hours in range(days * 24):
            was_free = free + per_day * hours / 24
            at = now - timedelta(hours=hours)
            services.store.alerts.sample(name, free_gb=was_free, at=at)
        space = {"free_bytes": free * gb, "total_bytes": (free + 30 * per_day) * gb}
        if name.startswith("file system "):
            health.file_system_well(name.removeprefix("file system "), **space, now=now)
        else:
            health.well(name, details="2 files are looked at", left_alone=[], **space, now=now)


def done(services: Services, name: str, at: datetime, instrument: str, number: int) -> None:
    """A file that has ended well, with a job and metrics."""
    add(
        services,
        name,
        at,
        instrument_id=instrument,
        status=Status.DONE,
        project_id="PAGE1",
        backup_status=BackupStatus.COPYING_DONE,
        backup_base_path=f"/pool/{instrument}/2026_03",
        file_info={name: FileFact(size=1_500_000_000, md5="d41d8cd98f00b204e9800998ecf8427e")},
    )
    ended = job(
        f"job-{name}",
        raw_file=name,
        instrument_id=instrument,
        settings_name="dia",
        state="succeeded",
        cluster_job_id=str(number),
        log_tail="first line\n\x1b[31mlast line",
        created_at=at,
    )
    services.store.jobs.intend(ended)
    metrics = {
        "precursors": 90_000 + 100 * (number % 7),
        "proteins": 7_000 + number,
        "note": "a text" if number % 5 else 3.5,
        "irt_a_delta_rt": 0.1 * number,
        "irt_b_delta_rt": -0.1 * number,
        "huge": 1e308,
    }
    services.store.metrics.add(ended, metrics, provenance={"job": ended.id}, now=at)
