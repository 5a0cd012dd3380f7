"""Metrics of a type of the site's own: what a function gives that instruments.yaml names.

The function is called with the result folder, a `pathlib.Path`, and returns a mapping of names to
numbers, texts or None. It is somebody else's code, so that anything may come of it.
"""

import sysconfig
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NoReturn

from kraken_dagster.fs.result_files import is_away, unreadable
from kraken_dagster.metrics.partial import Reading
from kraken_dagster.model.errors import OwnFunctionError
from kraken_dagster.model.metric_values import faults_in_words, storable

_GROUP = "kraken.metrics"
_MOST_WORDS = 500  # characters
_WANTED = "a mapping of names to numbers, texts or None"


def read(metrics_type: str, name: str, folder: Path) -> Reading:
    """What the function gives, as far as it can be stored; what went wrong is a problem.

    Args:
        name: `package.module:function`.
    """
    try:
        metrics = _called(load(metrics_type, name), metrics_type, name, folder)
    except OwnFunctionError as error:
        return Reading({}, (error,))
    kept, faults = storable(metrics)
    if not faults:
        return Reading(kept)
    problem = _error(
        "returned metrics that can't be stored",
        metrics_type,
        name,
        folder=folder,
        expected=_WANTED,
        found=faults_in_words(faults),
        next_step="correct the function; its other metrics are kept.",
    )
    return Reading(kept, (problem,))


def load(metrics_type: str, name: str) -> Callable[[Path], Any]:
    """The function of that name; OwnFunctionError if it can't be imported or is none."""
    try:
        function = EntryPoint(metrics_type, name, _GROUP).load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs the site's own code
        _fail(
            "can't be loaded",
            metrics_type,
            name,
            error=error,
            next_step="install its package into the environment that Kraken runs in, or correct "
            "the name under `metrics` in instruments.yaml.",
        )
    if not callable(function):
        raise _error(
            "is none",
            metrics_type,
            name,
            expected="something that can be called",
            found=type(function).__name__,
            next_step="correct the name under `metrics` in instruments.yaml.",
        )
    return function  # type: ignore[no-any-return]


def _called(
    function: Callable[[Path], Any], metrics_type: str, name: str, folder: Path
) -> dict[object, object]:
    try:
        result = function(folder)
        if isinstance(result, Mapping):
            return {key: _unwrapped(value) for key, value in result.items()}
    except (Exception, SystemExit) as error:  # it may raise whatever it likes
        if isinstance(error, OSError) and is_away(error):
            raise unreadable(folder, error) from error
        _fail(
            "has failed",
            metrics_type,
            name,
            folder=folder,
            error=error,
            next_step="correct the function, or the results that it reads.",
        )
    raise _error(
        "returned something other than metrics",
        metrics_type,
        name,
        folder=folder,
        expected=_WANTED,
        found=type(result).__name__,
        next_step="correct the function.",
    )


def _unwrapped(value: object) -> object:
    """The number or text in a scalar of numpy's, which MongoDB doesn't know."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "shape", None) == () else value


def _fail(
    what: str,
    metrics_type: str,
    name: str,
    *,
    error: BaseException,
    next_step: str,
    folder: Path | None = None,
) -> NoReturn:
    words = traceback.format_exception_only(error)[-1].strip()  # even if its own `str` fails
    raise _error(
        what,
        metrics_type,
        name,
        folder=folder,
        found=words[:_MOST_WORDS] + _where(error),
        next_step=next_step,
    ) from error


def _where(error: BaseException) -> str:
    """The last line of the site's own code, or of a package that it uses."""
    if isinstance(error, SyntaxError) and error.filename:
        return f", in {error.filename}, line {error.lineno}"
    library = sysconfig.get_path("stdlib")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        inner = path.is_relative_to(library) and "site-packages" not in path.parts
        if not inner and path.is_absolute() and frame.filename != __file__:
            return f", in {frame.filename}, line {frame.lineno}"
    return ""


def _error(
    what: str, metrics_type: str, name: str, *, folder: Path | None = None, **facts: str
) -> OwnFunctionError:
    return OwnFunctionError(
        f"The function {name!r} for metrics of type {metrics_type!r} {what}", file=folder, **facts
    )
