"""Whether an instrument answers, and whether what is mounted is its disk: the files that were moved
aside tell."""

from kraken_dagster.fs.instrument_folder import (
    instrument_errors,
    open_archive_folder,
    open_instrument,
    require_mounted,
)
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import FolderMissing
from kraken_dagster.runtime.services import Services


def require_answer(services: Services, instrument_id: str) -> None:
    """After a file that hung: whether it is the share that does.

    Raises:
        FolderError, CopyStalled, InstrumentBusy
    """
    path = services.instrument_folder(instrument_id)

    def scan() -> None:
        with open_instrument(path) as root, instrument_errors(path):
            root.names()

    bounded(scan, timeout_s=services.instrument(instrument_id).copy_stall_s, what=path)


def require_mounted_instrument(services: Services, instrument_id: str) -> None:
    """
    Raises:
        FolderMissing: its folder is not there, or is empty, so that it may not be mounted.
        FolderUnreadable, CopyStalled, InstrumentBusy
    """
    path = services.instrument_folder(instrument_id)

    def scan() -> None:
        with open_instrument(path) as root:
            require_mounted(root)

    bounded(scan, timeout_s=services.instrument(instrument_id).copy_stall_s, what=path)


def names_in_backup(services: Services, instrument_id: str) -> set[str]:
    """The names in the instrument's `Backup/`.

    Raises:
        FolderError, CopyStalled, InstrumentBusy
    """
    path = services.instrument_folder(instrument_id)

    def names() -> set[str]:
        with (
            open_instrument(path) as root,
            open_archive_folder(root) as aside,
            instrument_errors(aside.path),
        ):
            return set(aside.names())

    return bounded(names, timeout_s=services.instrument(instrument_id).copy_stall_s, what=path)


def require_right_disk(
    services: Services, instrument_id: str, *, besides: str, unproven: bool
) -> None:
    """What isn't there is missing only where others that were archived stand in `Backup/`.

    Args:
        besides: the raw file that is missing.
        unproven: what holds where no other file was archived, so that nothing can tell.

    Raises:
        FolderMissing: another disk is mounted, or an empty one.
        CopyStalled, InstrumentBusy
    """
    others = (
        item.id for item in services.store.retention.moved(instrument_id) if item.id != besides
    )
    first = next(others, None)
    if first is None and unproven:
        return
    there = set() if first is None else names_in_backup(services, instrument_id)
    if first in there or any(item in there for item in others):
        return
    raise FolderMissing(
        "No file that was archived stands in `Backup`, so this may be another disk",
        file=services.instrument_folder(instrument_id),
        next_step="see whether the right share is mounted; tried again by itself.",
    )
