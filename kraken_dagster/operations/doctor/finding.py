"""What one check of `kraken doctor` has found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One check: `level` is ok, warning, error, or skipped where nothing was examined.

    A warning and an error say how to mend it.
    """

    level: str
    what: str
    found: str
