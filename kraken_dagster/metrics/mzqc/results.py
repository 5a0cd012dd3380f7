"""A document of the collection `metrics` as mzQC tells of it."""

import math
from collections.abc import Mapping
from typing import Any

from kraken_dagster.metrics.mzqc.document import RawInput, Result
from kraken_dagster.model.metric_values import RESERVED_NAMES
from kraken_dagster.model.raw_file import RawFile


def result_of(
    raw_file: RawFile, document: Mapping[str, Any], *, output: str, verdict: str | None = None
) -> Result:
    """
    Args:
        output: the root of all results, as a path.
        verdict: how the run was judged by this result, if it was.
    """
    provenance = document.get("provenance") or {}
    name = provenance.get("software") or provenance.get("reader") or "unknown program"
    software = provenance.get("software_version") or provenance.get("kraken") or "unknown"
    return Result(
        raw_input=raw_input(raw_file),
        settings=f"{document.get('settings_name')}:{document.get('settings_version') or 1}",
        metrics_type=str(document.get("type")),
        software=(str(name), str(software)),
        metrics={
            key: value
            for key, value in document.items()
            if key not in RESERVED_NAMES and _is_number(value)
        },
        output=f"{output}/{document.get('output_path') or ''}",
        verdict=verdict,
    )


def raw_input(raw_file: RawFile) -> RawInput:
    members = list(raw_file.file_info.values())
    return RawInput(
        name=raw_file.id,
        folder=raw_file.backup_base_path if raw_file.is_backed_up else None,
        acquired_at=raw_file.created_at,
        md5=members[0].md5 if len(members) == 1 else None,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
