"""Dagster's names for what a raw file and its steps are called."""

import dagster as dg

from kraken_dagster.domain.config import KrakenConfig
from kraken_dagster.domain.engines import SlurmEngine

RAW_FILE, BACKUP, QUANT_JOB, QUANT_RESULT, METRICS = (
    "raw_file",
    "backup",
    "quant_job",
    "quant_result",
    "metrics",
)
DIGESTS_MATCH = "digests_match"  # the check of `backup`
ASSETS = (RAW_FILE, BACKUP, QUANT_JOB, QUANT_RESULT, METRICS)

TAG_STEP = "kraken/step"
TAG_ATTEMPT = "kraken/attempt"
TAG_INSTRUMENT = "kraken/instrument"


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


def archive_job(instrument_id: str) -> str:
    return f"{instrument_id}_archive"


PURGE_JOB, SCRUB_JOB = "purge", "scrub"
REBUILD_JOB, RETIRE_JOB = "rebuild_from_mongodb", "retire_partitions"


def copy_pool(instrument_id: str) -> str:
    return f"file_copy_{instrument_id}"


CLUSTER_POOL = "cluster_slots"


def pool_limit(instance: dg.DagsterInstance, pool: str, *, default: int) -> int:
    """The limit that was set for a pool in the UI or by the CLI, else `default`."""
    limits = {item.name: item for item in instance.event_log_storage.get_pool_limits()}
    found = limits.get(pool)
    return default if found is None or found.from_default else found.limit


def slots_of_all_engines(instance: dg.DagsterInstance, config: KrakenConfig) -> dict[str, int]:
    """How many jobs may be open on each engine.

    The pool is meant for clusters: where there is one it says nothing of jobs on this machine.
    """
    return {name: _slots(instance, config, name) for name in config.engines}


def _slots(instance: dg.DagsterInstance, config: KrakenConfig, engine: str) -> int:
    entry = config.engines[engine]
    has_cluster = any(isinstance(item, SlurmEngine) for item in config.engines.values())
    if has_cluster and not isinstance(entry, SlurmEngine):
        return entry.slots
    return pool_limit(instance, CLUSTER_POOL, default=entry.slots)
