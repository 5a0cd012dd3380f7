"""The backup store and the output, as the steps reach them: known by their markers, or away.

A store that is away is nobody's failure: no status changes, nothing is tried in vain, and what
waits goes on by itself once it is back.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kraken_dagster.fs.stores.backup_reader import require_store
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.stores.roots import OpenRoot, away, opened_root, part_away
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import (
    BackupUnwritable,
    CopyStalled,
    FileError,
    OnAnotherStore,
    StoreAway,
)
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.runtime.services import Services

_PATIENCE_OF_A_TICK_S = 5.0
_PATIENCE_S = 60.0  # for a root to be opened, however long a copy may stand still


def root_of(services: Services, role: Role) -> Path:
    location = getattr(services.config.locations, role.value)
    path: Path = location.path
    return path


@contextmanager
def opened(services: Services, role: Role, *, timeout_s: float = _PATIENCE_S) -> Iterator[OpenRoot]:
    """A store's root, open while the block runs; all that is done in it is done through its path.

    Raises:
        StoreAway: nothing is known of what is in it, and nothing may be written.
        StoreUnavailable
    """
    known = services.store.markers.ids(role)
    timeout_s = min(timeout_s, _PATIENCE_S)
    with opened_root(root_of(services, role), role, known, timeout_s=timeout_s) as root:
        yield root


@contextmanager
def opened_backup(services: Services, raw_file: RawFile) -> Iterator[OpenRoot]:
    """The store that holds this file's backup, or takes it.

    Raises:
        StoreAway: it is away, or another one than that which holds it.
        StoreUnavailable
    """
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    with opened(services, Role.BACKUP, timeout_s=stall_s) as root:
        _require_its_store(services, raw_file, root)
        _require_part(services, raw_file.filing_id, root, timeout_s=stall_s)
        with gone_meanwhile(root):
            yield root


def require(services: Services, role: Role, *, timeout_s: float = _PATIENCE_S) -> None:
    """
    Raises:
        StoreAway
        StoreUnavailable
    """
    with opened(services, role, timeout_s=timeout_s):
        pass


def require_backup_store(services: Services, raw_file: RawFile) -> None:
    """Raises StoreAway or BackupUnwritable where the store is away, CopyStalled where it hangs."""
    _require_any_backup(services, raw_file.instrument_id, raw_file.filing_id)


def require_some_backups(services: Services, instrument_id: str) -> None:
    """The same, for an instrument: one that was renamed may have backups in several folders.

    Raises:
        StoreAway, BackupUnwritable, CopyStalled
    """
    *others, last = sorted(services.store.bulk.filing_ids(instrument_id))
    for filing_id in others:
        with suppress(BackupUnwritable):
            return _require_any_backup(services, instrument_id, filing_id)
    return _require_any_backup(services, instrument_id, last)


def _require_any_backup(services: Services, instrument_id: str, filing_id: str) -> None:
    stall_s = services.instrument(instrument_id).copy_stall_s
    with opened(services, Role.BACKUP, timeout_s=stall_s) as root:
        path = root.path
        bounded(lambda: require_store(path, filing_id), timeout_s=stall_s, what=path)


def why_away(services: Services, role: Role) -> str | None:
    """Why nothing can be done in a store now; for sensors, which ask before they request a run.

    Raises:
        StoreUnavailable
    """
    try:
        require(services, role, timeout_s=_PATIENCE_OF_A_TICK_S)
    except StoreAway as error:
        return str(error)
    return None


def require_unchanged(root: OpenRoot, *, timeout_s: float = _PATIENCE_S) -> None:
    """Raises StoreAway unless the path still leads to the open root, and that has its marker."""
    try:
        bounded(root.require_same, timeout_s=min(timeout_s, _PATIENCE_S), what=root.path)
    except CopyStalled as error:
        raise away(root.path.shown, root.role, "no answer any more") from error


@contextmanager
def gone_meanwhile(root: OpenRoot) -> Iterator[None]:
    """What goes wrong with a file because its store has gone is no error of that file.

    Raises:
        StoreAway
    """
    try:
        yield
    except StoreAway:
        raise
    except (FileError, OSError) as error:
        try:
            require_unchanged(root)
        except StoreAway as gone:
            raise gone from error
        raise


def _require_part(services: Services, filing_id: str, root: OpenRoot, *, timeout_s: float) -> None:
    """An instrument's folder may be a mount of its own: where backups of it are recorded, it is
    never missing and never empty.

    Raises:
        StoreAway
    """
    path = root.path.shown / filing_id
    try:
        found = bounded(
            lambda: root.has_anything_in(filing_id),
            timeout_s=min(timeout_s, _PATIENCE_S),
            what=path,
        )
    except CopyStalled as error:
        raise part_away(path, root.role, "no answer") from error
    except OSError as error:
        raise part_away(path, root.role, error.strerror or str(error)) from error
    if not found and services.store.bulk.has_backups(filing_id, root.store_id):
        reported = "nothing, though backups of this instrument are recorded here: it is not mounted"
        raise part_away(path, root.role, reported)


def _require_its_store(services: Services, raw_file: RawFile, root: OpenRoot) -> None:
    wanted = raw_file.backup_store
    if wanted is None or wanted == root.store_id:
        return
    stores = {item.id: item.path for item in services.store.markers.of(Role.BACKUP)}
    raise OnAnotherStore(
        "The backup of this file is on another store than the one that is mounted",
        file=raw_file.id,
        expected=f"the store {wanted}, last seen at {stores.get(wanted, 'an unknown place')}",
        found=f"the store {root.store_id} at {root.path.shown}",
        next_step="mount that store there; what waits for it goes on by itself.",
    )
