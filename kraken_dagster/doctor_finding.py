"""What one check of `kraken doctor` has found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One check: `level` is ok, warning or error; a finding that isn't ok says how to mend it."""

    level: str
    what: str
    found: str
