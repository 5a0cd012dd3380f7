"""The sign of life of a run over many files: it holds leases on a few of them at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from kraken_dagster.model.errors import StoreError
from kraken_dagster.runtime.renewal import new_lease, renewed
from kraken_dagster.runtime.services import Services

_STEP = "batch"
_FORGOTTEN_AFTER = timedelta(days=7)


def batch_of(run_id: str) -> str:
    return f"batch {run_id}"


@contextmanager
def giving_life_signs(services: Services, *, run_id: str, lease_s: float) -> Iterator[None]:
    """While the block runs, and for `lease_s` after it, so that the run's next step can begin.

    Raises:
        StoreUnavailable
    """
    store, name, now = services.store.exclusive_runs, batch_of(run_id), services.now()
    lease = new_lease(_STEP, run_id=run_id, now=now, lease_s=lease_s)
    store.forget_lapsed(_STEP, before=now - _FORGOTTEN_AFTER)
    store.take(name, lease, now=now)

    def renew() -> bool:
        return store.renew(name, lease, services.now() + timedelta(seconds=lease_s))

    try:
        with renewed(renew, lease_s=lease_s):
            yield
    finally:
        with suppress(StoreError):
            renew()


def is_alive(services: Services, run_id: str, now: datetime) -> bool:
    return services.store.exclusive_runs.get(batch_of(run_id)).held(now) is not None
