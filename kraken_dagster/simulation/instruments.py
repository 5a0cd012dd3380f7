"""Simulated mass spectrometers, which write acquisitions as Thermo's, Bruker's and Sciex's do.

They know nothing of Kraken's rules: the names of the vendors' files stand here and in `writers`
once more, so that a mistake in `domain.vendors` shows.
"""

import math
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.writers import (
    SCIEX_COMPANIONS,
    write_bruker,
    write_sciex,
    write_thermo,
)

Vendor = Literal["thermo", "bruker", "sciex"]
Outcome = Literal["ok", "corrupted", "no_main_file"]

EXTENSIONS: dict[Vendor, str] = {"thermo": ".raw", "bruker": ".d", "sciex": ".wiff"}
MIN_APPENDS = 20
MAX_GAP_S = 0.4  # real time between appends, with a margin to the half second that is promised
MIN_SIZE_BYTES = 4096

_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]*")
_OUTCOMES: dict[Vendor, tuple[Outcome, ...]] = {
    "thermo": ("ok", "corrupted"),
    "bruker": ("ok", "no_main_file"),
    "sciex": ("ok",),
}


@dataclass(frozen=True)
class Acquisition:
    """What an instrument is to acquire.

    Args:
        name: of the raw file, with the vendor's extension: `x.raw`, `x.d`, `x.wiff`.
        minutes: of laboratory time that it takes.
        size_bytes: of `x.raw`, of `analysis.tdf_bin`, of the four files of a Sciex together; at
            least 4096.
        outcome: `corrupted` (Thermo) ends early under another name, `no_main_file` (Bruker) never
            writes `analysis.tdf_bin`.
        seed: equal seeds give equal data.
        spray_dies: in the middle of the acquisition (Thermo).

    Raises:
        ValueError: an argument is none of these.
    """

    name: str
    vendor: Vendor
    minutes: float
    size_bytes: int
    outcome: Outcome = "ok"
    seed: int = 0
    spray_dies: bool = False

    def __post_init__(self) -> None:
        if self.vendor not in EXTENSIONS:
            raise ValueError(f"Expected a vendor of {sorted(EXTENSIONS)}, found {self.vendor!r}.")
        if not (_NAME.fullmatch(self.name) and self.name.endswith(self.extension) and self.stem):
            raise ValueError(
                f"Expected a name of letters, digits and _+.- that ends in {self.extension}, "
                f"found {self.name!r}."
            )
        if self.outcome not in _OUTCOMES[self.vendor]:
            raise ValueError(f"A {self.vendor} has no outcome {self.outcome!r}: {self.name!r}.")
        if not self.minutes > 0 or self.size_bytes < MIN_SIZE_BYTES:
            raise ValueError(
                f"Expected more than 0 minutes and at least {MIN_SIZE_BYTES} bytes, found "
                f"{self.minutes} and {self.size_bytes}: {self.name!r}."
            )

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.vendor]

    @property
    def stem(self) -> str:
        return self.name[: -len(self.extension)]

    @property
    def corrupted_name(self) -> str:
        """The name that a failed acquisition is given by Thermo's software."""
        return f"{self.stem}_CORRUPTED{self.extension}"


class SimulatedInstrument:
    """Writes acquisitions into `folder`, which it makes if need be, and nothing anywhere else."""

    def __init__(self, folder: Path, vendor: Vendor, clock: LabClock) -> None:
        self.folder = folder
        self.vendor = vendor
        self._clock = clock

    def acquire(self, acquisition: Acquisition) -> None:
        """Blocks until the acquisition is written, which takes its minutes of laboratory time.

        Raises:
            FileExistsError, ValueError: as `steps`.
            LaboratoryClosed: the clock was closed; the acquisition stays half-written.
        """
        with closing(self.steps(acquisition)) as steps:
            for minutes in steps:
                self._clock.sleep_minutes(minutes)

    def steps(self, acquisition: Acquisition) -> Generator[float, None, None]:
        """Yields after every append the minutes of laboratory time that pass before the next.

        What follows the last append (the mark that all is written, the renaming of a failed
        acquisition) happens when the generator is exhausted.

        Raises:
            FileExistsError: a file of the acquisition is there already; nothing is written.
            ValueError: an acquisition of another vendor.
        """
        if acquisition.vendor != self.vendor:
            raise ValueError(
                f"Expected an acquisition of a {self.vendor}, found {acquisition.vendor!r}."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in _top_level_names(acquisition):
            if (self.folder / name).exists():
                raise FileExistsError(f"Not overwritten by an acquisition: {self.folder / name}")
        real_seconds = self._clock.real_seconds(acquisition.minutes)
        appends = max(MIN_APPENDS, math.ceil(real_seconds / MAX_GAP_S))
        for _ in _writer(self.folder, acquisition, appends):
            yield acquisition.minutes / appends


def _top_level_names(acquisition: Acquisition) -> list[str]:
    if acquisition.vendor == "sciex":
        return [acquisition.name, *(acquisition.stem + ending for ending in SCIEX_COMPANIONS)]
    if acquisition.outcome == "corrupted":
        return [acquisition.name, acquisition.corrupted_name]
    return [acquisition.name]


def _writer(folder: Path, acquisition: Acquisition, appends: int) -> Iterator[None]:
    raw, size_bytes, seed = folder / acquisition.name, acquisition.size_bytes, acquisition.seed
    match acquisition.vendor:
        case "thermo":
            fails = acquisition.outcome == "corrupted"
            corrupted = folder / acquisition.corrupted_name if fails else None
            return write_thermo(
                raw,
                minutes=acquisition.minutes,
                size_bytes=size_bytes,
                seed=seed,
                appends=appends,
                corrupted=corrupted,
                spray_dies=acquisition.spray_dies,
            )
        case "bruker":
            return write_bruker(
                raw,
                minutes=acquisition.minutes,
                size_bytes=size_bytes,
                seed=seed,
                appends=appends,
                main_file=acquisition.outcome != "no_main_file",
            )
        case "sciex":
            return write_sciex(raw, size_bytes=size_bytes, seed=seed, appends=appends)
