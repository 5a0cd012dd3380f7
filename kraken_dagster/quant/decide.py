"""Decides what is run on one backed up raw file: its settings, and in which attempt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kraken_dagster.model.eligibility import (
    Decision,
    decide_processing,
    settings_in_scope,
)
from kraken_dagster.model.errors import ClusterError
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import ENDED, AskedAgain, DecidedSettings, RawFile, Status
from kraken_dagster.model.settings import AssignedSettings, Settings
from kraken_dagster.quant.jobs.attempts import JOBS_COUNTER, decided
from kraken_dagster.quant.jobs.engine_backoff import failure_of, note_refusal
from kraken_dagster.quant.jobs.handover import withdraw
from kraken_dagster.runtime.leases import Held
from kraken_dagster.runtime.services import Services

# A result's folder is named `out_<raw file id>`, and what programs write there after it again.
_LONGEST_NAME_BYTES = 200


@dataclass(frozen=True)
class QuantOutcome:
    """`submitted` jobs; none with the reason in words when there was nothing to submit."""

    raw_file: RawFile
    reason: str
    submitted: tuple[QuantJob, ...] = ()


def decide(
    services: Services,
    held: Held,
    *,
    by_hand: bool,
    fields: Mapping[str, Any] | None = None,
) -> QuantOutcome | None:
    """The outcome if the file is not to be processed; else its settings are recorded as decided.

    Args:
        fields: further ones of the file that change with it.
    """
    raw_file = held.raw_file
    settings = settings_for(services, raw_file)
    decision = decision_on(services, raw_file, has_settings=bool(settings))
    jobs = _without_dropped(services, raw_file, settings if decision.process else [])
    if not decision.process:
        return _not_processed(held, decision)
    attempt = _attempt(services, raw_file, jobs)
    raw_file = services.store.raw_files.current(raw_file.id)
    again = f"; asked for again, attempt {attempt}" if by_hand and (attempt or 0) > 1 else ""
    held.raw_file = held.transition(
        Status.QUEUED_FOR_QUANTING,
        of=raw_file,
        reason=_applies(settings) + again,
        fields={
            "retry_at": None,
            "quant_settings": as_fields(decided(services, raw_file, settings, attempt, jobs)),
            **as_it_had_ended(held.raw_file),
            **(fields or {}),
        },
    )
    return None


def decide_late(services: Services, raw_file: RawFile, run_id: str) -> RawFile:
    """The settings of a file that is queued without any: another program has queued it."""
    settings = settings_for(services, raw_file)
    jobs = services.store.jobs.of(raw_file.id)
    attempt = raw_file.attempts.get(JOBS_COUNTER) or _attempt(services, raw_file, jobs)
    raw_file = services.store.raw_files.current(raw_file.id)
    return services.store.raw_files.update(
        raw_file,
        {"quant_settings": as_fields(decided(services, raw_file, settings, attempt, jobs))},
        now=services.now(),
        note=_applies(settings),
        run_id=run_id,
    )


def _not_processed(held: Held, decision: Decision) -> QuantOutcome:
    assert decision.status is not None
    raw_file, details = held.raw_file, decision.details or ""
    if raw_file.status in (decision.status, *ENDED):
        return QuantOutcome(raw_file, details)
    return QuantOutcome(end(held, decision.status, decision.details), details)


def decision_on(services: Services, raw_file: RawFile, *, has_settings: bool) -> Decision:
    """Whether a file is processed, and why not."""
    instrument = services.instrument(raw_file.instrument_id)
    decision = decide_processing(
        vendor=instrument.type,
        raw_file_id=raw_file.id,
        original_name=raw_file.original_name,
        size_bytes=raw_file.size,
        acquisition_errors=raw_file.acquisition.get("errors", ()),
        skip_processing=instrument.skip_processing or instrument.skip_quanting,
        skip_pattern=instrument.skip_processing_pattern,
        has_settings=has_settings,
    )
    if decision.process and (reason := _unfit_for_processing(raw_file.id)):
        return Decision(False, Status.DONE_NOT_QUANTED, reason)
    return decision


def settings_for(services: Services, raw_file: RawFile) -> list[Settings]:
    """The settings that apply to a file, one for each software type.

    What a person chose for it stands before what its project uses, until all of it has ended well.
    """
    assigned = in_scope(services, raw_file, services.store.catalog.assigned(raw_file.project_id))
    if raw_file.status is Status.DONE:
        return assigned
    chosen = [
        services.store.catalog.settings(item.name, item.version)
        for item in raw_file.quant_settings
        if item.chosen
    ]
    types = {item.software_type for item in chosen}
    return [*chosen, *(item for item in assigned if item.software_type not in types)]


def in_scope(
    services: Services, raw_file: RawFile, assigned: Sequence[AssignedSettings]
) -> list[Settings]:
    """Those of its project's settings that apply to a file."""
    chosen = settings_in_scope(
        [item.scope for item in assigned],
        instrument_id=raw_file.instrument_id,
        vendor=services.instrument(raw_file.instrument_id).type,
        raw_file_id=raw_file.id,
    )
    return [item.settings for item in assigned if any(item.scope is entry for entry in chosen)]


def end(held: Held, status: Status, details: str | None) -> RawFile:
    return held.transition(
        status,
        reason=details,
        fields={"retry_at": None, "failures": 0, "output_exists_mode": None},
    )


def as_it_had_ended(raw_file: RawFile) -> dict[str, Any]:
    """What is kept of a file that had ended, until something is begun that was asked for again."""
    if raw_file.status not in ENDED:
        return {}
    before = AskedAgain(
        status=raw_file.status,
        details=raw_file.status_details,
        settings=raw_file.quant_settings,
        attempt=raw_file.attempts.get(JOBS_COUNTER),
    )
    return {"asked_again": before.model_dump()}


def as_fields(items: Sequence[DecidedSettings]) -> list[Mapping[str, Any]]:
    return [item.model_dump() for item in items]


def _applies(settings: Sequence[Settings]) -> str:
    names = ", ".join(item.name for item in settings) or "none"
    return f"{len(settings)} settings apply: {names}"


def _unfit_for_processing(raw_file_id: str) -> str | None:
    """Names that programs would trip over, though every character of them is fine."""
    if raw_file_id.startswith("-"):
        return "Filename starts with a dash."
    if len(raw_file_id.encode()) > _LONGEST_NAME_BYTES:
        return f"Filename is longer than {_LONGEST_NAME_BYTES} bytes."
    return None


def _without_dropped(
    services: Services, raw_file: RawFile, settings: Sequence[Settings]
) -> list[QuantJob]:
    """The file's jobs. What an error left intended, and is not decided on any more, is taken back:
    it holds a slot."""
    decided_on = {(item.name, item.version) for item in settings}
    kept = []
    for job in services.store.jobs.of(raw_file.id):
        dropped = (job.settings_name, job.settings_version) not in decided_on
        if dropped and job.state is JobState.INTENDED and withdraw_if_possible(services, job):
            continue
        kept.append(job)
    return kept


def withdraw_if_possible(services: Services, job: QuantJob) -> bool:
    """Whether an intention could be taken back: its engine could be asked, and has nothing."""
    if failure_of(services, job.engine, services.now()):
        return False
    try:
        return withdraw(services, job)
    except ClusterError as error:  # it keeps its slot until the cluster can be asked
        note_refusal(services, job.engine, error)
        return False


def _attempt(services: Services, raw_file: RawFile, jobs: Sequence[QuantJob]) -> int | None:
    """The number of the file's set of jobs. A set that an error cut short is completed, so that
    what was perhaps submitted is asked for by the same name."""
    begun = raw_file.attempts.get(JOBS_COUNTER)
    if raw_file.status is Status.ERROR and any(job.attempt == begun for job in jobs):
        return begun
    return services.store.raw_files.next_attempt(raw_file, JOBS_COUNTER)
