"""Puts the snapshot together: MongoDB, this machine's disk, pages and certificates.

What of one instrument can't be read is told, and keeps nothing of the others.
"""

import math
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_dagster.alerts.channels.channel import STUCK_AFTER
from kraken_dagster.alerts.rules.disks import FILE_SYSTEM
from kraken_dagster.alerts.snapshot import (
    DagsterFacts,
    Expiry,
    FailedFile,
    FileName,
    Health,
    InstrumentFacts,
    OutOfControl,
    Page,
    Pressure,
    Snapshot,
    StuckChannel,
    Trend,
    UnknownJob,
)
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import StoreUnavailable
from kraken_dagster.model.files.dates import dated
from kraken_dagster.model.quality import Outcome
from kraken_dagster.monitoring.disk_usage import AT
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.health import OFFSITE_COPIES

_NEWEST = 3
_LOOKED_AT = 20
_PAGE_TIMEOUT_S = 10.0
_TREND_OF = timedelta(days=7)
_SAMPLES_KEPT = timedelta(days=30)
_SAMPLED_WITHIN = timedelta(hours=1)  # of a look
_BEFORE_THE_FIRST_LOOK = timedelta(days=1)
_GB = 1024**3
_LOCATION_COUNTS = timedelta(hours=1)
_DISKS = (f"{FILE_SYSTEM}backup", f"{FILE_SYSTEM}output")
_PRESSURES = ("evosep_pump_hp_pressure_max", "msqc_evosep_pump_hp_pressure_max")
_GRADIENTS = ("gradient_length", "raw:gradient_length_m")


def gather(services: Services, dagster: DagsterFacts | None) -> Snapshot:
    """Everything that rules look at.

    Raises:
        StoreUnavailable
    """
    now, store, alerts = services.now(), services.store, services.config.alerts
    began_at = min(store.alerts.began_at(now), now)
    health = tuple(health_of(services))
    instruments: list[InstrumentFacts] = []
    unknown: dict[str, str] = {}
    for instrument_id in services.config.instruments:
        try:
            instruments.append(_instrument(services, instrument_id, began_at, now))
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - told as an alert; the others are looked at
            unknown[instrument_id] = f"{type(error).__name__}: {error}"
    return Snapshot(
        instruments=tuple(instruments),
        health=health,
        unknown=unknown,
        dagster=dagster,
        local_free_gb=_local_free_gb(services.config.home),
        jobs_unknown=tuple(_unknown_jobs(services, now)),
        pages=tuple(Page(url, why_down(url)) for url in alerts.health_urls),
        expiries=tuple(_expiries(services.config)),
        trends=tuple(
            Trend(disk, tuple(store.alerts.samples(disk, since=now - _TREND_OF, until=now)))
            for disk in _DISKS
        ),
        channels=tuple(_stuck_channels(services, now)),
        users=frozenset(alerts.users),
    )


def health_of(services: Services) -> Iterator[Health]:
    """Of what is configured: what another program left in the collection is none of ours."""
    names = {
        *services.config.instruments,
        *(f"purge {item}" for item in services.config.instruments),
        *(f"engine {item}" for item in services.config.engines),
        *_DISKS,
        *([] if services.config.offsite is None else [OFFSITE_COPIES]),
    }
    for item in services.store.alert_facts.statuses():
        seen = item.get("updated_at_")
        if item["_id"] in names or _of_another_location(item, services.now()):
            yield Health(
                name=str(item["_id"]),
                entity=str(item.get("entity_type")),
                status=str(item.get("status")),
                details=str(item.get("status_details") or ""),
                updated_at=seen if isinstance(seen, datetime) else None,
                free_gb=_number(item.get("free_space_gb")),
                total_gb=_number(item.get("total_space_gb")),
                clock_difference_s=_number(item.get("clock_difference_s")),
            )


def _of_another_location(item: Mapping[str, Any], now: datetime) -> bool:
    """Whether it is what a code location finds of a store that another one shows; not of one that
    is gone for good."""
    seen = item.get("updated_at_")
    of_store = str(item["_id"]).startswith(tuple(f"{disk}{AT}" for disk in _DISKS))
    return of_store and isinstance(seen, datetime) and now - seen < _LOCATION_COUNTS


def keep_samples(services: Services, snapshot: Snapshot, now: datetime) -> None:
    """Keeps how much is free on the stores and on the instruments, for their trends. What wasn't
    looked at for a while is nothing of now.

    Raises:
        StoreUnavailable
    """
    names = {*_DISKS, *services.config.instruments}
    for item in snapshot.health:
        is_new = item.updated_at is not None and abs(now - item.updated_at) < _SAMPLED_WITHIN
        if item.name in names and item.status == "ok" and item.free_gb is not None and is_new:
            services.store.alerts.sample(item.name, free_gb=item.free_gb, at=now)
    services.store.alerts.forget_samples(before=now - _SAMPLES_KEPT)


def _instrument(
    services: Services, instrument_id: str, began_at: datetime, now: datetime
) -> InstrumentFacts:
    facts, limits = services.store.alert_facts, services.config.alerts.thresholds
    entry = services.instrument(instrument_id)
    not_moved_before = now - timedelta(hours=limits.not_moved_hours)
    late_before = now - timedelta(hours=limits.no_backup_hours)
    failed = facts.failed(instrument_id, since=began_at - _BEFORE_THE_FIRST_LOOK)
    jobs_failed_since = now - timedelta(hours=limits.jobs_failed_hours)
    counts = services.store.raw_files.count_by_status(instrument_id)
    return InstrumentFacts(
        id=instrument_id,
        purges=entry.min_free_space_gb > 0 and entry.remove_files,
        counts={status.value: count for status, count in counts.items()},
        newest=tuple(_newest(facts.newest(instrument_id, limit=_LOOKED_AT))),
        not_moved=facts.count_not_moved(instrument_id, before=not_moved_before)
        if entry.move_files and entry.file_move_delay_m >= 0
        else 0,
        failed=tuple(map(_failed_file, failed)),
        jobs_failed=tuple(
            map(_failed_file, facts.jobs_failed(instrument_id, since=jobs_failed_since))
        ),
        upload_failed=tuple(facts.upload_failed(instrument_id)),
        without_backup=tuple(
            FileName(str(item["_id"]), item["created_at_"])
            for item in facts.without_backup(instrument_id, before=late_before)
        ),
        pressures=tuple(_pressures(services, instrument_id, now)),
        out_of_control=tuple(_out_of_control(services, instrument_id)),
    )


def _failed_file(item: Mapping[str, Any]) -> FailedFile:
    return FailedFile(
        id=str(item["_id"]),
        details=str(item.get("status_details") or ""),
        at=item["updated_at_"],
        waits_for_person=item.get("retry_at") is None,
        failures=int(item.get("failures") or 0),
        backup_damaged=item.get("ended_as") is not None,
    )


def _pressures(services: Services, instrument_id: str, now: datetime) -> Iterator[Pressure]:
    """Newest first."""
    facts = services.store.alert_facts
    since = now - timedelta(days=services.config.alerts.thresholds.pump_days)
    made = [
        (str(item["_id"]), item["created_at"]) for item in facts.made_since(instrument_id, since)
    ]
    metrics = facts.metrics([name for name, _ in made], (*_PRESSURES, *_GRADIENTS))
    for name, at in made:
        known = metrics.get(name, {})
        bar = next((value for key in _PRESSURES if (value := _number(known.get(key)))), None)
        if bar is not None:
            gradient = next((v for key in _GRADIENTS if (v := _number(known.get(key)))), None)
            yield Pressure(name, bar, gradient, at)


def _out_of_control(services: Services, instrument_id: str) -> Iterator[OutOfControl]:
    """Of each series the last run, if it is out of control."""
    judged = set()
    for verdict in services.store.quality.newest(instrument_id, limit=_LOOKED_AT):
        series = verdict.series.in_words()
        if series not in judged and verdict.outcome is not Outcome.NOT_JUDGED:
            judged.add(series)
            if verdict.outcome is Outcome.OUT_OF_CONTROL:
                yield OutOfControl(verdict.raw_file, series, verdict.reason)


def _newest(documents: Iterable[Mapping[str, Any]]) -> list[FileName]:
    """By dates that can be: an instrument whose clock was wrong has files of the future."""
    found = [
        FileName(str(item["_id"]), dated(item["created_at"], first_seen=item["created_at_"]))
        for item in documents
    ]
    return sorted(found, key=lambda item: item.at, reverse=True)[:_NEWEST]


def _local_free_gb(home: Path) -> float | None:
    with suppress(OSError):
        return shutil.disk_usage(home if home.exists() else home.parent).free / _GB
    return None


def _unknown_jobs(services: Services, now: datetime) -> Iterator[UnknownJob]:
    for item in services.store.alert_facts.unknown_jobs(before=now):
        yield UnknownJob(str(item["_id"]), str(item["engine"]), item["unknown_since"])


def why_down(url: str) -> str | None:
    """Why a page is not well; None if it answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=_PAGE_TIMEOUT_S) as answer:  # noqa: S310 - http only
            return None if answer.status == 200 else f"it answers with {answer.status}"
    except urllib.error.HTTPError as error:
        return f"it answers with {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"it gives no answer: {reason}"


def _expiries(config: KrakenConfig) -> Iterator[Expiry]:
    if config.dagit.certificate is not None:
        yield expiry("Dagit's certificate", config.dagit.certificate)


def expiry(name: str, path: Path) -> Expiry:
    """When the first certificate of a PEM file expires."""
    from cryptography import x509  # noqa: PLC0415 - a second to load, and few need it

    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        return Expiry(name, str(path), None, f"{type(error).__name__}: {error}")
    return Expiry(name, str(path), found.not_valid_after_utc.astimezone(UTC))


def _stuck_channels(services: Services, now: datetime) -> Iterator[StuckChannel]:
    waiting = [item for item in services.store.outbox.waiting() if item.error is not None]
    for name in sorted({item.channel for item in waiting}):
        mine = [item for item in waiting if item.channel == name]
        since = min(item.created_at for item in mine)
        if now - since >= STUCK_AFTER:
            yield StuckChannel(name, len(mine), since, mine[0].error or "")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
