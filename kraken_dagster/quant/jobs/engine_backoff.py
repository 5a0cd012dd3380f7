"""Which engines can't be asked, and when each is asked again: kept in MongoDB.

Each code location has its own pause, since one may be without a way to a cluster that others reach.
"""

from datetime import datetime, timedelta

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.services import Services

FIRST_WAIT_S, LONGEST_WAIT_S = 15.0, 300.0
_LATELY = timedelta(minutes=2)
_REFUSAL_COUNTS = timedelta(seconds=2 * LONGEST_WAIT_S)


def failure_of(services: Services, engine_name: str, now: datetime) -> str | None:
    """Why an engine is not asked from here now: it gave no answer, and its time has not come
    again."""
    known = services.store.health.engine_refusal(engine_name, services.config.location)
    if known is None or known["ask_again_at"] <= now:
        return None
    return str(known["status_details"])


def failures_of(services: Services, engine_name: str) -> int:
    """How often in a row it could not be asked from here."""
    known = services.store.health.engine_refusal(engine_name, services.config.location)
    return 0 if known is None else int(known["failures"])


def note_refusal(services: Services, engine_name: str, error: KrakenError) -> None:
    """Records that an engine can't be asked from here. It is left alone for a while, longer each
    time. For the engine as a whole that counts unless another code location is answered."""
    health, location, now = services.store.health, services.config.location, services.now()
    failures = failures_of(services, engine_name) + 1
    wait = min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LONGEST_WAIT_S)
    again = now + timedelta(seconds=wait)
    health.engine_refused(
        engine_name,
        location,
        details=str(error),
        failures=failures,
        ask_again_at=again,
        now=now,
    )
    known = health.engine(engine_name) or {}
    asked_by, asked_at = known.get("asked_by"), known.get("updated_at_")
    if asked_by in (None, location) or asked_at is None or now - asked_at > _LATELY:
        health.engine_unwell(
            engine_name, details=str(error), failures=failures, ask_again_at=again, now=now
        )


def note_answer(services: Services, engine_name: str, *, jobs: int, blocked: list[str]) -> None:
    """Records that an engine was asked from here, and who can't ask it."""
    health, here, now = services.store.health, services.config.location, services.now()
    health.engine_reached(engine_name, here)
    deaf = [
        f"the code location {item['location']!r} can't ask it: {item['status_details']}"
        for item in health.engine_refusals(engine_name, since=now - _REFUSAL_COUNTS)
    ]
    details = "; ".join([*blocked, *deaf]) or f"{jobs} jobs are open"
    health.engine_well(
        engine_name, details=details, blocked=bool(blocked or deaf), location=here, now=now
    )
