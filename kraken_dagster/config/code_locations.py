"""The schema of `code_locations` in instruments.yaml: which instruments are served together."""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from kraken_dagster.model.strict import Strict

LOCATION_NAME = r"[a-z0-9_]{1,40}"
LocationName = Annotated[str, StringConstraints(pattern=f"^{LOCATION_NAME}$")]
_Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
# What `docker/compose.yaml` calls its own.
_TAKEN = frozenset({"postgres", "mongodb", "daemon", "dagit", "page", "kraken", "demo"})


class CodeLocation(Strict):
    """Instruments that one process serves, where `kraken compose` makes its service."""

    instruments: list[str] = Field(min_length=1, description="The instruments that it serves.")
    host: _Address | None = Field(
        None,
        description="The address of the host on which it runs, as Dagster's daemon reaches it; "
        "else it runs beside the daemon.",
    )
    port: int = Field(4000, ge=1, le=65535, description="The port of its gRPC server on that host.")


def locations_of(
    named: Mapping[str, CodeLocation], instruments: Collection[str]
) -> dict[str, CodeLocation]:
    """Those that are named, and one of its own for every other instrument, by its id."""
    spoken_for = {name for item in named.values() for name in item.instruments}
    alone = {
        name: CodeLocation(instruments=[name], host=None, port=4000)
        for name in instruments
        if name not in spoken_for
    }
    return {**named, **alone}


def location_problems(
    named: Mapping[str, CodeLocation], instruments: Collection[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Pairs of the key that is wrong and what was expected."""
    served: dict[str, str] = {}
    for name, item in named.items():
        key = ("code_locations", name, "instruments")
        for instrument_id in item.instruments:
            if instrument_id not in instruments:
                yield key, f"expected instruments of this file, found {instrument_id!r}"
            elif (other := served.setdefault(instrument_id, name)) != name:
                yield key, f"expected each instrument once; {instrument_id!r} is in {other!r} too"
    for name in locations_of(named, instruments):
        if name in _TAKEN:
            yield ("code_locations", name), "expected a name that no other service has"
