"""What would be done with a file of a name on an instrument, and why: nothing is changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kraken_dagster.model.eligibility import explain_scopes, projects_named_in
from kraken_dagster.model.errors import InputMissing, InputRefused, KrakenError, UnknownRawFile
from kraken_dagster.model.files.vendors import safe_relative
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, RawFile, Status
from kraken_dagster.model.settings import AssignedSettings, Settings
from kraken_dagster.quant.command import job_command
from kraken_dagster.quant.decide import decision_on
from kraken_dagster.quant.input_files import located
from kraken_dagster.quant.output_folder import job_paths, planned_folder
from kraken_dagster.runtime.services import Services


@dataclass(frozen=True)
class SettingsPreview:
    """Settings that the project is assigned, and whether they apply; `command` only if they do."""

    assigned: AssignedSettings
    applies: bool
    reason: str
    engine: str | None = None
    output: str | None = None
    command: Sequence[str] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Preview:
    file_name: str
    instrument_id: str
    project_id: str
    project_reason: str
    is_processed: bool
    reason: str
    settings: Sequence[SettingsPreview]
    broken: Sequence[str] = ()


def preview(services: Services, file_name: str, instrument_id: str) -> Preview:
    """The project of a file, and what would run on it.

    Raises:
        InputRefused: no such instrument, or a name that it never gives.
    """
    raw_file, project_reason = _raw_file(services, file_name, instrument_id)
    assigned, broken = services.store.catalog.assignments(raw_file.project_id)
    verdicts = explain_scopes(
        [item.scope for item in assigned],
        instrument_id=instrument_id,
        vendor=services.instrument(instrument_id).type,
        raw_file_id=raw_file.id,
    )
    decision = decision_on(
        services, raw_file, has_settings=any(verdict.applies for verdict in verdicts)
    )
    return Preview(
        file_name=file_name,
        instrument_id=instrument_id,
        project_id=raw_file.project_id or FALLBACK_PROJECT,
        project_reason=project_reason,
        is_processed=decision.process and not broken,
        reason=decision.details
        or ("what its project is assigned can't be used" if broken else "its settings apply"),
        broken=[f"assignment {item.id}: {item.problem}" for item in broken],
        settings=[
            _applied(services, raw_file, item, verdict.reason)
            if verdict.applies
            else SettingsPreview(item, applies=False, reason=verdict.reason)
            for item, verdict in zip(assigned, verdicts, strict=True)
        ],
    )


def _raw_file(services: Services, name: str, instrument_id: str) -> tuple[RawFile, str]:
    """The file as MongoDB knows it, or as it would be registered now; why it is its project's."""
    if instrument_id not in services.config.instruments:
        raise InputRefused(
            "No such instrument",
            expected=f"one of {', '.join(services.config.instruments)}",
            found=repr(instrument_id),
        )
    rules = services.rules(instrument_id)
    if not rules.matches(name):
        raise InputRefused(
            f"{instrument_id} never gives a file this name",
            expected=f"a name that ends in {rules.extension}",
            found=repr(name),
        )
    try:
        known = services.store.raw_files.get(name)
    except UnknownRawFile:
        known = None
    if known is not None and known.instrument_id == instrument_id:
        return known, "so it was recorded when the file was first seen"
    project_id, reason = _project_of(services, name)
    now = services.now()
    return RawFile(
        id=name,
        original_name=name,
        instrument_id=instrument_id,
        project_id=project_id,
        status=Status.QUEUED_FOR_MONITORING,
        created_at=now,
        created_at_=now,
        updated_at_=now,
    ), reason


def _project_of(services: Services, name: str) -> tuple[str, str]:
    projects = services.store.catalog.projects()
    active = projects_named_in(name, services.store.catalog.project_ids())
    if len(active) == 1:
        return active[0], "the name speaks of it, and of no other"
    if active:
        return FALLBACK_PROJECT, f"the name speaks of several: {', '.join(active)}"
    archived = projects_named_in(name, [item.id for item in projects if not item.is_active])
    if archived:
        return FALLBACK_PROJECT, f"the name speaks of {', '.join(archived)}, which is archived"
    return FALLBACK_PROJECT, "no part of the name between underscores is the id of a project"


def _applied(
    services: Services, raw_file: RawFile, item: AssignedSettings, reason: str
) -> SettingsPreview:
    settings = item.settings
    engine = services.engine_of(raw_file.instrument_id, settings)
    shown = SettingsPreview(item, applies=True, reason=reason, engine=engine)
    try:
        return _with_command(services, raw_file, settings, shown)
    except KrakenError as error:  # what would go wrong is what one wants to see
        return SettingsPreview(item, applies=True, reason=reason, engine=engine, problem=str(error))


def _with_command(
    services: Services, raw_file: RawFile, settings: Settings, shown: SettingsPreview
) -> SettingsPreview:
    assert shown.engine is not None
    relative = planned_folder(raw_file, settings)
    paths = job_paths(services, raw_file, settings, shown.engine, relative)
    project_id = raw_file.project_id or FALLBACK_PROJECT
    command = job_command(settings, paths, raw_file_id=raw_file.id, project_id=project_id)
    problems = list(_input_problems(services, settings))
    return SettingsPreview(
        shown.assigned,
        applies=True,
        reason=shown.reason,
        engine=shown.engine,
        output=paths.output,
        command=command,
        problem=" ".join(problems) or None,
    )


def _input_problems(services: Services, settings: Settings) -> Iterator[str]:
    folder = services.settings_folder(settings)
    for role, name in settings.input_names.items():
        try:
            located(services, folder / safe_relative(name), role=role)
        except InputMissing as error:
            yield str(error)
