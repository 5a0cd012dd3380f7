"""Reads the facts for the judge: disks by their own paths, MongoDB by its driver, and the notes."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymongo

from kraken_dagster_tests.chaos.facts import Content, Facts, acquired_of, tree_of
from kraken_dagster_tests.chaos.notes import Note, Notebook

BACKUP_FOLDER = "Backup"


@dataclass(frozen=True)
class Places:
    """Where the facts are.

    Args:
        disks: holds `backup`, `output` and a folder for each instrument; never Kraken's mounts.
        notes: of instruments, faults and the witness.
        ledger: of the jobs.
        below: the mount points as they are on the system's own disk, with nothing mounted there.
    """

    disks: Path
    instruments: tuple[str, ...]
    notes: Path
    ledger: Path
    mongodb_uri: str
    below: Path | None = None


def gather(places: Places) -> Facts:
    notes = Notebook(places.notes).read()
    return replace(
        gather_records(places),
        instruments=instruments_tree(places),
        backup=tree_of(places.disks / "backup"),
        output=tree_of(places.disks / "output"),
        ledger=tuple(Notebook(places.ledger).read()),
        flipped={note["path"]: note["md5"] for note in _of(notes, "flipped")},
        foreign={note["path"]: Content(*note["content"]) for note in _of(notes, "planted")},
        vanished=tuple(_of(notes, "vanished")),
        jobs_hurt=frozenset(note["raw_file"] for note in _of(notes, "job hurt")),
        strays=() if places.below is None else strays_in(places.below),
    )


def gather_records(places: Places) -> Facts:
    """Only what was written and what MongoDB says; no disk is read."""
    with pymongo.MongoClient[dict[str, Any]](
        places.mongodb_uri, serverSelectionTimeoutMS=5000
    ) as client:
        database = client.get_default_database("krakendb")
        return Facts(
            acquired=acquired_of(Notebook(places.notes).read()),
            raw_files=tuple(database["raw_file"].find()),
            quant_jobs=tuple(database["quant_job"].find()),
            metrics=tuple(database["metrics"].find()),
        )


def instruments_tree(places: Places) -> dict[str, Content]:
    return {
        f"{name}/{path}": content
        for name in places.instruments
        for path, content in tree_of(places.disks / name).items()
        if not path.startswith("lost+found")
    }


def strays_in(below: Path) -> tuple[str, ...]:
    """Everything that isn't one of the empty mount points themselves."""
    return tuple(
        sorted(
            str(Path(folder, name).relative_to(below))
            for folder, _, names in os.walk(below)
            for name in names
        )
    )


def _of(notes: list[Note], event: str) -> list[Note]:
    return [note for note in notes if note["event"] == event]
