"""The configuration of the laboratory: thresholds of minutes where a real one has hours."""

from datetime import datetime
from pathlib import Path
from typing import Any

from kraken_dagster_tests.support.laboratory import impatient_dagster

SPEED = 240  # 15 seconds without growth end an acquisition, and 12 hours are three minutes
NIGHT_S = 12 * 3600 / SPEED
SEARCH = "search"
STALL_S = 180.0
DAEMON_SILENT_S = 120.0  # a busy machine takes a minute to start the code server again
BACKUP_FREE_GB = 0.25


def settings_of(
    folder: Path,
    *,
    certificate: Path,
    look_every_s: int,
    digest_at: datetime,
    smtp_port: int,
    webhook_url: str,
) -> dict[str, Any]:
    """instruments.yaml. Files with `_dda_` in their names are backed up and measured only."""
    mounted = {name: str(folder / "mnt" / name) for name in ("instruments", "backup", "output")}
    places = {name: str(folder / name) for name in ("settings", "software")}
    return {
        "home": ".",
        "simulation": {"speed": SPEED},
        "locations": mounted | places,
        "engines": {"local": {"slots": 2}},
        "dagit": {
            "certificate": str(certificate),
            "private_key": str(certificate.with_suffix(".key")),
        },
        "defaults": {
            "sensors": "running",
            "watch_interval_s": 5,
            "folder_timeout_s": 8,
            "lease_s": 20,
            "retry_after_s": 2,
            "file_move_delay_m": 1,
            "skip_processing_pattern": "_dda_",
        },
        "instruments": {name: {"type": "thermo"} for name in ("astral1", "astral2")},
        "qc": {
            "classes": {"hela": {"pattern": "hela"}},
            "metrics": {"tic_drops": {"side": "high", "upper": 0.5}},
        },
        "alerts": _alerts(look_every_s, digest_at, smtp_port, webhook_url),
    }


def _alerts(
    look_every_s: int, digest_at: datetime, smtp_port: int, webhook_url: str
) -> dict[str, Any]:
    to = [
        {"type": "smtp", "to": ["lab@example.org"]},
        {"type": "webhook", "url": webhook_url},
    ]
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    return {
        "audiences": {"operations": to, "laboratory": to},
        "smtp": {"host": "127.0.0.1", "port": smtp_port},
        "look_every_s": look_every_s,
        "digest": {"at": f"{digest_at:%H:%M}", "days": days},
        "thresholds": {
            "stale_minutes": 6,
            "sensor_silent_minutes": 6,
            "daemon_silent_minutes": DAEMON_SILENT_S / 60,
            "stall_instruments": ["astral1"],
            "stall_hours": STALL_S / 3600,
            "instrument_free_gb": 0.1,
            "backup_free_gb": BACKUP_FREE_GB,
            "output_free_gb": 0.1,
            "local_free_gb": 0.1,
            "pile_up_files": 40,
        },
    }


def dagster_settings() -> dict[str, Any]:
    """dagster.yaml as it is shipped, but for how long Dagster waits."""
    settings = impatient_dagster()
    settings["run_monitoring"] |= {"start_timeout_seconds": 180, "poll_interval_seconds": 5}
    return settings
