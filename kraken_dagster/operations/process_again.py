"""A file processed once more with settings that a person chooses: `kraken retry --settings`."""

from collections.abc import Sequence

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import Archived, InputRefused, KrakenError, StatusConflict
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import DecidedSettings, RawFile, Status
from kraken_dagster.model.settings import Settings
from kraken_dagster.operations.retry import require_processable
from kraken_dagster.quant.decide import as_fields, as_it_had_ended, settings_for
from kraken_dagster.quant.jobs.attempts import JOBS_COUNTER, decided, latest_of
from kraken_dagster.runtime.services import Services

FITTING = (Status.DONE, Status.DONE_NOT_QUANTED, Status.QUANTING_FAILED)


def process_again(
    services: Services,
    raw_file_id: str,
    settings: Sequence[Settings],
    *,
    asked_by: str,
    mode: OutputExistsMode = OutputExistsMode.ADD,
) -> tuple[RawFile, str]:
    """Has a file processed with these settings, whatever its project uses; what follows, in words.

    They take the place of those of the same software type that the file was processed with. Of
    other types what succeeded stays, and what failed is done once more with the settings that
    apply now. They hold for the file until all has ended well.

    Args:
        mode: what is to become of results that are there.

    Raises:
        UnknownRawFile
        InputRefused: no settings, or two of one software type.
        Archived: settings that are not to be used any more.
        StatusConflict: the file is on its way, is not processed, or somebody else has just asked.
    """
    require_usable(settings)
    raw_file = services.store.raw_files.get(raw_file_id)
    if raw_file.status not in FITTING or not raw_file.is_backed_up:
        raise _not_now(raw_file)
    require_processable(services, raw_file)
    attempt = services.store.raw_files.next_attempt(raw_file, JOBS_COUNTER)
    if attempt is None:
        raise _not_now(services.store.raw_files.get(raw_file_id))
    again = _decided(services, raw_file, settings, attempt)
    titles = ", ".join(item.title for item in settings)
    fields = _as_asked(raw_file, again, mode)
    reason = f"asked for again by {asked_by}, with {titles}"
    after = services.store.raw_files.transition(
        raw_file, Status.QUEUED_FOR_QUANTING, now=services.now(), reason=reason, fields=fields
    )
    return after, f"cluster_jobs submits its jobs with {titles} at its next tick"


def process_all_again(
    services: Services, raw_file_ids: Sequence[str], settings: Sequence[Settings], *, asked_by: str
) -> tuple[list[str], list[str]]:
    """The same of several files, each for itself; those that were queued, and why others weren't.

    Raises:
        InputRefused, Archived: nothing was done.
    """
    require_usable(settings)
    queued, refused = [], []
    for raw_file_id in dict.fromkeys(raw_file_ids):
        try:
            process_again(services, raw_file_id, settings, asked_by=asked_by)
        except KrakenError as error:
            refused.append(str(error))
        else:
            queued.append(raw_file_id)
    return queued, refused


def require_usable(settings: Sequence[Settings]) -> None:
    """
    Raises:
        InputRefused, Archived
    """
    types = [item.software_type for item in settings]
    if not settings or len({*types}) < len(types):
        raise InputRefused(
            "Of each software type one settings applies to a file",
            expected="settings, each of another software type",
            found=", ".join(f"{item.title} ({item.software_type})" for item in settings) or "none",
            next_step="ask with one of them, and with the other once that has ended.",
        )
    archived = next((item for item in settings if not item.is_active), None)
    if archived is not None:
        raise Archived(
            "Archived settings are not used anew",
            file=archived.title,
            next_step="name another version; `kraken settings list` shows them.",
        )


def _as_asked(
    raw_file: RawFile, again: Sequence[DecidedSettings], mode: OutputExistsMode
) -> dict[str, object]:
    return {
        "quant_settings": as_fields(again),
        "output_exists_mode": mode.value,
        **as_it_had_ended(raw_file),
    }


def _decided(
    services: Services, raw_file: RawFile, settings: Sequence[Settings], attempt: int
) -> list[DecidedSettings]:
    types = {item.software_type for item in settings}
    return [
        *_chosen(services, raw_file, settings, attempt),
        *_others(services, raw_file, types, attempt),
    ]


def _chosen(
    services: Services, raw_file: RawFile, settings: Sequence[Settings], attempt: int
) -> list[DecidedSettings]:
    return [
        DecidedSettings(
            name=item.name,
            version=item.version,
            attempt=attempt,
            engine=services.engine_of(raw_file.instrument_id, item),
            chosen=True,
        )
        for item in settings
    ]


def _others(
    services: Services, raw_file: RawFile, types: set[str], attempt: int
) -> list[DecidedSettings]:
    """What the file has of other software types."""
    jobs = services.store.jobs.of(raw_file.id)
    if raw_file.status is Status.QUANTING_FAILED:
        applying = settings_for(services, raw_file)
        others = [item for item in applying if item.software_type not in types]
        return decided(services, raw_file, others, attempt, jobs)
    return [
        DecidedSettings(
            name=job.settings_name,
            version=job.settings_version,
            attempt=job.attempt,
            engine=job.engine,
        )
        for job in latest_of(raw_file, jobs)
        if job.state is JobState.SUCCEEDED
        and job.failure is None
        and job.software_type not in types
    ]


def _not_now(raw_file: RawFile) -> StatusConflict:
    return StatusConflict(
        "Only a file that has ended, and is backed up, is processed with other settings",
        file=raw_file.id,
        expected=f"status {', '.join(FITTING)}",
        found=raw_file.status if raw_file.is_backed_up else f"{raw_file.status}, without a backup",
        next_step="wait until it has ended; `kraken show` says what it waits for.",
    )
