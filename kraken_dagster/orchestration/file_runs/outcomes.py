"""What became of each file of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import dagster as dg

Metadata = Mapping[str, dg.MetadataValue]


@dataclass(frozen=True)
class Check:
    """What a check of a file came to."""

    name: str
    passed: bool
    metadata: Metadata


@dataclass(frozen=True)
class Done:
    """What became of one file: materialised with `metadata`, or not; `reason` in words.

    `checks` are of this step's own asset, or of that which `checks_of` names.
    """

    reason: str
    metadata: Metadata | None = None
    checks: tuple[Check, ...] = ()
    checks_of: dg.AssetKey | None = None
    failure: dg.Failure | None = None
    unusual: bool = False
    begun: bool = True

    @property
    def word(self) -> str:
        """What became of the file, as `failures.counted` counts it."""
        if self.failure is not None:
            return "failed" if self.begun else "not_begun"
        return "idle" if self.metadata is None else "done"

    @property
    def stays(self) -> bool:
        """Whether the file had ended, and is as it was."""
        return had_ended(self.failure)


def had_ended(failure: dg.Failure | None) -> bool:
    return failure is not None and getattr(failure.__cause__, "stays", None) is not None


Work = Callable[[str], Done]
