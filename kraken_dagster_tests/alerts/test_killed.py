"""Ten faults of a laboratory, one after the other, while the monitor is killed in its looks.

Nothing is missed; and what was sent right before a kill may come once more, as the same message.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from kraken_dagster.alerts.snapshot import FailedJob, Sensor
from kraken_dagster.model.quality import Outcome
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.alerts.dying import killed_look
from kraken_dagster_tests.alerts.receivers import MailServer, running
from kraken_dagster_tests.alerts.test_faults import judge_run, register
from kraken_dagster_tests.alerts.test_manners import certificate
from kraken_dagster_tests.alerts.watching import GB, Watching, no_trouble, with_alerts

pytestmark = pytest.mark.timeout(1800)
_TOLD_WITHIN = 2  # minutes after its threshold
_MOST_WRITES = 9  # of a look that opens an alert and sends one message


@dataclass
class Laboratory(Watching):
    """One in which every minute a file is made, until something is wrong."""

    certificate: Path = Path()
    wrong: set[str] = field(default_factory=set)
    files: int = 0

    def sensors(self) -> None:
        now = self.services.now()
        facts = no_trouble(self.services)
        if "daemon" in self.wrong:
            facts = replace(facts, daemon_seen=now - timedelta(minutes=10))
        if "job" in self.wrong:
            facts = replace(facts, failed_jobs=(FailedJob("purge", ("run-1",), now),))
        if "sensor" in self.wrong:
            off = Sensor("thermo1_watcher", "thermo1", is_on=False, last_tick=None)
            facts = replace(facts, sensors=(off,))
        self.dagster = facts
        self.free_gb["backup"] = 1 if "disk" in self.wrong else 5000
        if "instrument" not in self.wrong:
            register(self, f"run{self.files}.raw", status=Status.DONE)
            self.files += 1
        super().sensors()
        health = self.services.store.health
        if "share" in self.wrong:
            health.unwell("thermo1", details="no answer within 20 s", now=now)
        if "clock" in self.wrong:
            self._with_clock(7200.0)

    def _with_clock(self, difference: float) -> None:
        self.services.store.health.well(
            "thermo1",
            details="fine",
            free_bytes=5000 * GB,
            left_alone=[],
            clock_difference_s=difference,
            now=self.services.now(),
        )

    def change(self, name: str) -> None:
        """Puts a fault in, or takes it out."""
        self.wrong ^= {name}
        is_wrong, now = name in self.wrong, self.services.now()
        if name == "key":
            certificate(self.certificate, expires=now + timedelta(days=-1 if is_wrong else 300))
        elif name == "spray":
            outcome = Outcome.OUT_OF_CONTROL if is_wrong else Outcome.IN_CONTROL
            judge_run(self, f"qc_{outcome}.raw", outcome)
        elif name == "backup" and is_wrong:
            register(self, "rot.raw", status=Status.ERROR, ended_as=Status.DONE)
        elif name == "backup":
            raw_files = self.services.store.raw_files
            rotten = raw_files.get("rot.raw")
            raw_files.transition(rotten, Status.COPYING, now=now, reason="copied anew")

    def dies(self, before: int) -> bool:
        """A minute in which the monitor is killed."""
        self.services.now.forward(minutes=1)  # type: ignore[attr-defined]
        self.sensors()
        return killed_look(self.services, self.dagster, before=before)


_FAULTS: dict[str, tuple[str, int]] = {  # the alert, and minutes until its threshold
    "share": ("health_failed", 0),
    "disk": ("low_disk", 0),
    "daemon": ("daemon_silent", 0),
    "job": ("run_failed", 0),
    "backup": ("backup_damaged", 0),
    "spray": ("out_of_control", 0),
    "instrument": ("instrument_stall", 6),
    "clock": ("clock_skew", 0),
    "key": ("expiring", 0),
    "sensor": ("sensor_off", 0),
}


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    with running(server):
        yield server


@pytest.fixture
def laboratory(services: Services, mail: MailServer, tmp_path: Path) -> Laboratory:
    path = tmp_path / "lab.pem"
    to = [{"type": "smtp", "to": ["lab@example.org"]}]
    changed = with_alerts(
        services,
        smtp={"host": "127.0.0.1", "port": mail.port},
        audiences={"operations": to, "laboratory": to},
        thresholds={"stall_instruments": ["thermo1"], "stall_hours": 0.1},
        digest={"at": None},
    )
    dagit = changed.config.dagit.model_copy(update={"certificate": path})
    config = changed.config.model_copy(update={"dagit": dagit})
    certificate(path, expires=services.now() + timedelta(days=300))
    return Laboratory(replace(changed, config=config), certificate=path)


def messages(mail: MailServer) -> Counter[tuple[str, str]]:
    """How often each came: by subject and Message-ID."""
    return Counter((str(item["Subject"]), str(item["Message-ID"])) for item in mail.mails)


def test_ten_faults_are_told_and_resolved_whenever_the_monitor_is_killed(
    laboratory: Laboratory, mail: MailServer
) -> None:
    laboratory.minutes(3)
    kills = 0
    for number, (fault, (kind, threshold)) in enumerate(_FAULTS.items()):
        before = 1 + number % _MOST_WRITES
        for is_wrong in (True, False):
            laboratory.change(fault)
            # an end is told after two looks: the second is the one that is killed
            laboratory.minutes(threshold if is_wrong else 1)
            kills += laboratory.dies(before)
            laboratory.minutes(_TOLD_WITHIN)
            found = [line.partition(" ")[0] for line in laboratory.open()]
            assert found == ([kind] if is_wrong else []), (fault, before)
    assert kills == 2 * len(_FAULTS)
    found_mails = messages(mail)
    subjects = Counter(subject for subject, _ in found_mails)
    assert set(subjects.values()) == {1}, "each of them under one Message-ID"
    assert max(found_mails.values()) <= 2
    assert len(found_mails) == 2 * len(_FAULTS)


def test_a_monitor_that_was_killed_keeps_nobody_from_looking_for_half_a_minute(
    laboratory: Laboratory, mail: MailServer
) -> None:
    """Else two minutes would not do where one passes between two looks."""
    laboratory.minutes(3)
    laboratory.change("disk")
    assert laboratory.dies(3)
    laboratory.minute(minutes=0.5)
    assert [line.partition(" ")[0] for line in laboratory.open()] == ["low_disk"]
