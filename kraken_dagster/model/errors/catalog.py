"""Errors of projects, settings and assignments."""

from kraken_dagster.model.errors.base import KrakenError


class CatalogError(KrakenError):
    """Projects, settings, and what runs on which file."""


class InputRefused(CatalogError):
    """Fields that break a rule; each is named."""


class UnknownAlert(InputRefused):
    """No such alert is open."""


class UnknownProject(CatalogError):
    """There is no such project."""


class UnknownAssignment(CatalogError):
    """The project does not use these settings there, or not only there."""


class Archived(CatalogError):
    """A project or settings that are archived take no new assignment."""


class AlreadyThere(CatalogError):
    """It was added before, or another process just added it."""
