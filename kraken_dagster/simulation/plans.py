"""What happens in the simulated laboratory: a plan per instrument, and what Kraken makes of it.

Plans are data, the same for the same arguments; `laboratory` carries them out.
"""

import random
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from kraken_dagster.simulation.instruments import EXTENSIONS, Acquisition, Outcome, Vendor

MINUTES = 20
PRACTICE_MARK = "_PRACTICE_"  # in the names of files whose search fails the first time
CORRUPTED_MINUTES = 120  # long enough for Kraken to see the file before it is renamed

_MODELS: dict[Vendor, str] = {"thermo": "Astral", "bruker": "TimsTOF", "sciex": "ZenoTOF"}
_SAMPLES = ("HeLa_200ng", "K562_200ng", "Plasma_100ng")
_PROJECT = re.compile(r"[A-Z0-9]{4,16}")


@dataclass(frozen=True)
class WaitUntilMoved:
    """An operator waits until Kraken has moved a file aside, to use its name once more."""

    name: str


PlanItem = Acquisition | WaitUntilMoved


@dataclass(frozen=True)
class ExpectedFile:
    """What a raw file should end as; `reason_contains` is a part of its status details.

    `may_be_missed`: on a slow machine nobody may have looked while it had that name. `explanation`
    is for whoever wonders whether it is meant to end like that.
    """

    original_name: str
    expected_status: str
    reason_contains: str = ""
    may_be_missed: bool = False
    explanation: str = ""


def running_number(start: datetime) -> int:
    """The second of the day: a plan that starts later that day has numbers of its own."""
    return start.hour * 3600 + start.minute * 60 + start.second


def demo_plan(
    vendor: Vendor,
    *,
    files: int,
    start: datetime,
    project: str,
    unit: int = 1,
    first_number: int | None = None,
    practice: bool = True,
) -> list[PlanItem]:
    """The demo's plan for an instrument.

    Args:
        files: ordinary ones. For a Thermo the spray dies in one of several; and there come on top:
            one that gets corrupted, one in DDA mode, and one under the name of the first, once
            Kraken has moved that aside.
        start: its date stands in the names.
        project: id of 4 to 16 of `A-Z0-9` to stand in the names, or empty for none.
        unit: which instrument of its model; names differ between units.
        first_number: of the running numbers that end the names; `running_number(start)` if None.
        practice: a Sciex gets one more, whose search fails the first time, for `kraken retry`.

    Raises:
        ValueError: `files` below 1, an unknown vendor, or a project id of another form.
    """
    _require_possible(vendor, files, project)
    if first_number is None:
        first_number = running_number(start)
    kinds = _kinds(vendor, files, practice=practice)
    head = f"{start:%Y%m%d}_{_MODELS[vendor]}{unit}_Evo05_SA" + (f"_{project}" if project else "")
    acquisitions = [
        _acquisition(vendor, head, kind, index=index, number=first_number + index)
        for index, kind in enumerate(kinds)
    ]
    if vendor != "thermo":
        return list(acquisitions)
    first = acquisitions[0]
    # Smaller than the first: while it grows it is never as large as what Kraken knows.
    again = replace(first, size_bytes=first.size_bytes * 3 // 5, seed=first.seed + 1)
    return [*acquisitions, WaitUntilMoved(first.name), again]


def _require_possible(vendor: Vendor, files: int, project: str) -> None:
    if files < 1 or vendor not in EXTENSIONS:
        raise ValueError(f"No plan for {files} files of vendor {vendor!r}.")
    if project and (not _PROJECT.fullmatch(project) or "DDA" in project):
        raise ValueError(f"Expected 4 to 16 of A-Z0-9 without DDA, found project id {project!r}.")


def _kinds(vendor: Vendor, files: int, *, practice: bool) -> list[str]:
    kinds = ["ok"] * files
    if vendor == "thermo":
        if files > 1:
            kinds[files // 2] = "spray"
        kinds.insert(1, "corrupted")
        kinds.insert(3, "dda")
    if vendor == "sciex" and practice:
        kinds.append("practice")
    return kinds


def _acquisition(vendor: Vendor, head: str, kind: str, *, index: int, number: int) -> Acquisition:
    sample = _SAMPLES[index % len(_SAMPLES)]
    mode = {"dda": "DDA", "practice": f"DIA{PRACTICE_MARK.rstrip('_')}"}.get(kind, "DIA")
    box, place = divmod(index, 96)
    vial = f"S{box + 1}-{'ABCDEFGH'[place // 12]}{place % 12 + 1}"
    name = f"{head}_{sample}_{mode}_{vial}_1_{number:05d}{EXTENSIONS[vendor]}"
    outcome: Outcome = "corrupted" if kind == "corrupted" else "ok"
    seed = zlib.crc32(name.encode())
    return Acquisition(
        name=name,
        vendor=vendor,
        minutes=CORRUPTED_MINUTES if kind == "corrupted" else MINUTES,
        size_bytes=random.Random(seed).randrange(1_000_000, 3_000_000),  # noqa: S311
        outcome=outcome,
        seed=seed,
        spray_dies=kind == "spray",
    )


def expected_outcomes(plan: Iterable[PlanItem]) -> list[ExpectedFile]:
    """Every raw file that Kraken should know in the end; a colliding name stands there twice."""
    return [
        expected for item in plan if isinstance(item, Acquisition) for expected in _expected(item)
    ]


def _expected(acquisition: Acquisition) -> list[ExpectedFile]:
    name = acquisition.name
    if acquisition.outcome == "corrupted":
        named = "File name indicates failed acquisition."
        renamed = "its instrument gave it up and renamed it"
        return [
            ExpectedFile(
                name,
                "acquisition_failed",
                "File got renamed",
                may_be_missed=True,
                explanation=renamed,
            ),
            ExpectedFile(
                acquisition.corrupted_name, "acquisition_failed", named, explanation=renamed
            ),
        ]
    if acquisition.outcome == "no_main_file":
        return [ExpectedFile(name, "acquisition_failed", "Main file was not created")]
    if PRACTICE_MARK in name:
        why = "its search fails the first time, on purpose"
        return [ExpectedFile(name, "quanting_failed", "kraken retry", explanation=why)]
    if "_dda_" in name.lower():
        return [ExpectedFile(name, "done_not_quanted", "Filename contains 'dda'.")]
    return [ExpectedFile(name, "done")]
