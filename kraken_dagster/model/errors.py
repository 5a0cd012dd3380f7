"""Every error that Kraken raises on purpose.

The tree:

    KrakenError                 what, which file, expected and found, what to do next
      ConfigError               instruments.yaml can't be used as it stands
      Unexpected                somebody else's error, with its text                (transient)
        Unsorted                one that `error_kinds` doesn't have         (a few times transient)
        Lasting                 one that time doesn't cure
      StoreError
        StoreUnavailable        MongoDB can't be reached                          (transient)
        StoreRefused            MongoDB answers with an error              (a few times transient)
          RecordRefused         MongoDB can't hold what is to be recorded
        UnknownRawFile          no such document
        StatusConflict          a status was changed by somebody else meanwhile
          NotNeeded             a file need not be deleted any more
        LeaseHeld               another run works on the file
        LeaseLost               this run's lease was taken over; it must stop
      RenameRefused             an instrument is not renamed, retired or accepted now
      InitRefused               a folder is not made known as a store: it may be another
      NameError_
        WrongExtension          also a ValueError: not a name of this vendor
        UnsafePath              a path that would lead out of its root
      FolderError               an instrument's folder
        FolderMissing, FolderUnreadable, FolderHangs                              (transient)
        InstrumentInDoubt     its files are recorded as another's: a person decides (transient)
      FileError
        SourceMissing           the file is not on the instrument (any more)      (transient)
        SourceUnreadable        open elsewhere, access denied                     (transient)
        SourceChanged           it changed while it was copied                    (transient)
        CopyStalled             no byte moved for too long                        (transient)
        BackupFull              no space left on the backup store                 (transient)
        BackupUnwritable        the backup store refuses                          (transient)
          StoreAway             the backup or output store is not there, or not known: (transient)
                                nothing changes, everything waits
            OnAnotherStore      the backup is on a store that is not the mounted one
        BackupConflict          something else stands under that name             (transient)
        FileSystemLimit         a file system can't hold it: its size, its name
        DigestMismatch          what was read back is not what was written
          BackupDamaged         a backup is not (any more) what was recorded of it
        NotRecorded             also a KeyError: MongoDB has no size or digest of the file
        InstrumentBusy          the instrument doesn't let a file be moved or deleted (transient)
        MoveRefused             a file is not moved aside: something is not as it should be
          BackupIncomplete      the instrument has a member that the backup lacks
          NameTaken             the main file has another size: it is another acquisition's
          ContentChanged        name and size are as recorded, and the content is another
          NowhereFound          it stands neither in its folder nor in `Backup`
        PurgeRefused            a file is not deleted: something is unknown or not proven
        RestoreRefused          a backup can't be copied out to where it is wanted
        OffsiteError            the second copy, on an S3 server                  (transient)
          OffsiteAway           the server gives no answer, or is in trouble
          OffsiteRefused        the credentials are none, wrong, or have not the right
          OffsiteUnfit          the bucket is missing, or keeps no versions
          OffsiteDiffers        what is there is not what was recorded of it
      JobError
        SubmitFailed            the engine refused a job
        OutputExists            a result folder is there and the mode is `raise`
        UnknownSettings         a version of settings that MongoDB doesn't have
        InputMissing            a fasta, library or config that the settings name     (transient)
        OutputUnreadable        the output store gives an error                       (transient)
        SettingsRefused         a value in the settings is not what the cluster takes
        ClusterError            the cluster can't be asked, or what it says is unclear (transient)
          SchedulerAway         the head node answers, the scheduler doesn't, or not clearly
          ClusterReplyUnreadable  an answer that can't be read; it is quoted
          ClusterUnreachable      no head node answers; the command was not started
          AnswerLost              the command was started, perhaps; its end is not known
          LoginUnusable           its user's login shell or profile doesn't run what is sent to it
          HostKeyRefused          a head node's host key is unknown, or another than before
          LoginRefused            it doesn't let the user in, or the key can't be used
      CatalogError              projects, settings, and what runs on which file
        InputRefused            a field breaks a rule; each that does is named
        UnknownProject          no such project
        UnknownAssignment       the project doesn't use these settings there, or not only there
        Archived                a project or settings that are not assigned anew
        AlreadyThere            it was added before, or somebody else just did
      MetricsError
        MissingOutputError      a required result file is not there
        FileFormatError         it is there, and can't be read or lacks a required column
          NoRowCounts           a table is whole, and none of its rows counts
          ReadingEnded          reading it took more than its limits, or ended the process
        UnsupportedRawFile      a program can't read this vendor's files
        OwnFunctionError      a site's own function is none, has failed, or gave no metrics
      ChannelFailed             a message of an alert was not taken                 (transient)

`transient` says that time or a mended disk cures it: such a step is tried again by itself. What
is not transient waits for a person and `kraken retry`; what keeps a file from being moved or purged
ends with its cause. What nobody has sorted is tried again a few
times in a row, and waits then. Which foreign errors time cures: `model/error_kinds.py`.
"""

from kraken_dagster.model.printable import printable, printable_lines


class KrakenError(Exception):
    """An error that says what, which file, expected and found, and what to do next.

    Args:
        what: one sentence, without the file's name.
        file: path or raw file id.
        expected, found: what should have been and what was.
        next_step: what the reader can do about it.

    All of them are kept as `printable` shows them: they are for people, and names stand in them.
    """

    transient = False
    of_several_lines = False  # `what` has a line for each problem
    unsorted = False  # nobody knows whether time cures it, so it is tried a few times only
    stays: str | None = None  # the status of a file of which nothing was begun

    def __init__(
        self,
        what: str,
        *,
        file: object = None,
        expected: object = None,
        found: object = None,
        next_step: str | None = None,
    ) -> None:
        self.what = printable_lines(what) if self.of_several_lines else printable(what)
        file = getattr(file, "shown", file)  # a path through an open root is for this process only
        self.file = None if file is None else printable(file)
        self._quoted_file = printable(repr(str(file)))
        self.expected = None if expected is None else printable(expected)
        self.found = None if found is None else printable(found)
        self.next_step = None if next_step is None else printable(next_step)
        super().__init__(self._message())

    def _message(self) -> str:
        text = self.what.rstrip(".")
        if self.file is not None:
            text += f": {self._quoted_file}"
        text += "."
        if self.expected is not None:
            text += f" Expected {self.expected}."
        if self.found is not None:
            text += f" Found {self.found}."
        if self.next_step is not None:
            text += f" Next: {self.next_step}"
        return text

    def __str__(self) -> str:  # KeyError's own would quote the message
        return str(self.args[0])


class ConfigError(KrakenError):
    """instruments.yaml can't be used; the message has file, line, key and what was expected."""

    of_several_lines = True


class Unexpected(KrakenError):
    transient = True


class Unsorted(Unexpected):
    unsorted = True


class Lasting(Unexpected):
    transient = False


class StoreError(KrakenError):
    pass


class StoreUnavailable(StoreError):
    transient = True


class StoreRefused(StoreError):
    transient = True
    unsorted = True


class RecordRefused(StoreRefused):
    transient = False
    unsorted = False


class UnknownRawFile(StoreError):
    pass


class StatusConflict(StoreError):
    pass


class NotNeeded(StatusConflict):
    pass


class LeaseHeld(StoreError):
    pass


class LeaseLost(StoreError):
    pass


class InitRefused(KrakenError):
    pass


class NameError_(KrakenError):
    """A name from a disk or a database that can't be used as it is."""


class WrongExtension(NameError_, ValueError):
    pass


class UnsafePath(NameError_):
    pass


class RenameRefused(KrakenError):
    pass


class FolderError(KrakenError):
    transient = True


class FolderMissing(FolderError):
    pass


class FolderUnreadable(FolderError):
    pass


class FolderHangs(FolderError):
    pass


class InstrumentInDoubt(FolderError):
    pass


class FileError(KrakenError):
    pass


class SourceMissing(FileError):
    transient = True


class SourceUnreadable(FileError):
    transient = True


class SourceChanged(FileError):
    transient = True


class CopyStalled(FileError):
    transient = True


class BackupFull(FileError):
    transient = True


class BackupUnwritable(FileError):
    transient = True


class StoreAway(BackupUnwritable):
    pass


class OnAnotherStore(StoreAway):
    pass


class BackupConflict(FileError):
    transient = True


class FileSystemLimit(FileError):
    pass


class DigestMismatch(FileError):
    transient = True


class BackupDamaged(DigestMismatch):
    transient = False


class NotRecorded(FileError, KeyError):
    pass


class InstrumentBusy(FileError):
    transient = True


class MoveRefused(FileError):
    pass


class BackupIncomplete(MoveRefused):
    pass


class NameTaken(MoveRefused):
    pass


class ContentChanged(MoveRefused):
    pass


class NowhereFound(MoveRefused):
    pass


class PurgeRefused(FileError):
    pass


class RestoreRefused(FileError):
    pass


class OffsiteError(FileError):
    transient = True


class OffsiteAway(OffsiteError):
    pass


class OffsiteRefused(OffsiteError):
    pass


class OffsiteUnfit(OffsiteError):
    pass


class OffsiteDiffers(OffsiteError):
    pass


class JobError(KrakenError):
    pass


class SubmitFailed(JobError):
    transient = True


class OutputExists(JobError):
    pass


class UnknownSettings(JobError):
    pass


class SettingsRefused(JobError):
    pass


class InputMissing(JobError):
    transient = True


class OutputUnreadable(JobError):
    transient = True


class ClusterError(JobError):
    transient = True


class SchedulerAway(ClusterError):
    pass


class ClusterReplyUnreadable(ClusterError):
    pass


class ClusterUnreachable(ClusterError):
    pass


class AnswerLost(ClusterError):
    pass


class LoginUnusable(ClusterError):
    pass


class HostKeyRefused(ClusterError):
    pass


class LoginRefused(ClusterError):
    pass


class CatalogError(KrakenError):
    pass


class InputRefused(CatalogError):
    pass


class UnknownProject(CatalogError):
    pass


class UnknownAssignment(CatalogError):
    pass


class Archived(CatalogError):
    pass


class AlreadyThere(CatalogError):
    pass


class MetricsError(KrakenError):
    pass


class MissingOutputError(MetricsError):
    pass


class FileFormatError(MetricsError):
    pass


class NoRowCounts(FileFormatError):
    pass


class ReadingEnded(FileFormatError):
    pass


class UnsupportedRawFile(MetricsError):
    pass


class OwnFunctionError(MetricsError):
    pass


class ChannelFailed(KrakenError):
    transient = True
