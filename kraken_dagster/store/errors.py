"""Turns the errors of pymongo and bson into the project's own, for every method of a collection."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from bson.errors import BSONError
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from kraken_dagster.model.errors import RecordRefused, StoreError, StoreRefused, StoreUnavailable
from kraken_dagster.model.errors.kinds import Kind, kind_of

C = TypeVar("C", bound=type)
# What bson raises of a value that no document can hold, beside errors of its own.
_AWAY = (Kind.AWAY, Kind.BUSY, Kind.FULL, Kind.SHORT, Kind.DEVICE)
_SHOWN = 500  # characters
_NO_VALUE = (OverflowError, RecursionError, UnicodeEncodeError)


def translated(cls: C) -> C:
    """Class decorator: every public method raises the project's errors in place of pymongo's."""
    for name, attribute in list(vars(cls).items()):
        if callable(attribute) and not name.startswith("_"):
            setattr(cls, name, _translated(attribute))
    return cls


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _in_own_words():
            return method(*args, **kwargs)

    @functools.wraps(method)
    def generate(*args: Any, **kwargs: Any) -> Any:  # asks MongoDB while it is gone through
        with _in_own_words():
            yield from method(*args, **kwargs)

    return generate if inspect.isgeneratorfunction(method) else call


@contextmanager
def _in_own_words() -> Iterator[None]:
    try:
        yield
    except (PyMongoError, BSONError, *_NO_VALUE) as error:
        raise _in_words(error) from error


def _in_words(error: Exception) -> StoreError:
    kind = kind_of(error)
    if kind is Kind.ACCESS and isinstance(error, OperationFailure):
        return StoreUnavailable(
            "MongoDB refuses Kraken's user",
            found=error.details.get("errmsg") if error.details else error,
            next_step="correct the user, password and authSource of `mongodb.uri`.",
        )
    if isinstance(error, ConnectionFailure) or kind in _AWAY:
        return StoreUnavailable(
            "MongoDB can't be reached, so nothing is done"
            if isinstance(error, ConnectionFailure)
            else "MongoDB can't answer now, so nothing is done",
            found=re.split(r",| \(configured timeouts", str(error), maxsplit=1)[0],
            next_step="start it or repair the network; Kraken goes on by itself.",
        )
    if kind in (Kind.TOO_LARGE, Kind.NAME, Kind.FORMAT):
        return RecordRefused(
            "MongoDB can't hold what is to be recorded",
            expected="a document of at most 16 MB, of texts in Unicode and numbers of 64 bits",
            found=f"{kind.meaning.lower()}: {type(error).__name__}: {str(error)[:_SHOWN]}",
            next_step="see what of the file is so large or so odd, and change it; then `kraken "
            "retry`. Nothing was recorded, and it is not tried again by itself.",
        )
    return StoreRefused(
        "MongoDB answers with an error",
        found=f"{type(error).__name__}: {str(error)[:_SHOWN]}",
        next_step="see MongoDB's log; tried again a few times, and after `kraken retry`.",
    )
