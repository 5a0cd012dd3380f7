"""Metrics type `mzqc`: the numbers in an mzQC file that another program wrote.

A metric's name is its term's name, which a person can read; of an n-tuple each number has its place
behind it. Tables and texts are no metrics.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kraken_dagster.fs.digests import exists, output_errors
from kraken_dagster.metrics.partial import Draft, Reading
from kraken_dagster.metrics.tables import cant_read, opened
from kraken_dagster.model.errors import FileFormatError, MissingOutputError
from kraken_dagster.model.files.debris import is_debris

SUFFIX = ".mzqc"
OWN_NAME = "kraken.mzQC"  # that Kraken leaves beside a result, and is none
LARGEST = 64 * 1024**2  # bytes; metrics of a run are some kilobytes, tables of spectra megabytes


def read(folder: Path) -> Reading:
    """The metrics of the one `*.mzQC` in a result folder, of all runs in it that are one run's.

    What Kraken itself has left there, and debris, are no results. Problems are none or several such
    files, one that is no mzQC, several runs in it, and one without a number.
    """
    draft = Draft(folder)
    with draft.keeping():
        path = _only_file(folder)
        metrics = _metrics(path, _content(path))
        left_out = 0
        for name, value in metrics:
            numbers = list(_numbers(name, value))
            left_out += not numbers
            for metric, number in numbers:
                draft.metrics.setdefault(metric, number)
        if left_out:
            draft.notes.append(f"{left_out} metrics of {path.name} are tables or texts, left out")
        if not draft.metrics:
            raise FileFormatError(
                "An mzQC file has no number", file=path, expected="a metric whose value is one"
            )
    return draft.reading()


def _only_file(folder: Path) -> Path:
    with output_errors(folder):
        names = os.listdir(folder) if exists(folder) else []
    found = sorted(filter(_is_result, names))
    if len(found) == 1:
        return folder / found[0]
    raise MissingOutputError(
        "The result has no mzQC file" if not found else "The result has several mzQC files",
        file=folder,
        expected="one file *.mzQC",
        found=", ".join(found[:5]) or "none",
        next_step="look into the job's log.",
    )


def _is_result(name: str) -> bool:
    return name.lower().endswith(SUFFIX) and name != OWN_NAME and not is_debris(name)


def _content(path: Path) -> Any:
    with opened(path) as file:
        try:
            content = file.read(LARGEST + 1)
        except OSError as error:
            raise cant_read("An mzQC file can't be read", path, error) from error
    if len(content) > LARGEST:
        raise FileFormatError(
            "An mzQC file is too large", file=path, expected=f"at most {LARGEST} bytes"
        )
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            "An mzQC file can't be read", file=path, expected="JSON", found=error
        ) from error


def _metrics(path: Path, content: Any) -> list[tuple[str, Any]]:
    """Name and value of each metric of the one run."""
    try:
        runs = content["mzQC"]["runQualities"]
        # the first is the raw file; results of a search may follow
        inputs = {run["metadata"]["inputFiles"][0]["name"] for run in runs}
        found = [
            (item["name"], item.get("value")) for run in runs for item in run["qualityMetrics"]
        ]
    except (KeyError, IndexError, TypeError) as error:
        raise FileFormatError(
            "An mzQC file has another structure than mzQC",
            file=path,
            expected="mzQC.runQualities with metadata and qualityMetrics",
            found=f"{type(error).__name__}: {error}",
        ) from error
    if len(inputs) != 1:
        raise FileFormatError(
            "An mzQC file describes several raw files, or none",
            file=path,
            expected="one raw file's",
            found=f"{len(inputs)}: {', '.join(sorted(map(str, inputs))[:5])}",
        )
    return found


def _numbers(name: Any, value: Any) -> Iterator[tuple[Any, float | int | None]]:
    if isinstance(value, list):
        for place, item in enumerate(value, start=1):
            if _is_number(item):
                yield f"{name} {place}", item
    elif _is_number(value):
        yield name, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
