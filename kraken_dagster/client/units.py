"""In which unit the columns of a data frame are, by the one catalogue of metrics."""

from collections.abc import Collection
from warnings import warn

import pandas as pd

from kraken_dagster.client.errors import RestWarning
from kraken_dagster.metrics.catalogue import described

UNITS = "units"  # of DataFrame.attrs
_BYTES = {"size": "B"}
RT = {"rt_min": "min"}


def units_of_files(frame: pd.DataFrame) -> dict[str, str]:
    """By column. A column that isn't there is a count, a ratio, or of a program that tells none."""
    known = {name: _unit(name, None) for name in frame.columns}
    return {name: unit for name, unit in {**known, **_pick(_BYTES, frame)}.items() if unit}


def units_of_results(frame: pd.DataFrame, basic: Collection[str]) -> dict[str, str]:
    """The same for metrics. One that is in several units, by its type, is told and left out.

    Args:
        basic: columns that are no metrics.
    """
    found: dict[str, str] = {}
    for name in frame.columns:
        if name in basic:
            continue
        types = frame["type"][frame[name].notna()].unique()
        units = {str(kind): _unit(name, str(kind)) for kind in types}
        if len(set(units.values())) > 1:
            parts = [f"{unit or 'no known unit'} ({kind})" for kind, unit in sorted(units.items())]
            warn(
                f"{name} is in {', '.join(parts)}. Next: ask for one `type`.",
                RestWarning,
                stacklevel=3,
            )
        elif any(units.values()):
            found[name] = next(iter(units.values()))
    return found


def units_of_traces(frame: pd.DataFrame) -> dict[str, str]:
    """`value` only where all traces have one unit; else the column `unit` tells."""
    units = [str(unit) for unit in frame["unit"].unique()]
    return {**RT, "value": units[0]} if len(units) == 1 and units[0] else dict(RT)


def _unit(name: str, kind: str | None) -> str:
    known = described(name, kind)
    return "" if known is None else known.unit


def _pick(units: dict[str, str], frame: pd.DataFrame) -> dict[str, str]:
    return {name: unit for name, unit in units.items() if name in frame.columns}
