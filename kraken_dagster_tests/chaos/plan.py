"""What happens in a run, drawn from its seed: acquisitions, and faults with their times."""

import random
from dataclasses import dataclass

from kraken_dagster.simulation.instruments import EXTENSIONS, Outcome, Vendor

INSTRUMENTS: dict[str, Vendor] = {
    "thermo1": "thermo",
    "thermo2": "thermo",
    "bruker1": "bruker",
    "sciex1": "sciex",
}
STORES = ("backup", "output")
ACQUIRING_SHARE = 0.85  # of the minutes; faults end a little later
_FATES = ("plain",) * 12
_COMMON = ("grows", "replaced", "shrinks", "vanishes", "taken", "renamed", "odd_time", "debris")
_BY_VENDOR: dict[str, tuple[str, ...]] = {
    "thermo": ("dda", "corrupted", "fails", "big", "again"),
    "bruker": ("no_main_file", "dda", "fails", "big"),
    "sciex": ("dda", "fails"),
}
_OF_MOUNTS = ("away", "empty disk", "another disk", "full", "read-only")
_OF_SHARES = ("hangs", "EIO", "ESTALE", "EACCES", "EHOSTDOWN", "ENOTCONN", "EROFS")
_OF_PROCESSES = (
    *("kill daemon", "stop daemon", "kill web server", "kill code server", "stop code server"),
    *("kill runs", "stop runs", "kill everything", "restart", "kill MongoDB", "stop MongoDB"),
)
_OF_JOBS = ("kill job's shell", "kill job's program", "stop job")
_OTHERS = ("flip in backup", "flip in part", "home full", "delete Dagster's home")
_ON_PROCESSES = (*_OF_PROCESSES, "delete Dagster's home")
PROCESSES = "processes"
_SHORTEST_S, _LONGEST_S = 3.0, 25.0


@dataclass(frozen=True)
class PlannedAcquisition:
    """`seconds` is how long it takes; `trait` what befalls it, `plain` if nothing does."""

    number: int
    instrument: str
    name: str
    vendor: Vendor
    seconds: float
    size_bytes: int
    trait: str

    @property
    def outcome(self) -> Outcome:
        return self.trait if self.trait in ("corrupted", "no_main_file") else "ok"  # type: ignore[return-value]


@dataclass(frozen=True)
class PlannedFault:
    """At `at_s` seconds after the start, for `lasts_s`; `target` is a mount's name, or empty."""

    at_s: float
    lasts_s: float
    kind: str
    target: str = ""

    @property
    def thing(self) -> str:
        """What it acts on: a mount, the supervised processes as a whole, or what only it does."""
        return self.target or (PROCESSES if self.kind in _ON_PROCESSES else self.kind)


@dataclass(frozen=True)
class Plan:
    seed: int
    minutes: float
    through_fuse: frozenset[str]  # the mounts that are shares which can hang
    acquisitions: tuple[PlannedAcquisition, ...]
    faults: tuple[PlannedFault, ...]


def make_plan(*, seed: int, minutes: float, files: int) -> Plan:
    """The same for the same arguments."""
    chance = random.Random(seed)
    through_fuse = frozenset(
        name for name in (*INSTRUMENTS, *STORES) if name == "thermo2" or chance.random() < 0.5
    )
    acquisitions = tuple(_acquisitions(chance, minutes=minutes, files=files))
    faults = tuple(_faults(chance, minutes=minutes, through_fuse=through_fuse))
    return Plan(seed, minutes, through_fuse, acquisitions, faults)


def _acquisitions(chance: random.Random, *, minutes: float, files: int) -> list[PlannedAcquisition]:
    each = -(-files // len(INSTRUMENTS))
    room_s = minutes * 60 * ACQUIRING_SHARE / each
    found = []
    for number in range(each * len(INSTRUMENTS)):
        instrument = list(INSTRUMENTS)[number % len(INSTRUMENTS)]
        vendor = INSTRUMENTS[instrument]
        trait = chance.choice((*_FATES, *_COMMON, *_BY_VENDOR[vendor]))
        if number >= (each - 1) * len(INSTRUMENTS):
            trait = "plain"  # the last of each instrument: an empty folder would tell nothing
        mode = "_dda_" if trait == "dda" else "_FAIL_" if trait == "fails" else "_dia_"
        size = chance.randrange(200_000, 3_000_000) * (12 if trait == "big" else 1)
        found.append(
            PlannedAcquisition(
                number=number,
                instrument=instrument,
                name=f"run{number:04d}_{instrument}{mode}x{EXTENSIONS[vendor]}",
                vendor=vendor,
                seconds=min(15.0, room_s * chance.uniform(0.4, 0.9)),
                size_bytes=size,
                trait=trait,
            )
        )
    return found


def _faults(
    chance: random.Random, *, minutes: float, through_fuse: frozenset[str]
) -> list[PlannedFault]:
    """One after another every few seconds; what acts on the same thing doesn't overlap."""
    found: list[PlannedFault] = []
    free_at: dict[str, float] = {}
    now, end = 12.0, minutes * 60
    while now < end:
        kind, target = _drawn(chance, through_fuse)
        lasts = chance.uniform(_SHORTEST_S, min(_LONGEST_S, max(5.0, end / 6)))
        fault = PlannedFault(round(now, 1), round(lasts, 1), kind, target)
        if free_at.get(fault.thing, 0.0) <= now:
            found.append(fault)
            free_at[fault.thing] = now + lasts + 4.0
        now += chance.uniform(3.0, 11.0)
    return found


def _drawn(chance: random.Random, through_fuse: frozenset[str]) -> tuple[str, str]:
    group = chance.choices(("mount", "process", "job", "other"), (10, 6, 3, 3))[0]
    if group == "mount":
        target = chance.choice((*INSTRUMENTS, *STORES, *STORES))
        kinds = (*_OF_MOUNTS, *(_OF_SHARES if target in through_fuse else ()))
        return chance.choice(kinds), target
    kinds = {"process": _OF_PROCESSES, "job": _OF_JOBS, "other": _OTHERS}[group]
    return chance.choice(kinds), ""
