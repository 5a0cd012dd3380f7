"""The ten faults in their order: how each is told, and which parts are killed meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass

from kraken_dagster_tests.alerts.real import faults as act
from kraken_dagster_tests.alerts.real.faults import Bench
from kraken_dagster_tests.alerts.real.kills import EVERYTHING, SENDER, Kill
from kraken_dagster_tests.alerts.real.settings import DAEMON_SILENT_S, STALL_S


@dataclass(frozen=True)
class Fault:
    """One fault, and how it is told.

    Args:
        line: a regular expression of the first line of its messages.
        put_in, take_away: each returns the time from when on it holds, or does not.
        threshold_s: of its rule, counted from then.
        kills: of parts, right after it was put in and after it was taken away.
        brings: lines of what follows from it and is told beside it.
    """

    name: str
    line: str
    put_in: Callable[[Bench], float]
    take_away: Callable[[Bench], float]
    kills: tuple[Kill, Kill]
    threshold_s: float = 0.0
    brings: tuple[str, ...] = ()


FAULTS = (
    Fault(
        "share away",
        "astral1: its last look found it in trouble",
        act.share_away,
        act.share_back,
        (Kill("code server"), Kill("daemon")),
    ),
    Fault(
        "disk nearly full",
        "file system backup: .* GB are free",
        act.disk_fills,
        act.undo("disk"),
        (Kill("MongoDB"), Kill(SENDER, as_mailed=True)),
    ),
    Fault(
        "daemon killed",
        "Dagster's (daemon has given|sensor alerts has looked)",
        act.daemon_dies,
        act.undo("daemon"),
        (Kill(SENDER, as_mailed=True), Kill("MongoDB")),
        threshold_s=DAEMON_SILENT_S,
    ),
    Fault(
        "job failing",
        "astral2: jobs of 1 file failed",
        act.job_fails,
        act.job_again,
        (Kill(EVERYTHING), Kill("Dagit")),
    ),
    Fault(
        "file corrupted in the backup",
        "astral1: the backup of 1 file is not what was recorded",
        act.backup_rots,
        act.backup_restored,
        (Kill(SENDER, as_mailed=True), Kill("MongoDB", as_mailed=True)),
        brings=("the last run of scrub failed",),
    ),
    Fault(
        "spray dying",
        "astral2: the last quality control run is out of control",
        act.control("20261128_hela_dda_bad.raw", spray_dies=True),
        act.control("20261128_hela_dda_good.raw", spray_dies=False),
        (Kill("MongoDB", as_mailed=True), Kill(EVERYTHING)),
    ),
    Fault(
        "instrument silent",
        "astral1: no new file for",
        act.falls_silent,
        act.measures_again,
        (Kill("daemon"), Kill("code server")),
        threshold_s=STALL_S,
    ),
    Fault(
        "clock wrong",
        "astral1: its clock is .* ahead of ours",
        act.clock_goes_wrong,
        act.clock_is_set,
        (Kill(EVERYTHING, as_mailed=True), Kill("page")),
    ),
    Fault(
        "key expired",
        "Dagit's certificate has expired",
        act.key_expires,
        act.key_renewed,
        (Kill("Dagit"), Kill("daemon")),
    ),
    Fault(
        "sensor off",
        "the sensor astral2_watcher is switched off",
        act.switch("off"),
        act.switch("on"),
        (Kill(SENDER, as_mailed=True), Kill("MongoDB")),
    ),
)
