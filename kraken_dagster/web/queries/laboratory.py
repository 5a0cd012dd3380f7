"""What is known of the laboratory: instruments, projects, settings, alerts, verdicts."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kraken_dagster.alerts.actions import row as alert_row
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.settings import AssignedSettings
from kraken_dagster.quality.reported import verdict_row
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.queries.files import Name
from kraken_dagster.web.queries.plain import plain

MOST = 1_000

Row = dict[str, Any]


class AlertsQuery(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    instrument: Name | None = Field(None, description="Only alerts of this instrument.")
    resolved: bool = Field(False, description="Also alerts that are over.")
    limit: int = Field(100, ge=1, le=MOST, description="At most so many, the newest first.")


class VerdictsQuery(BaseModel):
    """Of one file or of an instrument's newest runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: Name | None = Field(None, description="Every verdict of this file, oldest first.")
    instrument: Name | None = Field(None, description="The newest runs of this instrument.")
    sample_class: Name | None = Field(None, description="Only runs of this sample class.")
    limit: int = Field(30, ge=1, le=200, description="Runs.")


def status_of(report: Mapping[str, Any]) -> Row:
    """What `kraken status` tells: what is wrong in `wrong`, each line with its next step.

    Args:
        report: `operations.report.status`, which takes a while; the page keeps one.
    """
    found: Row = plain(report)
    return found


def instruments_of(report: Mapping[str, Any]) -> list[Row]:
    found: list[Row] = plain(report.get("instruments", ()))
    return found


def projects_of(services: Services) -> list[Row]:
    """All projects with the settings that they use."""
    catalog = services.store.catalog
    found = []
    for project in catalog.projects():
        assigned, broken = catalog.assignments(project.id)
        found.append(
            {
                **plain(project),
                "settings": [_assigned(item) for item in assigned],
                "problems": [plain(item.problem) for item in broken],
            }
        )
    return found


def _assigned(item: AssignedSettings) -> Row:
    scope = item.scope
    row: Row = {
        "id": item.id,
        "settings_name": item.settings.name,
        "settings_version": item.settings.version,
        "software_type": scope.software_type,
        "scope": scope.scope,
        "excluded": sorted(scope.excluded),
        "raw_file_id_filter": scope.raw_file_id_filter,
    }
    return row


def settings_of(services: Services) -> list[Row]:
    """Every version of all settings."""
    found, _ = services.store.catalog.all_settings()
    rows: list[Row] = plain(found)
    return rows


def alerts_of(services: Services, query: AlertsQuery) -> list[Row]:
    """The alerts that are open, the newest first."""
    alerts = services.store.alerts
    if query.resolved:
        found = alerts.latest(instrument=query.instrument, limit=query.limit)
    else:
        found = list(reversed(alerts.current()))
        found = [item for item in found if query.instrument in (None, item.instrument)]
    return [plain(alert_row(services, item)) for item in found[: query.limit]]


def verdicts_of(services: Services, query: VerdictsQuery) -> list[Row]:
    """How quality control runs were judged, with the limits of that moment.

    Raises:
        UnknownRawFile
        InputRefused: neither a file nor an instrument is named.
    """
    quality = services.store.quality
    if query.file is not None:
        services.store.raw_files.current(query.file)
        found = quality.verdicts_of(query.file)
    elif query.instrument is not None:
        found = quality.newest(query.instrument, sample_class=query.sample_class, limit=query.limit)
    else:
        raise InputRefused(
            "Verdicts are of a file or an instrument",
            expected="`file` or `instrument`",
            next_step="name one of the two.",
        )
    hints = services.config.qc.hints
    return [{**plain(verdict_row(item, hints)), "metrics": plain(item.metrics)} for item in found]
