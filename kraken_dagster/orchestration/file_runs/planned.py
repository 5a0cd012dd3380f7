"""Which assets of a run come after one, and which files a run has reported before."""

import json
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from kraken_dagster.orchestration.partitions import (
    ASSETS,
    BACKUP,
    QUANT_JOB,
    RAW_METRICS,
    asset_key,
)

FAILED_BEFORE = "failed files"


def has_next(context: dg.AssetExecutionContext, key: dg.AssetKey) -> bool:
    """Whether the run has the step that follows on this one."""
    return len([*from_here_on(context, key)]) > 1


def has_raw_metrics(context: dg.AssetExecutionContext, instrument_id: str) -> bool:
    """Whether the run reads the raw files, a step after the backup that none follows on."""
    inside = context.job_def.asset_layer.executable_asset_keys
    return asset_key(instrument_id, RAW_METRICS) in inside


def is_followed(context: dg.AssetExecutionContext, key: dg.AssetKey) -> bool:
    """Whether a later step of the run needs that this one doesn't fail as a whole."""
    instrument_id, name = key.path
    reads = name == BACKUP and has_raw_metrics(context, instrument_id)
    return reads or has_next(context, key)


def others_report(context: dg.AssetExecutionContext, key: dg.AssetKey) -> bool:
    """Whether it is for a step of the chain to tell what has failed before this one."""
    instrument_id, name = key.path
    inside = context.job_def.asset_layer.executable_asset_keys
    return name == RAW_METRICS and asset_key(instrument_id, QUANT_JOB) in inside


def from_here_on(context: dg.AssetExecutionContext, key: dg.AssetKey) -> Iterator[dg.AssetKey]:
    """This step's asset, and those of the run's further steps, as far as they follow on it."""
    instrument_id, name = key.path
    inside = context.job_def.asset_layer.executable_asset_keys
    names = ASSETS[ASSETS.index(name) :] if name in ASSETS else (name,)
    following = [asset_key(instrument_id, item) for item in names]
    return takewhile(lambda item: item in inside, following)


def reported_before(context: dg.AssetExecutionContext) -> list[tuple[str, str]]:
    """The files that failed in earlier steps of this run, which went on with the others."""
    found: list[tuple[str, str]] = []
    records = context.instance.get_records_for_run(
        context.run.run_id, of_type=DagsterEventType.STEP_OUTPUT
    ).records
    for record in records:
        event = record.event_log_entry.dagster_event
        metadata: Mapping[str, Any] = event.step_output_data.metadata if event else {}
        if FAILED_BEFORE in metadata:
            found += [
                (name, reported) for name, reported in json.loads(metadata[FAILED_BEFORE].value)
            ]
    return found
