"""Files that changed after their backup: what stands there is compared with it."""

from collections.abc import Callable
from datetime import datetime

from kraken_dagster.model.errors import (
    KrakenError,
    LeaseHeld,
    LeaseLost,
    NowhereFound,
    StatusConflict,
    StoreError,
)
from kraken_dagster.model.raw_file import RawFile, Step
from kraken_dagster.model.retention.rules import why_not_move
from kraken_dagster.retention.archiving.archive import MoveOutcome, refused, whats_away
from kraken_dagster.retention.archiving.rename import compare
from kraken_dagster.retention.archiving.rename_checks import MovePlan, OnLook
from kraken_dagster.retention.archiving.within_rate import within_its_rate
from kraken_dagster.runtime.leases import holding
from kraken_dagster.runtime.refusals import ARCHIVE, in_own_words
from kraken_dagster.runtime.services import Services


def due_for_comparison(services: Services, instrument_id: str, now: datetime) -> list[RawFile]:
    """Backed up files that a look found written to since, and that nobody holds."""
    return [
        item
        for item in services.store.retention.to_compare(instrument_id)
        if _why_not_compare(item, now) is None
    ]


def _why_not_compare(raw_file: RawFile, now: datetime) -> str | None:
    if raw_file.source_differs_at is None:
        return "no comparison is asked for"
    return why_not_move(raw_file, now=now, delay_m=0)


def compare_changed(services: Services, instrument_id: str, *, run_id: str) -> list[MoveOutcome]:
    """Compares what was written to after its backup, also where nothing is archived.

    Other content is registered as an acquisition of its own; what was only touched is recorded
    anew, and not read again.

    Raises:
        StoreUnavailable
    """
    outcomes: list[MoveOutcome] = []
    for raw_file in due_for_comparison(services, instrument_id, services.now()):
        try:
            outcomes.append(_compare_one(services, raw_file.id, run_id))
        except (LeaseHeld, LeaseLost, StatusConflict) as error:
            outcomes.append(MoveOutcome(raw_file, False, str(error)))
        if whats_away(services, instrument_id, outcomes[-1].problem) is not None:
            break
    return outcomes


def _compare_one(services: Services, raw_file_id: str, run_id: str) -> MoveOutcome:
    with holding(services, raw_file_id, step=Step.ARCHIVE, run_id=run_id) as held:
        without_lease = held.raw_file.model_copy(update={"lease": None})
        if reason := _why_not_compare(without_lease, services.now()):
            return MoveOutcome(held.raw_file, False, reason)
        try:
            with in_own_words(raw_file_id):
                within_its_rate(services, held, _compare)
        except StoreError:
            raise
        except NowhereFound as error:  # a look asks again, should it stand there again
            services.store.retention.source_seen(held.raw_file, None, lease=held.lease)
            return MoveOutcome(held.raw_file, False, str(error))
        except KrakenError as error:
            return refused(services, held, error)
        reason = "was written to after its backup; its bytes are the same"
        if held.raw_file.archive is not None:
            services.store.retention.clear(
                held.raw_file, now=services.now(), note=reason, fields=(ARCHIVE,)
            )
        return MoveOutcome(services.store.raw_files.get(raw_file_id), False, reason)


def _compare(
    plan: MovePlan,
    *,
    may_go_on: Callable[[], bool],  # noqa: ARG001 - it changes nothing
    on_bytes: Callable[[int], None],
    on_scan: OnLook,
) -> None:
    compare(plan, on_bytes=on_bytes, on_scan=on_scan)
