"""Kraken's errors as plain records, which pass from one process to another."""

import builtins
from collections.abc import Mapping
from typing import Any

from kraken_dagster.model import errors
from kraken_dagster.model.errors import KrakenError

_LONGEST = 20_000  # characters of one text
_TEXTS = ("what", "file", "expected", "found", "next_step")


def error_to_record(error: BaseException) -> dict[str, Any]:
    """The error's class and its texts, as JSON takes them."""
    if isinstance(error, KrakenError):
        texts = {name: getattr(error, name) for name in _TEXTS}
        reported = {name: text and str(text)[:_LONGEST] for name, text in texts.items()}
        return {"class": type(error).__name__, **reported}
    if isinstance(error, OSError) and error.errno is not None:
        reported = {"errno": error.errno, "text": error.strerror, "file": _text(error.filename)}
        return {"class": "OSError", **reported}
    text = error.args[0] if len(error.args) == 1 else error  # KeyError's own would be quoted
    return {"class": type(error).__name__, "text": str(text)[:_LONGEST]}


def error_from_record(record: Mapping[str, Any]) -> Exception:
    """The same error again. One of a class that is neither Kraken's nor Python's is a
    FileFormatError: a library has raised it over somebody's file.
    """
    name = str(record["class"])
    ours = getattr(errors, name, None)
    if isinstance(ours, type) and issubclass(ours, KrakenError):
        texts = {key: record.get(key) for key in _TEXTS if key != "what"}
        return ours(str(record.get("what")), **texts)
    if name == "OSError" and record.get("errno") is not None:
        return OSError(record["errno"], record.get("text"), record.get("file"))
    foreign = getattr(builtins, name, None)
    text = str(record.get("text"))
    if isinstance(foreign, type) and issubclass(foreign, Exception) and not _is_picky(foreign):
        return foreign(text)
    return errors.FileFormatError("A file can't be read", found=f"{name}: {text}")


def _is_picky(cls: type[Exception]) -> bool:
    """Whether its constructor wants more than a text."""
    return issubclass(cls, UnicodeError | BaseExceptionGroup)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
