"""Records the last tick of every sensor and schedule in MongoDB, as one wrapper around each.

So that who has no Dagster at hand (the page, `kraken status`) knows when each last ticked, how long
that took, and what came of it. A tick never fails because this can't be recorded.
"""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.raw_file import short_details
from kraken_dagster.store.instances import Tick, TickKind, TickOutcome
from resources.kraken import KrakenResource

_log = logging.getLogger("kraken.ticks")


def recorded_sensor(config: KrakenConfig, sensor: dg.SensorDefinition) -> dg.SensorDefinition:
    """The same sensor, whose ticks are recorded."""

    def tick(context: dg.SensorEvaluationContext, kraken: dg.ResourceParam[KrakenResource]) -> Any:
        return _recorded(
            lambda: sensor(context),
            config,
            kraken,
            name=sensor.name,
            kind=TickKind.SENSOR,
            every_s=sensor.minimum_interval_seconds,
        )

    return dg.SensorDefinition(
        name=sensor.name,
        evaluation_fn=tick,
        minimum_interval_seconds=sensor.minimum_interval_seconds,
        default_status=sensor.default_status,
        description=sensor.description,
        tags=sensor.tags,
        **_targets(sensor),
    )


def _targets(sensor: dg.SensorDefinition) -> dict[str, Any]:
    """Jobs by themselves, or one by its name, or none."""
    if sensor.has_jobs:
        return {"jobs": sensor.jobs}
    return {"job_name": sensor.job_name} if sensor.targets else {}


def recorded_schedule(
    config: KrakenConfig, schedule: dg.ScheduleDefinition
) -> dg.ScheduleDefinition:
    """The same schedule, one made by `dg.schedule`, whose ticks are recorded."""

    @dg.schedule(
        name=schedule.name,
        job_name=schedule.job_name,
        cron_schedule=schedule.cron_schedule,
        execution_timezone=schedule.execution_timezone,
        default_status=schedule.default_status,
        description=schedule.description,
    )
    def tick(
        context: dg.ScheduleEvaluationContext, kraken: dg.ResourceParam[KrakenResource]
    ) -> Any:
        return _recorded(
            lambda: schedule(context), config, kraken, name=schedule.name, kind=TickKind.SCHEDULE
        )

    return tick


def _recorded(
    work: Callable[[], Any],
    config: KrakenConfig,
    kraken: KrakenResource,
    *,
    name: str,
    kind: TickKind,
    every_s: float | None = None,
) -> Any:
    at, begun = datetime.now(UTC), time.monotonic()
    outcome, details = TickOutcome.FAILED, "it was interrupted"
    try:
        answer = work()
        outcome, details = _told(answer)
    except Exception as error:
        details = f"{type(error).__name__}: {error}"
        raise
    else:
        return answer
    finally:
        _keep(
            config,
            kraken,
            name=name,
            kind=kind,
            location=config.location,
            at=at,
            took_s=round(time.monotonic() - begun, 3),
            outcome=outcome,
            details=short_details(details),
            every_s=every_s,
        )


def _told(answer: Any) -> tuple[TickOutcome, str]:
    """What a tick has answered, in words."""
    if isinstance(answer, dg.SkipReason):
        return TickOutcome.SKIPPED, answer.skip_message or ""
    requests = answer
    if isinstance(answer, dg.SensorResult):
        if answer.skip_reason is not None:
            return _told(answer.skip_reason)
        requests = answer.run_requests
    if isinstance(requests, dg.RunRequest):
        requests = [requests]
    count = len(requests) if isinstance(requests, Sequence) else 0
    if not count:
        return TickOutcome.SKIPPED, ""
    return TickOutcome.REQUESTED, "1 run" if count == 1 else f"{count} runs"


def _keep(config: KrakenConfig, kraken: KrakenResource, **fields: Any) -> None:
    try:
        kraken.store.create_store(config.mongodb.uri).ticks.ticked(Tick(**fields))
    except Exception as error:  # noqa: BLE001 - what a tick has done counts, told or not
        _log.warning("the tick of %a could not be recorded: %s", fields["name"], error)
