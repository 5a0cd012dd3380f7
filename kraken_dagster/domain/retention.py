"""Whether a file on an instrument may be deleted. Nothing here deletes anything."""

from dataclasses import dataclass

from kraken_dagster.domain.errors import NotRecorded
from kraken_dagster.domain.raw_file import FileFact


@dataclass(frozen=True)
class ReadBack:
    """What was just read of a file: size in bytes and, unless only sizes are compared, its MD5."""

    size: int
    md5: str | None


def may_purge(
    *,
    instrument: ReadBack | None,
    backup: ReadBack | None,
    recorded: FileFact | None,
    hash_check: bool = True,
) -> bool:
    """Whether the file on the instrument, its backup and its record are the same.

    Raises:
        NotRecorded: the backup is there, and MongoDB has no size or digest to prove it by.
    """
    if instrument is None or backup is None:
        return False
    if recorded is None or recorded.size is None or recorded.md5 is None:
        raise NotRecorded(
            "No size or digest is recorded, so nothing can be proven",
            next_step="leave the file where it is; `kraken show` has what is recorded.",
        )
    if not instrument.size == backup.size == recorded.size:
        return False
    return not hash_check or instrument.md5 == backup.md5 == recorded.md5
