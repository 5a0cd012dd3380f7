"""What a reader takes from a raw file: its scans, traces of other detectors, and what it says of
itself. No metric is made here (`metrics`), and no file is opened.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

Fact = float | int | str | None
LONGEST_FACT = 1_000  # characters
# Beyond them a number was not measured, but damaged.
MOST_INTENSITY = 1e18
MOST_MZ = 1e6
MOST_MINUTES = 1e5
MOST_INJECTION_MS = 1e6


def numbers() -> "array[float]":
    return array("d")


def levels() -> "array[int]":
    return array("B")


@dataclass(frozen=True)
class Scans:
    """One entry for each scan (Bruker: for each frame), in the order of time.

    A column is as long as `ms_level`, or empty where the format has no such number.

    Args:
        ms_level: 1 to 10.
        rt_min: retention time in minutes, never falling.
        tic: total ion current, in the instrument's own units.
        base_peak: intensity of the highest peak, likewise.
        injection_ms: ion injection or accumulation time; NaN where there is none.
        low_mz, high_mz: range that was measured.
        precursor_mz: of the first isolation; NaN where there is none.
    """

    ms_level: "array[int]" = field(default_factory=levels)
    rt_min: "array[float]" = field(default_factory=numbers)
    tic: "array[float]" = field(default_factory=numbers)
    base_peak: "array[float]" = field(default_factory=numbers)
    injection_ms: "array[float]" = field(default_factory=numbers)
    low_mz: "array[float]" = field(default_factory=numbers)
    high_mz: "array[float]" = field(default_factory=numbers)
    precursor_mz: "array[float]" = field(default_factory=numbers)

    def __len__(self) -> int:
        return len(self.ms_level)


@dataclass(frozen=True)
class Trace:
    """Values over retention time. `name` is of `a-z`, `0-9` and `_`; `title` is its writer's."""

    name: str
    unit: str
    rt_min: "array[float]"
    values: "array[float]"
    title: str = ""


@dataclass(frozen=True)
class RawContents:
    """What was read of one raw file.

    Args:
        reader: its name, for provenance.
        format_version: of the file, as the reader tells it.
        facts: instrument, method, sample and times, by the names in docs/metrics.md.
        complete: whether the index was read to its last entry and all that it points to is there;
            None where the format doesn't tell.
        incomplete: why not, in one sentence.
        gradient_start_min: from where `gradient_length` counts.
        traces: of other detectors, such as a pump.
        extra: metrics that only this reader has.
    """

    reader: str
    format_version: str
    scans: Scans = field(default_factory=Scans)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    complete: bool | None = None
    incomplete: str = ""
    gradient_start_min: float = 0.0
    traces: tuple[Trace, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict)
