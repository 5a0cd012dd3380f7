"""Errors of names, folders, raw files and their copies."""

from kraken_dagster.model.errors.base import KrakenError


class NameError_(KrakenError):
    """A name from a disk or a database that can't be used as it is."""


class WrongExtension(NameError_, ValueError):
    """Not a name of this vendor."""


class UnsafePath(NameError_):
    """A path that would lead out of its root."""


class FolderError(KrakenError):
    """An instrument's folder can't be used now."""

    transient = True


class FolderMissing(FolderError):
    """It is not there."""


class FolderUnreadable(FolderError):
    """It can't be read."""


class FolderHangs(FolderError):
    """It gives no answer in time."""


class InstrumentInDoubt(FolderError):
    """Its files are recorded as another instrument's: a person decides."""


class FileError(KrakenError):
    """Something about a raw file, its backup, or a copy of it."""


class SourceMissing(FileError):
    """The file is not on the instrument, or not any more."""

    transient = True


class SourceUnreadable(FileError):
    """The source is open elsewhere, or access to it is denied."""

    transient = True


class SourceChanged(FileError):
    """The source changed while it was copied."""

    transient = True


class CopyStalled(FileError):
    """No byte moved for too long."""

    transient = True


class BackupFull(FileError):
    """No space is left on the backup store."""

    transient = True


class BackupUnwritable(FileError):
    """The backup store refuses to be written to."""

    transient = True


class StoreAway(BackupUnwritable):
    """The backup or output store is not mounted, or not known. Nothing changes; all work waits."""


class OnAnotherStore(StoreAway):
    """The backup is on a store that is not the mounted one."""


class BackupConflict(FileError):
    """Something else stands in the backup under that name."""

    transient = True


class FileSystemLimit(FileError):
    """A file system can't hold the file, because of its size or name."""


class DigestMismatch(FileError):
    """What was read back is not what was written."""

    transient = True


class BackupDamaged(DigestMismatch):
    """A backup is not, or not any more, what was recorded of it."""

    transient = False


class NotRecorded(FileError, KeyError):
    """MongoDB has no size or digest of the file."""


class InstrumentBusy(FileError):
    """The instrument does not let a file be moved or deleted now."""

    transient = True


class MoveRefused(FileError):
    """A file is not archived: something is not as it should be."""


class BackupIncomplete(MoveRefused):
    """The instrument has a member that the backup lacks."""


class NameTaken(MoveRefused):
    """The main file has another size: it belongs to another acquisition."""


class ContentChanged(MoveRefused):
    """Name and size are as recorded, but the content is not."""


class NowhereFound(MoveRefused):
    """The file is neither in the instrument's folder nor in `Backup`."""


class PurgeRefused(FileError):
    """A file is not deleted: something is unknown or not proven."""


class RestoreRefused(FileError):
    """A backup can't be copied to the requested place."""
