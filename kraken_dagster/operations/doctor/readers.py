"""`kraken doctor --compare-readers FILE`: two readers of one Thermo raw file, column by column."""

from pathlib import Path

from kraken_dagster.fs.limited.limits import ReadingLimits
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.operations.doctor.finding import Finding
from kraken_dagster.raw_readers.compare import compare


def compare_readers(raw: Path, limits: ReadingLimits) -> list[Finding]:
    try:
        found = compare(raw.absolute(), limits=limits)
    except KrakenError as error:
        return [Finding("error", "readers", str(error))]
    return [
        Finding("warning" if item.differ else "ok", f"readers: {item.column}", item.in_words)
        for item in found
    ]
