"""What reads an instrument, at the rate of a scrub."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.files.marks import RESTLESS, SourceLook
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.retention.rules import require_record
from kraken_dagster.retention.archiving.rename_checks import MovePlan, OnLook
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.refusals import watched
from kraken_dagster.runtime.services import Services

T = TypeVar("T")


T_co = TypeVar("T_co", covariant=True)


class _Act(Protocol[T_co]):
    def __call__(
        self,
        plan: MovePlan,
        *,
        may_go_on: Callable[[], bool],
        on_bytes: Callable[[int], None],
        on_scan: OnLook,
    ) -> T_co: ...


def within_its_rate(services: Services, held: Held, act: _Act[T]) -> T:
    """Calls what moves or compares; what it reads meanwhile keeps to the rate of a scrub."""
    plan = plan_of(services, held.raw_file)
    rate_limit = RateLimit(services.instrument(held.raw_file.instrument_id).scrub_mb_per_s)

    def call(beat: Callable[[int], None], may_go_on: Callable[[], bool]) -> T:
        def on_bytes(count: int) -> None:
            beat(count)
            rate_limit.took(count, beat)

        def on_scan(scan: SourceLook | None, held_times: bool | None) -> None:
            _keep_scan(services, held, scan, held_times)

        return act(plan, may_go_on=may_go_on, on_bytes=on_bytes, on_scan=on_scan)

    what = plan.instrument_folder / plan.original_name
    stall_s = services.instrument(held.raw_file.instrument_id).copy_stall_s
    return watched(held, call, stall_s=stall_s, what=what)


def plan_of(services: Services, raw_file: RawFile) -> MovePlan:
    instrument = services.instrument(raw_file.instrument_id)
    if raw_file.file_info:
        require_record(instrument.type, raw_file.id, raw_file.file_info)
    health = services.store.health.get(raw_file.instrument_id) or {}
    return MovePlan(
        instrument_folder=services.instrument_folder(raw_file.instrument_id),
        vendor=instrument.type,
        raw_file_id=raw_file.id,
        original_name=raw_file.original_name,
        sizes={name: fact.size or 0 for name, fact in raw_file.file_info.items()},
        main_size=raw_file.acquisition.get("ended_size"),
        scan=raw_file.source_look,
        digests={name: fact.md5 for name, fact in raw_file.file_info.items() if fact.md5},
        ctimes_count=health.get("ctimes_restless", 0) < RESTLESS,
    )


def _keep_scan(
    services: Services, held: Held, scan: SourceLook | None, held_times: bool | None
) -> None:
    """What was read is recorded at once: a move that fails then, and is tried again, reads no
    more. Change times that often differ alone mean nothing here, until they hold once."""
    raw_file = held.raw_file
    services.store.retention.source_seen(raw_file, scan, lease=held.lease)
    restless = (services.store.health.get(raw_file.instrument_id) or {}).get("ctimes_restless", 0)
    if (held_times and restless) or (held_times is False and scan is not None):
        services.store.health.change_times(raw_file.instrument_id, held=held_times)
