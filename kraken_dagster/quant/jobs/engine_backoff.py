"""Which engines can't be asked, and when each is asked again: kept in MongoDB."""

from datetime import datetime, timedelta

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.services import Services

FIRST_WAIT_S, LONGEST_WAIT_S = 15.0, 300.0


def failure_of(services: Services, engine_name: str, now: datetime) -> str | None:
    """Why an engine is not asked now: it gave no answer, and its time has not come again."""
    known = services.store.health.engine(engine_name)
    if known is None or known.get("ask_again_at") is None or known["ask_again_at"] <= now:
        return None
    return str(known["status_details"])


def note_refusal(services: Services, engine_name: str, error: KrakenError) -> None:
    """Records that an engine can't be asked. It is left alone for a while, longer each time."""
    now = services.now()
    failures = (services.store.health.engine(engine_name) or {}).get("failures", 0) + 1
    wait = min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LONGEST_WAIT_S)
    services.store.health.engine_unwell(
        engine_name,
        details=str(error),
        failures=failures,
        ask_again_at=now + timedelta(seconds=wait),
        now=now,
    )
