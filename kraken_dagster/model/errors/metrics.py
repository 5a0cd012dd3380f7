"""Errors of metrics and of what they are read from."""

from kraken_dagster.model.errors.base import KrakenError


class MetricsError(KrakenError):
    """Metrics can't be read from a result or a raw file."""


class MissingOutputError(MetricsError):
    """A required result file is not there."""


class FileFormatError(MetricsError):
    """A file is there, but can't be read or lacks a required column."""


class NoRowCounts(FileFormatError):
    """A table is complete, and none of its rows qualifies."""


class ReadingEnded(FileFormatError):
    """Reading exceeded its limits, or ended the process."""


class UnsupportedRawFile(MetricsError):
    """A program can't read this vendor's files."""


class OwnFunctionError(MetricsError):
    """A site's own function is missing, failed, or returned no metrics."""
