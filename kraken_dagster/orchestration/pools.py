"""The limits of Dagster's pools: what a person has set, else what instruments.yaml says."""

import dagster as dg

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.orchestration.partitions import CLUSTER_POOL

_OURS = "kraken/pool_limit/"  # in Dagster's storage: what Kraken itself has set a limit to


def pool_limit(instance: dg.DagsterInstance, pool: str, *, default: int) -> int:
    """The limit that a person has set for a pool in the UI or by the CLI, else `default`."""
    found = _limit(instance, pool)
    return default if found is None or found == _ours(instance, pool) else found


def settled_limit(instance: dg.DagsterInstance, pool: str, *, configured: int) -> int:
    """The same; where no person has set one, the pool is there with the configured limit, so that
    Dagit shows it."""
    found, ours = _limit(instance, pool), _ours(instance, pool)
    if found is not None and found != ours:
        return found
    if found != configured:
        instance.run_storage.set_cursor_values({f"{_OURS}{pool}": str(configured)})
        instance.event_log_storage.set_concurrency_slots(pool, configured)
    return configured


def slots_of_all_engines(instance: dg.DagsterInstance, config: KrakenConfig) -> dict[str, int]:
    """How many jobs may be open on each engine.

    The pool is meant for clusters: where there is one it says nothing of jobs on this machine.
    """
    has_cluster = any(isinstance(item, SlurmEngine) for item in config.engines.values())
    own = {name: item.slots for name, item in config.engines.items()}
    pooled = {
        name: item.slots
        for name, item in config.engines.items()
        if isinstance(item, SlurmEngine) or not has_cluster
    }
    if len({*pooled.values()}) == 1:
        limit = settled_limit(instance, CLUSTER_POOL, configured=min(pooled.values()))
        return {**own, **dict.fromkeys(pooled, limit)}
    limits = {
        name: pool_limit(instance, CLUSTER_POOL, default=slots) for name, slots in pooled.items()
    }
    return {**own, **limits}


def _limit(instance: dg.DagsterInstance, pool: str) -> int | None:
    """None where Dagster's own default holds."""
    limits = {item.name: item for item in instance.event_log_storage.get_pool_limits()}
    found = limits.get(pool)
    return None if found is None or found.from_default else found.limit


def _ours(instance: dg.DagsterInstance, pool: str) -> int | None:
    key = f"{_OURS}{pool}"
    kept = instance.run_storage.get_cursor_values({key}).get(key)
    return int(kept) if kept is not None and kept.isdecimal() else None
