"""Every error that the libraries and the operating system can raise is sorted by the one table."""

import errno
import inspect
import json
import os
import sqlite3
import types
from pathlib import Path

import bson
import paramiko
import pyarrow.lib
import pydantic
import pymongo.errors
import pytest
import yaml

from kraken_dagster.fs.digests import output_errors, source_errors, target_errors
from kraken_dagster.model import errors
from kraken_dagster.model.errors.kinds import Kind, is_sorted, kind_of, kind_of_errno
from kraken_dagster.runtime.failures import unexpected_of
from kraken_dagster.store.errors import translated


def classes_of(module: types.ModuleType) -> list[type[Exception]]:
    """The exceptions that a module defines, or gives out, under a public name."""
    found = {
        cls
        for name, cls in vars(module).items()
        if not name.startswith("_") and inspect.isclass(cls) and issubclass(cls, Exception)
    }
    own = {cls for cls in found if cls.__module__.partition(".")[0] not in ("builtins", "_queue")}
    return sorted(own, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


LIBRARIES = (
    pymongo.errors,
    bson.errors,
    paramiko.ssh_exception,
    pyarrow.lib,
    sqlite3,
    yaml,
)
FOREIGN = sorted({cls for module in LIBRARIES for cls in classes_of(module)}, key=str)


@pytest.mark.parametrize("cls", FOREIGN, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_every_public_exception_of_a_library_is_sorted_by_itself(cls):
    assert is_sorted(cls)


@pytest.mark.parametrize("number", sorted(errno.errorcode), ids=lambda n: errno.errorcode[n])
def test_every_error_number_of_the_operating_system_is_sorted(number):
    assert is_sorted(number)
    assert kind_of(OSError(number, os.strerror(number))) is kind_of_errno(number)


TRANSIENT = "ESTALE EHOSTDOWN EACCES ENOTCONN EIO ETIMEDOUT ENODEV ENOSPC EDQUOT EROFS EBUSY EMFILE"
LASTING = "EFBIG ENAMETOOLONG EILSEQ EOVERFLOW ENOSYS EOPNOTSUPP"


@pytest.mark.parametrize("name", TRANSIENT.split())
def test_what_time_cures_is_tried_again_on_either_side_of_a_copy(name):
    number = getattr(errno, name)
    for boundary in (source_errors, target_errors, output_errors):
        with pytest.raises(errors.KrakenError) as caught, boundary(Path("x")):
            raise OSError(number, os.strerror(number))
        assert caught.value.transient, boundary


@pytest.mark.parametrize("name", LASTING.split())
def test_what_a_file_system_can_never_hold_waits_for_a_person(name):
    number = getattr(errno, name)
    for boundary in (source_errors, target_errors, output_errors):
        with pytest.raises(errors.FileSystemLimit) as caught, boundary(Path("x")):
            raise OSError(number, os.strerror(number))
        assert not caught.value.transient
        assert os.strerror(number) in str(caught.value)


def raised(function):
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whatever it is, is what is wanted
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda: bson.encode({"n": 2**70}), Kind.TOO_LARGE),
        (lambda: bson.encode({"a\0b": 1}), Kind.NAME),
        (lambda: bson.encode({"a": "\udcff"}), Kind.NAME),
        (lambda: bson.encode({"a": object()}), Kind.NAME),
        (lambda: bson.decode(b"nothing of this kind"), Kind.FORMAT),
        (lambda: json.loads("{"), Kind.FORMAT),
        (lambda: yaml.safe_load("a: ["), Kind.FORMAT),
        (lambda: pydantic.TypeAdapter(int).validate_python("x"), Kind.FORMAT),
        (lambda: sqlite3.connect(":memory:").execute("select * from none"), Kind.FORMAT),
        (lambda: sqlite3.connect("/nowhere/x"), Kind.BUSY),
        (lambda: pyarrow.array(["x"]).cast(pyarrow.float64()), Kind.FORMAT),
        (b"\xff".decode, Kind.FORMAT),
        (lambda: os.stat("/nowhere"), Kind.MISSING),
        (lambda: 1 / 0, None),
    ],
)
def test_what_is_really_raised_is_found_in_the_table(function, kind):
    assert kind_of(raised(function)) is kind


@pytest.mark.parametrize(
    ("error", "raised_as", "transient"),
    [
        (pymongo.errors.AutoReconnect("gone"), errors.StoreUnavailable, True),
        (pymongo.errors.WriteError("stepped down", 189), errors.StoreUnavailable, True),
        (pymongo.errors.OperationFailure("no", 10107), errors.StoreUnavailable, True),
        (pymongo.errors.OperationFailure("no", 11600), errors.StoreUnavailable, True),
        (pymongo.errors.OperationFailure("no", 91), errors.StoreUnavailable, True),
        (pymongo.errors.OperationFailure("slow", 50), errors.StoreUnavailable, True),
        (pymongo.errors.OperationFailure("who are you", 18), errors.StoreUnavailable, True),
        (pymongo.errors.OperationFailure("not you", 13), errors.StoreUnavailable, True),
        (pymongo.errors.WriteError("large", 10334), errors.RecordRefused, False),
        (pymongo.errors.DocumentTooLarge("large"), errors.RecordRefused, False),
        (bson.errors.InvalidDocument("odd"), errors.RecordRefused, False),
        (bson.errors.InvalidStringData("odd"), errors.RecordRefused, False),
        (OverflowError("8-byte ints"), errors.RecordRefused, False),
        (pymongo.errors.OperationFailure("never heard of it", 123_456), errors.StoreRefused, True),
    ],
)
def test_what_mongodb_raises_is_said_in_words(error, raised_as, transient):
    @translated
    class Collection:
        def method(self) -> None:
            raise error

    with pytest.raises(raised_as) as caught:
        Collection().method()
    assert type(caught.value) is raised_as
    assert caught.value.transient is transient
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("error", "transient", "unsorted"),
    [
        (OSError(errno.ESTALE, "stale"), True, False),
        (paramiko.SSHException("broken"), True, False),
        (pymongo.errors.DocumentTooLarge("large"), False, False),
        (pyarrow.lib.ArrowInvalid("torn"), False, False),
        (ZeroDivisionError("a fault"), True, True),
    ],
)
def test_a_foreign_error_has_words_and_what_to_do(error, transient, unsorted):
    reported = unexpected_of(error, "x.raw")
    assert (reported.transient, reported.unsorted) == (transient, unsorted)
    assert str(error) in str(reported)
    assert type(error).__name__ in str(reported)
    assert reported.next_step
