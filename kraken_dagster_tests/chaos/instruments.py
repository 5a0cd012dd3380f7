"""The instruments of a fault run: each writes its plan's acquisitions, one after the other, on its
own disk, and notes what it wrote. Operators do to some of them what operators do.
"""

import errno
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path

from kraken_dagster.simulation.clock import LabClock, LaboratoryClosed
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster_tests.chaos.facts import content_of, members_of, stem_of
from kraken_dagster_tests.chaos.notes import Notebook
from kraken_dagster_tests.chaos.plan import PlannedAcquisition

DEBRIS = ("._{name}", ".DS_Store", "Thumbs.db", "desktop.ini", "~${name}", "{name}.partial")
ODD_TIMES = (0, -2_000_000_000, 4_000_000_000)  # 1970, 1906 and 2096
_REAL_TIME = 60.0  # a clock on which a minute of the laboratory is a second


class Instrument:
    """Works in `folder`, which is the disk and never Kraken's mount of it.

    Args:
        is_whole: name -> whether the backup holds all of that acquisition now.
        quiet_s: after so many seconds without growth Kraken takes an acquisition to be over.
    """

    def __init__(
        self,
        folder: Path,
        plan: Sequence[PlannedAcquisition],
        *,
        notes: Notebook,
        is_whole: Callable[[str], bool],
        quiet_s: float,
        seed: int,
    ) -> None:
        self.folder, self.plan, self.notes = folder, plan, notes
        self._is_whole, self._quiet_s = is_whole, quiet_s
        self._chance = random.Random(f"{seed}:{folder.name}")
        self._clock = LabClock(_REAL_TIME)
        self._followers: list[threading.Thread] = []
        self._names: dict[int, str] = {}

    def run(self) -> None:
        """Writes all acquisitions, and waits for what operators do to them."""
        with suppress(LaboratoryClosed):
            for item in self.plan:
                self._acquire(item)
        for thread in self._followers:
            thread.join()

    def close(self) -> None:
        self._clock.close()

    def _acquire(self, item: PlannedAcquisition) -> None:
        name = self._name_of(item)
        self._names[item.number] = name
        acquisition = Acquisition(
            name=name,
            vendor=item.vendor,
            minutes=item.seconds,
            size_bytes=item.size_bytes,
            outcome=item.outcome,
            seed=item.number,
        )
        machine = SimulatedInstrument(self.folder, item.vendor, self._clock)
        if item.trait == "debris":
            self._plant_debris(name)
        if not self._write(item, machine.steps(acquisition)):
            self._note(item, name)
            self._take_away(item, name)
            return
        if item.outcome == "corrupted":
            self._note(item, name, stands_as=acquisition.corrupted_name)
            self.notes.write("renamed", acquisition=item.number, to=acquisition.corrupted_name)
        else:
            self._note(item, name)
        self._follow(item, name)

    def _write(self, item: PlannedAcquisition, steps: Generator[float, None, None]) -> bool:
        """Whether it was written to its end; else it is thrown away, as on a disk that is full."""
        taken = 0.0
        try:
            for seconds in steps:
                if item.trait == "vanishes" and taken > item.seconds / 2:
                    steps.close()
                    return False
                self._clock.sleep_minutes(seconds)
                taken += seconds
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        except sqlite3.OperationalError as error:  # Bruker's index, on a disk that is full
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            return False
        return True

    def _name_of(self, item: PlannedAcquisition) -> str:
        """Another acquisition's name, where that one is gone from the folder by now."""
        earlier = [number for number in self._names if number < item.number]
        if item.trait == "again" and earlier:
            name = self._names[self._chance.choice(earlier)]
            if name.endswith(".raw") and not (self.folder / name).exists():
                return name
        return item.name

    def _note(self, item: PlannedAcquisition, name: str, *, stands_as: str | None = None) -> None:
        known = {"dda": "dda", "fails": "fails"}.get(item.trait, item.outcome)
        if item.trait == "again" and "_FAIL_" in name:
            known = "fails"
        elif item.trait == "again" and "_dda_" in name:
            known = "dda"
        self.notes.write(
            "written",
            acquisition=item.number,
            instrument=self.folder.name,
            name=name,
            fate=known,
            members=members_of(self.folder, stands_as or name),
        )

    def _plant_debris(self, name: str) -> None:
        path = self.folder / self._chance.choice(DEBRIS).format(name=name)
        if not path.exists():
            path.write_bytes(self._chance.randbytes(4096))
            where = f"{self.folder.name}/{path.name}"
            self.notes.write("planted", path=where, content=content_of(path))

    def _follow(self, item: PlannedAcquisition, name: str) -> None:
        actions = {
            "grows": self._grow,
            "replaced": self._replace,
            "shrinks": self._shrink,
            "taken": self._remove,
            "renamed": self._rename,
            "odd_time": self._set_odd_time,
        }
        action = actions.get(item.trait)
        if action is None:
            return
        wait_s = self._chance.uniform(0.0, 2.5 * self._quiet_s)
        if item.trait == "grows":  # it was quiet for as long as something that is over
            wait_s += self._quiet_s

        def act() -> None:
            with suppress(LaboratoryClosed, FileNotFoundError):  # it was archived meanwhile
                self._clock.sleep_real_seconds(wait_s)
                action(item, name)

        thread = threading.Thread(target=act)
        thread.start()
        self._followers.append(thread)

    def _main(self, name: str) -> Path:
        raw = self.folder / name
        return raw / "analysis.tdf_bin" if name.endswith(".d") else raw

    def _grow(self, item: PlannedAcquisition, name: str) -> None:
        main = self._main(name)
        with main.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            for _ in range(5):
                file.write(self._chance.randbytes(50_000))
                file.flush()
                time.sleep(0.2)
        self._note_where_it_stands(item, name)

    def _replace(self, item: PlannedAcquisition, name: str) -> None:
        with self._main(name).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size // 2)
            file.write(self._chance.randbytes(min(5000, size - size // 2)))
        self._note_where_it_stands(item, name)

    def _shrink(self, item: PlannedAcquisition, name: str) -> None:
        main = self._main(name)
        os.truncate(main, main.stat().st_size * 2 // 3)
        self._note_where_it_stands(item, name)

    def _note_where_it_stands(self, item: PlannedAcquisition, name: str) -> None:
        """Also where it was archived in that very moment."""
        where = self.folder if self._main(name).exists() else self.folder / "Backup"
        members = members_of(where, name)
        facts = {"acquisition": item.number, "instrument": self.folder.name, "name": name}
        self.notes.write("written", **facts, fate="ok", members=members)

    def _remove(self, item: PlannedAcquisition, name: str) -> None:
        """An operator takes it away, or a disk loses it."""
        self._main(name).stat()
        self._take_away(item, name)

    def _take_away(self, item: PlannedAcquisition, name: str) -> None:
        self.notes.write("removed", acquisition=item.number, whole=self._is_whole(name))
        stem = stem_of(name)
        for path in list(self.folder.iterdir()):
            if path.name == name and path.is_dir():
                shutil.rmtree(path)
            elif path.name == name or (name.endswith(".wiff") and path.name.startswith(f"{stem}.")):
                path.unlink()

    def _rename(self, item: PlannedAcquisition, name: str) -> None:
        stem, to = stem_of(name), f"operator_{name}"
        self._main(name).stat()
        self.notes.write("renamed", acquisition=item.number, to=to)
        for path in list(self.folder.iterdir()):
            if path.name == name or (name.endswith(".wiff") and path.name.startswith(f"{stem}.")):
                path.rename(self.folder / f"operator_{path.name}")

    def _set_odd_time(self, item: PlannedAcquisition, name: str) -> None:
        epoch = self._chance.choice(ODD_TIMES)
        os.utime(self._main(name), (epoch, epoch))
