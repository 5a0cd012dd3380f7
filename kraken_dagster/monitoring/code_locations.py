"""Several code locations on one MongoDB: each says that it lives and what it serves."""

import os
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kraken_dagster.fs.processes.pid_namespace import pid_namespace
from kraken_dagster.runtime.open_store import HOME_VARIABLE
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.instances import LIVES_FOR, Instance

_TICKS = 3


def sign_of_life(
    services: Services, *, interval_s: float, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Records that this code location lives; returns in words why it must wait.

    One that was started anew waits until its last life has been silent for a while: of two at once
    under one name each would take the other's jobs for dead. One without a name has nobody to tell;
    for one of a `kraken up` that does it.
    """
    config, now, namespace = services.config, services.now(), pid_namespace()
    if not config.is_named or HOME_VARIABLE in environment:
        return None
    name = Instance.location_name(config.location)
    before = services.store.instances.get(name)
    if before is not None and before.namespace != namespace and before.lives(now):
        silent_at = before.seen_at + timedelta(seconds=before.lives_for_s)
        return (
            f"the code location {config.location!r} gave a sign of life from another process "
            f"space, on {before.host}, at {before.seen_at:%H:%M:%S} UTC. Where it was started anew "
            f"it goes on by itself after {silent_at:%H:%M:%S} UTC; where two run under one name, "
            "give one another KRAKEN_LOCATION"
        )
    here = before is not None and before.namespace == namespace
    instance = Instance(
        id=name,
        host=socket.gethostname(),
        home=str(config.home),
        pid=os.getpid(),
        instruments=list(config.instruments),
        since=before.since if here and before is not None else now,
        seen_at=now,
        location=config.location,
        namespace=namespace,
        lives_for_s=max(LIVES_FOR.total_seconds(), _TICKS * interval_s),
    )
    services.store.instances.seen(instance)
    return None


def code_locations(services: Services) -> list[dict[str, Any]]:
    """Every code location that has a name; `told`: what is wrong with it.

    One that serves nothing that is in instruments.yaml any more is no loss when it is silent.
    """
    now, found = services.now(), []
    for item in sorted(services.store.instances.locations(), key=lambda it: it.id):
        serves = [name for name in item.instruments if name in services.config.all_instruments]
        lives, told = item.lives(now), None
        if serves and not lives:
            told = (
                f"the code location {item.location!r} on {item.host} is silent since "
                f"{item.seen_at:%Y-%m-%d %H:%M:%S} UTC, and serves {', '.join(serves)}: start it; "
                "is its sensor cluster_jobs on?"
            )
        found.append(
            {
                "location": item.location,
                "host": item.host,
                "instruments": item.instruments,
                "since": item.since,
                "seen_at": item.seen_at,
                "lives": lives,
                "told": told if _is_last(item, services) else None,
            }
        )
    return found


def suffixes(services: Services) -> list[str]:
    """Of the names that Dagster has of all code locations, an empty one for that of all."""
    named = (f"_{item.location}" for item in services.store.instances.locations())
    return sorted({"", services.config.suffix, *named})


def _is_last(item: Instance, services: Services) -> bool:
    """Whether nobody else has served these instruments since."""
    last = services.store.instances.last(serving=item.instruments)
    return last is None or last.id == item.id
