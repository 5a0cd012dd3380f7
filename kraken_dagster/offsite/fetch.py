"""Fetches a raw file's copy from the S3 server: verified, resuming, replacing nothing.

Everything is put together in a folder beside the target, `.kraken-offsite-...`, read back from the
disk there and compared, and only then given its name. What was fetched before an interruption
stays in that folder, and the next try goes on with it.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kraken_dagster.backup.restore import may_be_put_into, refused
from kraken_dagster.fs.dir_handles import Folder, fsync, rename
from kraken_dagster.model.errors import OffsiteDiffers
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.offsite import ColdRequest, StoredObject
from kraken_dagster.model.raw_file import FileFact, RawFile
from kraken_dagster.offsite.check import require_stored
from kraken_dagster.offsite.client import S3
from kraken_dagster.offsite.cold import ask_for
from kraken_dagster.offsite.reading import pieces_of
from kraken_dagster.runtime.services import Services

_STAGING = ".kraken-offsite-"
_NEXT = (
    "see that you may write there, that there is space, and that nothing else has this name; what "
    "was fetched is gone on with."
)


@dataclass(frozen=True)
class Fetched:
    """`proven` members stood there already. `cold`: nothing was fetched yet, and why."""

    files: int
    fetched: int = 0
    proven: int = 0
    cold: ColdRequest | None = None


def restore_offsite(
    services: Services,
    s3: S3,
    raw_file_id: str,
    target: Path,
    *,
    days: int = 7,
    tier: str = "Standard",
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Fetched:
    """Fetches the recorded version of every member into a folder, under its raw file id.

    Args:
        days, tier: for how long, and how, the server gets out what lies in cold storage.

    Raises:
        NotRecorded, UnsafePath, ConfigError: as of `backup.restore.restore`.
        OffsiteDiffers: the copy is none, or not what was recorded; nothing has a name there.
        OffsiteAway, OffsiteRefused, OffsiteError: the next try goes on.
        RestoreRefused: the folder doesn't take it.
        UnknownRawFile, StoreUnavailable
    """
    raw_file = services.store.raw_files.get(raw_file_id)
    may_be_put_into(services, raw_file, target)
    objects = _objects(services, raw_file)
    with _refusals(target / raw_file.id), Folder.open(target) as folder:
        todo = {path: objects[path] for path in _missing(folder, raw_file)}
        cold = _ask_for(services, s3, raw_file, todo, days=days, tier=tier)
        if cold is not None:
            return Fetched(len(objects), cold=cold)
        if todo:
            _fetch(s3, folder, raw_file, todo, on_bytes)
    return Fetched(len(objects), len(todo), len(objects) - len(todo))


def _objects(services: Services, raw_file: RawFile) -> dict[str, StoredObject]:
    """What is recorded of the copy, if that is of the recorded content; the state of the last
    upload counts not."""
    found = services.store.offsite.objects(raw_file.id)
    facts = raw_file.file_info.items()
    return {path: require_stored(path, fact, found.get(path)) for path, fact in facts}


def _ask_for(
    services: Services,
    s3: S3,
    raw_file: RawFile,
    objects: Mapping[str, StoredObject],
    *,
    days: int,
    tier: str,
) -> ColdRequest | None:
    before, now = raw_file.offsite_cold, services.now()
    cold = ask_for(s3, list(objects.values()), days=days, tier=tier, now=now)
    if cold is not None and before is not None:  # it was asked for before
        began = {"asked_at": before.asked_at, "expected_at": before.expected_at}
        cold = cold.model_copy(update={**began, "tier": before.tier})
    if cold is not None or before is not None:
        services.store.offsite.asked_for(raw_file.id, cold)
    return cold


def _missing(folder: Folder, raw_file: RawFile) -> list[str]:
    """The members that don't stand there yet.

    Raises:
        RestoreRefused: something else stands there, or only a part of a folder.
    """
    missing: list[str] = []
    for path, fact in sorted(raw_file.file_info.items()):
        seen = folder.scan_below(path)
        if seen is None:
            missing.append(path)
        elif seen.kind is not Kind.FILE or not fact.holds(_read(folder, path, fact)):
            raise refused(folder.path / path, "something else has this name", _NEXT)
    tops = {path.partition("/")[0] for path in missing if "/" in path}
    if taken := sorted(top for top in tops if folder.stat(top) is not None):
        raise refused(folder.path / taken[0], f"a folder without {missing[0]!a}", _NEXT)
    return missing


@dataclass(frozen=True)
class _Fetch:
    """What a member's fetching works with; `on_bytes` also gets what is taken back."""

    s3: S3
    staging: Folder
    on_bytes: Callable[[int], None]

    def member(self, path: str, stored: StoredObject, fact: FileFact) -> None:
        """Goes on with what is there; what turns out to be wrong then is fetched anew, once."""
        parent, _, name = path.rpartition("/")
        with _made(self.staging, parent) as folder:
            had = self._more_of(folder, name, stored)
            found = _read(folder, name, fact)
            if not fact.holds(found) and had:
                self._remove(folder, name, found.size or 0)
                self._more_of(folder, name, stored)
                found = _read(folder, name, fact)
            if fact.holds(found):
                return
            self._remove(folder, name, found.size or 0)
        raise OffsiteDiffers(
            "What the S3 server gave is not what was recorded",
            file=stored.shown,
            expected=fact.in_words(),
            found=found.in_words(),
            next_step="try again; if it happens again, the server or the network damages data.",
        )

    def _more_of(self, folder: Folder, name: str, stored: StoredObject) -> int:
        """Appends what is missing; the bytes that were there before."""
        seen = folder.stat(name)
        had = 0 if seen is None else seen.size
        self.on_bytes(had)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(name, flags, 0o644, dir_fd=folder.handle)
        with os.fdopen(handle, "ab") as file:
            for piece in pieces_of(self.s3, stored, begin=had):
                file.write(piece)
                self.on_bytes(len(piece))
            file.flush()
            os.fsync(file.fileno())
        fsync(folder)
        return had

    def _remove(self, folder: Folder, name: str, size: int) -> None:
        os.unlink(name, dir_fd=folder.handle)
        self.on_bytes(-size)


def _fetch(
    s3: S3,
    folder: Folder,
    raw_file: RawFile,
    objects: Mapping[str, StoredObject],
    on_bytes: Callable[[int], None],
) -> None:
    name = _STAGING + hashlib.sha256(raw_file.id.encode()).hexdigest()[:16]
    with _made(folder, name) as staging:
        fetch = _Fetch(s3, staging, on_bytes)
        for path, stored in objects.items():
            fetch.member(path, stored, raw_file.file_info[path])
        for top in sorted({path.partition("/")[0] for path in objects}):
            rename(staging, top, folder, top)
    os.rmdir(name, dir_fd=folder.handle)


@contextmanager
def _made(folder: Folder, relative: str) -> Iterator[Folder]:
    """The folder at `a/b` below, made where it is missing; no link on the way is followed."""
    for end in range(1, relative.count("/") + 2 if relative else 0):
        *above, name = relative.split("/")[:end]
        with folder.below("/".join(above)) as parent:
            if parent.stat(name) is None:
                os.mkdir(name, 0o755, dir_fd=parent.handle)
    with folder.below(relative) as made:
        yield made


def _read(folder: Folder, path: str, recorded: FileFact) -> FileFact:
    return folder.read(path, second=recorded.kind)[1]


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused(path, error.strerror or str(error), _NEXT) from error
