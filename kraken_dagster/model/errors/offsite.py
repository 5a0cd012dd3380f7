"""Errors of the second copy."""

from kraken_dagster.model.errors.files import FileError


class OffsiteError(FileError):
    """The second copy, on an S3 server."""

    transient = True


class OffsiteAway(OffsiteError):
    """The server does not answer, or reports an error of its own."""


class OffsiteRefused(OffsiteError):
    """The credentials are missing, wrong, or lack a right."""


class OffsiteUnfit(OffsiteError):
    """The bucket is missing, or keeps no versions."""


class OffsiteDiffers(OffsiteError):
    """The object is not what was recorded of it."""
