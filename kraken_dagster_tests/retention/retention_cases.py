"""Files that were backed up and archived, for the tests of retention; no tests in here."""

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.fs import dir_handles as handles
from kraken_dagster.model.errors import FolderHangs
from kraken_dagster.model.raw_file import RawFile, Status
from kraken_dagster.retention.archiving.archive import (
    ArchiveOptions,
    MoveOutcome,
    archive,
    archive_members,
)
from kraken_dagster.retention.purge import PurgeOutcome, purge
from kraken_dagster.retention.purge_file import purge_file
from kraken_dagster.retention.purge_plan import PurgeOptions
from kraken_dagster.retention.purge_record import Purged
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.helpers import backed_up

INSTRUMENTS = {"thermo1": "x.raw", "bruker1": "x.d", "sciex1": "x.wiff"}
# More than any disk has free, so that everything that may be deleted is.
EVERYTHING = PurgeOptions(min_free_space_gb=1e9, min_file_age_to_remove_in_days=14)


def done(services: Services, instrument_id: str, name: str, **changes: Any) -> RawFile:
    """A file that is backed up, and needs no processing."""
    raw_file = backed_up(services, instrument_id, name, **changes)
    services.store.raw_files.transition(raw_file, Status.DONE_NOT_QUANTED, now=services.now())
    services.now.forward(minutes=6)
    return services.store.raw_files.get(name)


def moved(services: Services, instrument_id: str, name: str, **changes: Any) -> RawFile:
    """A file that is done and archived, and old enough to be purged."""
    done(services, instrument_id, name, **changes)
    outcome = archive_members(services, name, run_id="move", options=ArchiveOptions())
    assert outcome.moved, outcome.reason
    created(services, name, days_ago=15)
    return services.store.raw_files.get(name)


def created(services: Services, raw_file_id: str, *, days_ago: float) -> None:
    """Makes a file older, where its backup lies too: in the folder of another month, perhaps."""
    raw_file = services.store.raw_files.get(raw_file_id)
    before = services.backup_folder(raw_file)
    when = services.now().replace(microsecond=0)
    when = when.fromtimestamp(when.timestamp() - days_ago * 86_400, tz=when.tzinfo)
    after = services.store.raw_files.update(
        raw_file,
        {"created_at": when, "created_at_": when},
        now=services.now(),
        note="made older by a test",
    )
    if services.backup_folder(after) != before:
        services.backup_folder(after).mkdir(exist_ok=True)
        for path in [*before.glob(f"{raw_file_id}*"), *_companions(before, raw_file)]:
            if path.exists():
                path.rename(services.backup_folder(after) / path.name)


def _companions(folder: Path, raw_file: RawFile) -> list[Path]:
    return [folder / name for name in raw_file.file_info if "/" not in name]


def aside(services: Services, instrument_id: str) -> Path:
    return services.instrument_folder(instrument_id) / "Backup"


def move_all(services: Services, instrument_id: str, **options: Any) -> list[MoveOutcome]:
    return archive(services, instrument_id, run_id="move", options=ArchiveOptions(**options))


def purge_all(services: Services, instrument_id: str, **options: Any) -> PurgeOutcome:
    return purge(services, instrument_id, run_id="purge", options=replace(EVERYTHING, **options))


def hangs_at_the_second_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a purge delete its first file, and the instrument hang after that."""
    tried: list[str] = []

    def hangs(services: Services, raw_file_id: str, **options: Any) -> Purged:
        tried.append(raw_file_id)
        if len(tried) > 1:
            raise FolderHangs("It hangs")
        return purge_file(services, raw_file_id, **options)

    monkeypatch.setattr("kraken_dagster.retention.purge.purge_file", hangs)
    monkeypatch.setattr("kraken_dagster.retention.purge.require_backup_store", lambda *_args: None)


def disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every instrument's disk look full, however much is free here."""
    monkeypatch.setattr("kraken_dagster.retention.purge.measured_free_bytes", lambda *_args: 0)


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder with its SHA-256, links and folders by their kind."""
    found: dict[str, str] = {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(parent) / name
            relative = str(path.relative_to(folder))
            if path.is_symlink():
                found[relative] = f"link to {os.readlink(path)}"
            elif path.is_dir():
                found[relative] = "folder"
            elif not path.is_file():
                found[relative] = "special file"
            else:
                found[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def files_in(folder: Path) -> dict[str, str]:
    return {name: kind for name, kind in content(folder).items() if kind != "folder"}


def notes(raw_file: RawFile) -> list[str]:
    return [str(event["reason"]) for event in raw_file.history]


def flip_a_bit(path: Path, *, keep_time: bool = True) -> None:
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def hanging_at(services: Services, name: str, monkeypatch: pytest.MonkeyPatch) -> Services:
    """A world in which reading the files of one name gives no answer before the test is over."""
    real, over = handles.digest_of, threading.Event()

    def digest_of(handle: int, **options: Any) -> Any:
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name == name:
            over.wait(20)
        return real(handle, **options)

    monkeypatch.setattr(handles, "digest_of", digest_of)
    return impatient(services, copy_stall_s=1.0)


def impatient(services: Services, *, copy_stall_s: float) -> Services:
    """The same, whose instruments wait so long for a share or a disk."""
    update = {"copy_stall_s": copy_stall_s}
    instruments = services.config.instruments.items()
    changed = {key: value.model_copy(update=update) for key, value in instruments}
    return replace(services, config=services.config.model_copy(update={"instruments": changed}))


def fields(services: Services, raw_file_id: str) -> Mapping[str, Any]:
    """The document as MongoDB has it."""
    found = services.store._database["raw_file"].find_one({"_id": raw_file_id})
    assert found is not None
    return found
