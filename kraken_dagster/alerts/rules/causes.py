"""One cause is one alert: what holds and follows from another alert is not told.

What explains what is a table, not a graph. A cause goes on to explain until its alert is resolved:
what it kept from being looked at is looked at in the moments after it.
"""

from dataclasses import dataclass

from kraken_dagster.alerts.rules.disks import FILE_SYSTEM
from kraken_dagster.alerts.rules.programs import DAEMON_SILENT

_STALE = "stale_status"
_OF_NEW_FILES = frozenset({"instrument_stall", "queue_stop"})
_OF_WORK = frozenset({"status_pile_up", "no_backup", "not_moved"})
_BY_THE_DAEMON = _OF_NEW_FILES | _OF_WORK | {_STALE, "sensor_silent", "jobs_unknown"}
_BY_A_STORE = {
    ("health_failed", f"{FILE_SYSTEM}backup"): _OF_WORK,
    ("health_failed", f"{FILE_SYSTEM}output"): frozenset({"status_pile_up"}),
}
_BY_THE_INSTRUMENT = {
    "health_failed": _OF_NEW_FILES | {"no_backup", "not_moved"},
    _STALE: _OF_NEW_FILES,
}
_OF_A_SENSOR = frozenset({"sensor_off", "sensor_silent"})
_SHARED_SENSOR = "cluster_jobs"  # looks at stores and engines


@dataclass(frozen=True)
class Cause:
    """An alert, or a condition that is about to be one."""

    kind: str
    subject: str
    instrument: str | None

    def explains(self, other: "Cause") -> bool:
        """Whether the other one follows from this one."""
        kind, instrument = other.kind, other.instrument
        if self.kind == DAEMON_SILENT:
            return kind in _BY_THE_DAEMON
        if self.kind in _OF_A_SENSOR:
            return self._sensor_explains(kind, instrument)
        if kind in _BY_A_STORE.get((self.kind, self.subject), ()):
            return True
        return self.subject == instrument and kind in _BY_THE_INSTRUMENT.get(self.kind, ())

    def _sensor_explains(self, kind: str, instrument: str | None) -> bool:
        if instrument is None:
            return kind == _STALE and self.subject.startswith(_SHARED_SENSOR)
        if self.instrument != instrument:
            return False
        watches = self.subject == f"{instrument}_watcher"
        return kind == _STALE or (watches and kind in _OF_NEW_FILES)
