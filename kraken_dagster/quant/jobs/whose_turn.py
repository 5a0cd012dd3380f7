"""Which code location asks an engine: of a cluster one for all, of its own machine each by itself.

Whoever asks a cluster holds a lease in MongoDB, and keeps it from tick to tick; the others read
what it has found. It is given up after one failure, since its holder may be the one host without a
way to the cluster, and lapses when its holder is gone.
"""

import secrets
import socket
from collections.abc import Iterable
from datetime import datetime, timedelta

from kraken_dagster.model.errors import LeaseHeld
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.raw_file import Lease
from kraken_dagster.runtime.services import Services

_STEP = "poll"
_LEASE_TICKS, _SHORTEST_LEASE_S = 3, 60.0


def take_turn(services: Services, engine: str, now: datetime) -> Lease | None:
    """The lease by which this code location asks the cluster; None where another one does.

    Raises:
        StoreUnavailable
    """
    config = services.config
    ticks_s = [config.instrument(item).watch_interval_s for item in config.instruments]
    lease_s = max(_SHORTEST_LEASE_S, _LEASE_TICKS * min(ticks_s, default=0))
    lease = Lease(
        token=secrets.token_hex(8),
        run_id=config.location,
        host=socket.gethostname(),
        step=_STEP,
        until=now + timedelta(seconds=lease_s),
    )
    try:
        services.store.exclusive_runs.take(_name(engine), lease, now=now)
    except LeaseHeld:
        return None
    return lease


def give_up_turn(services: Services, engine: str, lease: Lease) -> None:
    services.store.exclusive_runs.release(_name(engine), lease)


def turn_of(services: Services, engine: str) -> str | None:
    """The code location that asks the cluster now."""
    held = services.store.exclusive_runs.get(_name(engine)).held(services.now())
    return None if held is None else held.run_id


def is_ours(services: Services, job: QuantJob) -> bool:
    """Whether this code location can say what became of a job. Of a job on a machine that is the
    one that submitted it; of an older Kraken's job, the one that serves its instrument."""
    if services.on_cluster(job.engine):
        return True
    if job.location is not None:
        return job.location == services.config.location
    config = services.config
    return job.instrument_id in config.instruments or (
        job.instrument_id not in config.all_instruments
    )


def counted(services: Services, engine: str, jobs: Iterable[QuantJob]) -> list[QuantJob]:
    """Those that take slots here: of all code locations on a cluster, else this one's."""
    return [job for job in jobs if job.engine == engine and is_ours(services, job)]


def _name(engine: str) -> str:
    return f"{_STEP} {engine}"
