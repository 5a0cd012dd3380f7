"""Turns pymongo's connection errors into the project's own, for every method of a collection."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from kraken_dagster.domain.errors import StoreRefused, StoreUnavailable

C = TypeVar("C", bound=type)
_AWAY = (ConnectionFailure, ExecutionTimeout, WTimeoutError, WaitQueueTimeoutError)
_UNAUTHORIZED = (13, 18)


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
    except _AWAY as error:
        raise StoreUnavailable(
            "MongoDB can't be reached, so nothing is done",
            found=str(error).split(",", maxsplit=1)[0],
            next_step="start it or mend the network; Kraken goes on by itself.",
        ) from error
    except OperationFailure as error:
        if error.code not in _UNAUTHORIZED:
            raise _refused(error) from error
        raise StoreUnavailable(
            "MongoDB refuses Kraken's user",
            found=error.details.get("errmsg") if error.details else error,
            next_step="correct the user, password and authSource of `mongodb.uri`.",
        ) from error
    except PyMongoError as error:
        raise _refused(error) from error


def _refused(error: PyMongoError) -> StoreRefused:
    return StoreRefused(
        "MongoDB answers with an error",
        found=error,
        next_step="see MongoDB's log; what was asked of it is tried again by itself.",
    )
