"""Dagster's names for what a raw file and its steps are called."""

import itertools
from collections.abc import Sequence

import dagster as dg
from sqlalchemy.exc import IntegrityError

from kraken_dagster.config.schema import KrakenConfig

RAW_FILE, BACKUP, QUANT_JOB, QUANT_RESULT, METRICS = (
    "raw_file",
    "backup",
    "quant_job",
    "quant_result",
    "metrics",
)
RAW_METRICS = "raw_metrics"
OFFSITE = "offsite"  # only where a second copy is configured
DIGESTS_MATCH, INDEX_COMPLETE = "digests_match", "index_complete"  # the checks of `backup`
IN_CONTROL = "in_control"  # the check of `metrics`, where there is quality control
ASSETS = (RAW_FILE, BACKUP, QUANT_JOB, QUANT_RESULT, METRICS)  # each follows on the one before
EVERY_ASSET = (RAW_FILE, BACKUP, RAW_METRICS, QUANT_JOB, QUANT_RESULT, METRICS)
WITH_OFFSITE = (*EVERY_ASSET, OFFSITE)

_AT_ONCE = 5000  # a database takes only so many values in one statement
_FEW = 50  # keys; more are cheaper found by reading all
_MOST_GAPS = 8

TAG_STEP = "kraken/step"
CATCHUP = "catchup"  # the step of runs that a catch-up launches
TAG_ATTEMPT = "kraken/attempt"
TAG_INSTRUMENT = "kraken/instrument"
TAG_FILES = "kraken/files"  # how many a sensor has requested a run for
TAG_COPIES = "kraken/copies"  # how many of them it may copy at once


def raw_files(instrument_id: str) -> dg.DynamicPartitionsDefinition:
    """One partition per raw file; its key leads back by `domain.raw_file.raw_file_id_of`."""
    return dg.DynamicPartitionsDefinition(name=f"{instrument_id}_raw_files")


def asset_key(instrument_id: str, asset: str) -> dg.AssetKey:
    return dg.AssetKey([instrument_id, asset])


def op_name(instrument_id: str, asset: str) -> str:
    return f"{instrument_id}__{asset}"


def ingest_job(instrument_id: str) -> str:
    return f"{instrument_id}_ingest"


def quant_job(instrument_id: str) -> str:
    return f"{instrument_id}_quant"


def collect_job(instrument_id: str) -> str:
    return f"{instrument_id}_collect"


def offsite_job(instrument_id: str) -> str:
    return f"{instrument_id}_offsite"


def archive_job(instrument_id: str) -> str:
    return f"{instrument_id}_archive"


def catchup_job(instrument_id: str) -> str:
    return f"{instrument_id}_catchup"


PURGE_JOB, SCRUB_JOB, SCRUB_OFFSITE_JOB = "purge", "scrub", "scrub_offsite"
REBUILD_JOB, RETIRE_JOB = "rebuild_from_mongodb", "retire_partitions"
EVALUATE_JOB = "evaluate_quality"
CLUSTER_JOBS_SENSOR, ALERTS_SENSOR = "cluster_jobs", "alerts"


def name_here(config: KrakenConfig, name: str) -> str:
    """The name of a job, sensor or schedule that is no single instrument's: of several code
    locations each has its own, so that none is taken for another's."""
    return f"{name}{config.suffix}"


def copy_pool(instrument_id: str) -> str:
    return f"file_copy_{instrument_id}"


CLUSTER_POOL = "cluster_slots"
OFFSITE_POOL = OFFSITE_SENSOR = "offsite_uploads"


def partitions_of(instance: dg.DagsterInstance, instrument_id: str) -> list[str]:
    """All of them, in the order of their adding."""
    return list(instance.get_dynamic_partitions(_name(instrument_id)))


def missing_partitions(
    instance: dg.DagsterInstance, instrument_id: str, keys: Sequence[str]
) -> list[str]:
    """Those that Dagster doesn't have, in the order given."""
    wanted = list(dict.fromkeys(keys))
    if len(wanted) <= _FEW:
        name = _name(instrument_id)
        return [key for key in wanted if not instance.has_dynamic_partition(name, key)]
    there = set(partitions_of(instance, instrument_id))
    return [key for key in wanted if key not in there]


def add_partitions(instance: dg.DagsterInstance, instrument_id: str, keys: Sequence[str]) -> None:
    """Adds those that aren't there, in this order, also while somebody else adds the same."""
    name = _name(instrument_id)
    for start in range(0, len(keys), _AT_ONCE):
        some = list(keys[start : start + _AT_ONCE])
        try:
            instance.add_dynamic_partitions(name, some)
        except IntegrityError:  # Dagster looks first and then adds; by now it sees the other's
            instance.add_dynamic_partitions(name, some)


def forget_partitions(instance: dg.DagsterInstance, instrument_id: str) -> int:
    """Takes all of an instrument's partitions away; what was recorded of them stays."""
    keys = partitions_of(instance, instrument_id)
    for key in keys:
        instance.delete_dynamic_partition(_name(instrument_id), key)
    return len(keys)


def stand_together(
    instance: dg.DagsterInstance,
    instrument_id: str,
    keys: Sequence[str],
    *,
    most_gaps: int = _MOST_GAPS - 1,
) -> None:
    """Sees to it that these partitions follow on each other, or nearly so.

    A backfill takes a run for each stretch of partitions without a gap, in the order in which
    they were added. Where that would be many runs they are added anew, at the end; what was
    recorded of them stays.
    """
    there = partitions_of(instance, instrument_id)
    places = {key: number for number, key in enumerate(there)}
    numbers = sorted(places[key] for key in keys)
    gaps = sum(after - before > 1 for before, after in itertools.pairwise(numbers))
    if gaps <= most_gaps:
        return
    for key in keys:
        instance.delete_dynamic_partition(_name(instrument_id), key)
    add_partitions(instance, instrument_id, keys)


def as_range(
    instance: dg.DagsterInstance, instrument_id: str, keys: Sequence[str]
) -> tuple[str, str]:
    """The first and the last of these partitions, once all are there and no other between them.

    No live run may be for a range that has one of them.
    """
    known = set(partitions_of(instance, instrument_id))
    add_partitions(instance, instrument_id, [key for key in keys if key not in known])
    stand_together(instance, instrument_id, keys, most_gaps=0)
    wanted = set(keys)
    found = [key for key in partitions_of(instance, instrument_id) if key in wanted]
    return found[0], found[-1]


def _name(instrument_id: str) -> str:
    return str(raw_files(instrument_id).name)
