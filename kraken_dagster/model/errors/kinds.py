"""Which foreign errors time can cure, what each means, and what to do: the one table.

An error of the operating system is found by its number, one of MongoDB's server by its code, any
other by the name of its class or of the nearest class that it derives from. Names, because the
rules import no library. A test goes through all that the installed libraries can raise; what is
not here is not known, and is tried again a few times only (`runtime/failures.py`).
"""

import errno
from collections.abc import Mapping
from enum import Enum


class Kind(Enum):
    """`transient`: time, or somebody who mends a disk, a network or a right, cures it."""

    AWAY = (
        True,
        "A share, a disk or a service can't be reached, or gives no answer",
        "check that it is up, the network and the mounts; tried again by itself.",
    )
    BUSY = (
        True,
        "Another program has it in use, or was quicker",
        "nothing: tried again by itself. See what holds it if this goes on.",
    )
    FULL = (
        True,
        "No space, or no quota, is left",
        "free some; tried again by itself.",
    )
    ACCESS = (
        True,
        "Kraken's user is not allowed to do it, or the login is refused",
        "check its rights, its password or key, and whether the disk is mounted read-only; tried "
        "again by itself.",
    )
    DEVICE = (
        True,
        "A disk or a share reports an error of its own",
        "check the disk, the cable, and the log of the machine that serves it; tried again by "
        "itself.",
    )
    SHORT = (
        True,
        "This machine is short of memory, open files or processes",
        "see what uses them up, and raise the limit if it is Kraken; tried again by itself.",
    )
    MISSING = (
        True,
        "A file or a folder is not there",
        "find out who moved or deleted it; tried again by itself.",
    )
    TAKEN = (
        True,
        "Something else has that name, or stands in that folder",
        "see what it is; tried again by itself.",
    )
    TOO_LARGE = (
        False,
        "It is larger than what is to hold it can take",
        "see what of the file is so large, or use a disk that can hold it; then `kraken retry`.",
    )
    NAME = (
        False,
        "A name or a text that can't be stored there",
        "rename it, or use a disk that knows such names; then `kraken retry`.",
    )
    FORMAT = (
        False,
        "Its content is not what it should be",
        "see what wrote it; make it anew or correct it, then `kraken retry`.",
    )
    CONFIGURATION = (
        False,
        "The configuration asks for what can't be",
        "correct it; `kraken doctor` checks it. Then `kraken retry`.",
    )
    UNABLE = (
        False,
        "The file system or the operating system can't do it, or a fault in Kraken asked for it",
        "see the run's log, and what kind of file system it is; report it if it is a fault. Then "
        "`kraken retry`.",
    )

    def __init__(self, transient: bool, meaning: str, next_step: str) -> None:
        self.transient = transient
        self.meaning = meaning
        self.next_step = next_step


_BY_ERRNO_NAME: Mapping[Kind, str] = {
    Kind.AWAY: "ESTALE EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENETRESET ENOTCONN ECONNREFUSED "
    "ECONNRESET ECONNABORTED ETIMEDOUT ETIME ENODEV ENXIO ENOMEDIUM EMEDIUMTYPE ENOLINK ECOMM "
    "EREMOTE EREMCHG ENONET EPIPE ESHUTDOWN EADDRNOTAVAIL EADDRINUSE EUNATCH ESRMNT EADV EISCONN "
    "ENOTUNIQ EPROTO EREMOTEIO EMULTIHOP",
    Kind.BUSY: "EBUSY EAGAIN EWOULDBLOCK EINTR ETXTBSY EDEADLK EDEADLOCK ENOLCK EALREADY "
    "EINPROGRESS ECANCELED ERESTART ECHILD ESRCH EOWNERDEAD",
    Kind.FULL: "ENOSPC EDQUOT EXFULL",
    Kind.ACCESS: "EACCES EPERM EROFS ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED ERFKILL",
    Kind.DEVICE: "EIO EUCLEAN EBADMSG EBADE EBADR EBADRQC EBADSLT ENODATA EISNAM ENOTNAM ENAVAIL "
    "ENOTRECOVERABLE EL2HLT EL2NSYNC EL3HLT EL3RST ELNRNG ECHRNG ENOCSI ENOANO EBFONT EDOTDOT "
    "ENOMSG EIDRM ESTRPIPE",
    Kind.SHORT: "ENOMEM EMFILE ENFILE ENOBUFS EUSERS ETOOMANYREFS ENOSR",
    Kind.MISSING: "ENOENT ENOTDIR",
    Kind.TAKEN: "EEXIST ENOTEMPTY EISDIR",
    Kind.TOO_LARGE: "EFBIG E2BIG EMSGSIZE EOVERFLOW ERANGE",
    Kind.NAME: "ENAMETOOLONG EILSEQ ELOOP EINVAL",
    Kind.UNABLE: "ENOSYS ENOTSUP EOPNOTSUPP EXDEV EMLINK EBADF EBADFD EFAULT ESPIPE ENOTTY ENOTBLK "
    "ENOEXEC EDOM ENOTSOCK EDESTADDRREQ EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT "
    "EPFNOSUPPORT EAFNOSUPPORT ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC ENOPKG ENOSTR",
}
_BY_ERRNO = {
    getattr(errno, name): kind
    for kind, names in _BY_ERRNO_NAME.items()
    for name in names.split()
    if hasattr(errno, name)  # not every system has them all
}

_OPERATION_FAILURE = "pymongo.errors.OperationFailure"
# By the numbers of MongoDB's error codes.
_BY_SERVER_CODE: Mapping[Kind, tuple[int, ...]] = {
    # HostUnreachable, HostNotFound, NetworkTimeout, the shutdowns, the changes of primary, and
    # what is interrupted by one of them.
    Kind.AWAY: (
        *(6, 7, 43, 50, 64, 74, 89, 91, 133, 134, 175, 189, 202, 237, 262, 317, 358, 384, 9001),
        *(10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436),
    ),
    Kind.BUSY: (24, 46, 112, 236, 251, 290),
    Kind.FULL: (14031,),
    Kind.ACCESS: (11, 13, 18, 33, 34, 8000),
    Kind.SHORT: (39, 146, 292),
    Kind.TAKEN: (11000, 11001, 12582),
    Kind.TOO_LARGE: (10334, 17280, 17419, 17420),  # BSONObjectTooLarge, KeyTooLong, Resulting...
    # BadValue, TypeMismatch, Overflow, InvalidLength, UnsuitableValueType, $ and . in names
    Kind.NAME: (2, 14, 15, 16, 22, 28, 52, 53, 54, 55, 56, 57, 121),
    Kind.CONFIGURATION: (26, 73, 85, 86),
    Kind.UNABLE: (9, 20, 59, 115, 168, 352),
}
_BY_CODE = {code: kind for kind, codes in _BY_SERVER_CODE.items() for code in codes}

_BY_CLASS_NAME: Mapping[Kind, tuple[str, ...]] = {
    Kind.AWAY: (
        "builtins.ConnectionError",
        "builtins.EOFError",  # of a connection that broke; nothing else here raises it
        "builtins.TimeoutError",
        "concurrent.futures._base.TimeoutError",
        "paramiko.ssh_exception.ChannelException",
        "paramiko.ssh_exception.CouldNotCanonicalize",
        "paramiko.ssh_exception.MessageOrderError",
        "paramiko.ssh_exception.NoValidConnectionsError",
        "paramiko.ssh_exception.ProxyCommandFailure",
        "paramiko.ssh_exception.SSHException",
        "pymongo.errors.AutoReconnect",
        "pymongo.errors.ConnectionFailure",
        "pymongo.errors.CursorNotFound",
        "pymongo.errors.ExecutionTimeout",
        "pymongo.errors.NetworkTimeout",
        "pymongo.errors.NotPrimaryError",
        "pymongo.errors.ProtocolError",
        "pymongo.errors.ServerSelectionTimeoutError",
        "pymongo.errors.WTimeoutError",
        "pymongo.errors.WriteConcernError",
        "socket.gaierror",
        "socket.herror",
        "ssl.SSLError",
    ),
    Kind.BUSY: (
        "builtins.BlockingIOError",
        "builtins.InterruptedError",
        "builtins.ProcessLookupError",
        "pyarrow.lib.ArrowCancelled",
        "pymongo.errors.WaitQueueTimeoutError",
        "sqlite3.OperationalError",  # locked, or its disk is in trouble
    ),
    Kind.ACCESS: (
        "builtins.PermissionError",
        "paramiko.ssh_exception.AuthenticationException",
        "paramiko.ssh_exception.BadAuthenticationType",
        "paramiko.ssh_exception.BadHostKeyException",
        "paramiko.ssh_exception.PartialAuthentication",
        "paramiko.ssh_exception.PasswordRequiredException",
        "paramiko.ssh_exception.UnableToAuthenticate",
        "ssl.SSLCertVerificationError",
    ),
    Kind.DEVICE: ("builtins.OSError",),
    Kind.SHORT: ("builtins.MemoryError", "pyarrow.lib.ArrowMemoryError"),
    Kind.MISSING: ("builtins.FileNotFoundError", "builtins.NotADirectoryError"),
    Kind.TAKEN: (
        "builtins.FileExistsError",
        "builtins.IsADirectoryError",
        "pymongo.errors.DuplicateKeyError",
        "sqlite3.IntegrityError",
    ),
    Kind.TOO_LARGE: (
        "builtins.OverflowError",  # a number of more than 64 bits
        "pyarrow.lib.ArrowCapacityError",
        "pymongo.errors.DocumentTooLarge",
        "sqlite3.DataError",
    ),
    Kind.NAME: (
        "bson.errors.InvalidDocument",
        "bson.errors.InvalidStringData",
        "builtins.UnicodeEncodeError",
        "pymongo.errors.CollectionInvalid",
        "pymongo.errors.InvalidName",
    ),
    Kind.FORMAT: (
        "_csv.Error",
        "bson.errors.BSONError",
        "bson.errors.InvalidBSON",
        "bson.errors.InvalidId",
        "builtins.RecursionError",
        "builtins.UnicodeError",
        "json.decoder.JSONDecodeError",
        "pyarrow.lib.ArrowException",
        "pyarrow.lib.ArrowIndexError",
        "pyarrow.lib.ArrowInvalid",
        "pyarrow.lib.ArrowKeyError",
        "pyarrow.lib.ArrowSerializationError",
        "pyarrow.lib.ArrowTypeError",
        "pydantic_core._pydantic_core.ValidationError",
        "sqlite3.DatabaseError",
        "sqlite3.Error",
        "sqlite3.InternalError",
        "sqlite3.Warning",
        "struct.error",
        "yaml.error.MarkedYAMLError",
        "yaml.error.YAMLError",
        "zlib.error",
    ),
    Kind.CONFIGURATION: (
        "paramiko.ssh_exception.ConfigParseError",
        "paramiko.ssh_exception.IncompatiblePeer",
        "pymongo.errors.ConfigurationError",
        "pymongo.errors.EncryptedCollectionError",
        "pymongo.errors.EncryptionError",
        "pymongo.errors.InvalidURI",
    ),
    Kind.UNABLE: (
        "io.UnsupportedOperation",
        "pyarrow.lib.ArrowNotImplementedError",
        "pymongo.errors.InvalidOperation",
        "sqlite3.InterfaceError",
        "sqlite3.NotSupportedError",
        "sqlite3.ProgrammingError",
    ),
}
_BY_NAME = {name: kind for kind, names in _BY_CLASS_NAME.items() for name in names}

# Of these the code decides. One without a code that is known here is not known.
_SORTED_BY_CODE = frozenset(
    {
        _OPERATION_FAILURE,
        "pymongo.errors.BulkWriteError",
        "pymongo.errors.ClientBulkWriteException",
        "pymongo.errors.PyMongoError",  # what all of them derive from, which says nothing
        "pymongo.errors.WriteError",
    }
)


def kind_of(error: BaseException) -> Kind | None:
    """What kind of trouble it is; None where nobody has sorted such an error."""
    for cls in type(error).__mro__:
        name = _name(cls)
        number = getattr(error, "errno", None)
        if cls.__module__ == "builtins" and issubclass(cls, OSError) and number in _BY_ERRNO:
            return _BY_ERRNO[number]
        if name in _SORTED_BY_CODE:
            if (kind := _BY_CODE.get(getattr(error, "code", None) or 0)) is not None:
                return kind
        elif getattr(error, "sqlite_errorname", None) == "SQLITE_ERROR":  # no such table, say
            return Kind.FORMAT
        elif name in _BY_NAME:
            return _BY_NAME[name]
    return None


def kind_of_errno(number: int | None) -> Kind:
    """What kind of trouble an error number of the operating system stands for."""
    return _BY_ERRNO.get(number or 0, Kind.DEVICE)


def is_sorted(item: type[BaseException] | int) -> bool:
    """Whether the table has this very class, and not only one that it derives from; or this error
    number."""
    if isinstance(item, int):
        return item in _BY_ERRNO
    return _name(item) in _BY_NAME or _name(item) in _SORTED_BY_CODE


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
