"""What Dagit shows of each asset's materialisation, made from what MongoDB has recorded.

One function per asset, for the assets and for rebuilding. What only the run itself could tell (how
fast it copied, say) is added by the asset.
"""

import io
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dagster as dg

from kraken_dagster.metrics.catalogue import catalogue
from kraken_dagster.model.jobs.job import QuantJob, failed_details
from kraken_dagster.model.offsite import OffsiteState
from kraken_dagster.model.printable import code_block, printable
from kraken_dagster.model.raw_file import FileFact, RawFile
from kraken_dagster.model.raw_metrics import RawMetricsState
from kraken_dagster.raw_readers.plot import markdown
from kraken_dagster.raw_readers.traces import read_npz

Metadata = dict[str, dg.MetadataValue]
_DIGESTS_SHOWN = 50


def text(value: object) -> dg.MetadataValue:
    """A text that names may stand in, as Dagit may show it."""
    return dg.MetadataValue.text(printable(value))


def path(value: object) -> dg.MetadataValue:
    return dg.MetadataValue.path(printable(value))


def log(value: str) -> dg.MetadataValue:
    """What a program wrote; Dagit reads Markdown and HTML, and shows it as it is."""
    return dg.MetadataValue.md(code_block(value))


def page_metadata(page_url: object | None, raw_file_id: str) -> Metadata:
    """A link to the file on Kraken's page, where instruments.yaml says where that is."""
    if page_url is None:
        return {}
    query = urlencode({"id": raw_file_id})
    return {"page": dg.MetadataValue.url(f"{str(page_url).rstrip('/')}/file?{query}")}


def plots_metadata(page_url: object | None, instrument_id: str) -> Metadata:
    """A link to the instrument's plots over time on Kraken's page.

    Dagit draws over partitions, and labels each point with the name of its file.
    """
    if page_url is None:
        return {}
    query = urlencode({"filter": f"instrument_id=^{instrument_id}$"})
    return {"plots over time": dg.MetadataValue.url(f"{str(page_url).rstrip('/')}/plots?{query}")}


def catalogue_metadata(*types: str) -> Metadata:
    """What the metrics of an asset mean, for the asset's own page."""
    lines = ["| metric | unit | |", "|---|---|---|"]
    lines += [
        f"| `{item.name}` | {item.unit} | {item.definition} |"
        for item in catalogue()
        if not item.types or {*item.types} & {*types}
    ]
    return {"what the metrics mean": dg.MetadataValue.md("\n".join(lines))}


def acquisition_metadata(record: RawFile) -> Metadata:
    watched = record.acquisition
    metadata: Metadata = {
        "raw file": text(record.id),
        "created at": dg.MetadataValue.timestamp(record.created_at),
        "status": text(record.status.value),
        "project": text(record.project_id or ""),
        "acquisition errors": text("; ".join(watched.get("errors", ())) or "none"),
    }
    if watched.get("ended_at") is not None:
        ended = watched["ended_at"]
        metadata["acquisition ended at"] = dg.MetadataValue.timestamp(ended)
        minutes = (ended - record.created_at).total_seconds() / 60
        metadata["minutes until the end was seen"] = dg.MetadataValue.float(round(minutes, 3))
    if watched.get("ended_size") is not None:
        metadata["main file bytes"] = dg.MetadataValue.int(int(watched["ended_size"]))
    return metadata


def backup_metadata(
    record: RawFile,
    facts: Mapping[str, FileFact],
    *,
    how: str,
    manifest: Path | None,
    instrument_facts: Mapping[str, str],
) -> Metadata:
    metadata: Metadata = {
        "size bytes": dg.MetadataValue.int(sum(fact.size or 0 for fact in facts.values())),
        "files": dg.MetadataValue.int(len(facts)),
        "backup": text(record.backup_base_path or ""),
        "how": text(how),
    }
    if manifest is not None:
        metadata["manifest"] = path(str(manifest))
    for name, value in instrument_facts.items():
        metadata[name] = text(value)
    return metadata


def offsite_metadata(state: OffsiteState) -> Metadata:
    return {
        "off-site": text(state.path or ""),
        "files": dg.MetadataValue.int(state.files),
        "size bytes": dg.MetadataValue.int(state.bytes),
    }


def digests_metadata(facts: Mapping[str, FileFact]) -> Metadata:
    shown = {name: fact.md5 for name, fact in list(facts.items())[:_DIGESTS_SHOWN]}
    metadata: Metadata = {
        "files": dg.MetadataValue.int(len(facts)),
        "md5": dg.MetadataValue.json(shown),
    }
    for kind in {fact.kind for fact in facts.values() if fact.kind is not None}:
        seconds = {name: facts[name].second for name in shown}
        metadata[kind.value] = dg.MetadataValue.json(
            {name: it.hex for name, it in seconds.items() if it is not None and it.kind is kind}
        )
    return metadata


def submitted_metadata(jobs: Sequence[QuantJob], *, state: str) -> Metadata:
    metadata: Metadata = {
        "jobs": dg.MetadataValue.int(len(jobs)),
        "state": text(state),
    }
    for job in jobs:
        metadata[f"{job.settings_name} job"] = text(
            f"{job.id} ({job.cluster_job_id} on {job.engine})"
        )
        metadata[f"{job.settings_name} command"] = dg.MetadataValue.json(job.command)
        metadata[f"{job.settings_name} output"] = path(job.output_path)
    return metadata


def ended_metadata(jobs: Sequence[QuantJob]) -> Metadata:
    """Of jobs that have ended."""
    failures = [(job.settings_name, job.failure) for job in jobs if job.failure is not None]
    metadata: Metadata = {
        "jobs ended": dg.MetadataValue.int(len(jobs)),
        "jobs failed": dg.MetadataValue.int(len(failures)),
    }
    if failures:
        metadata["failures"] = text(failed_details(failures))
    for job in jobs:
        name = job.settings_name
        metadata[f"{name} output"] = path(job.output_path)
        if job.started_at and job.ended_at:
            seconds = (job.ended_at - job.started_at).total_seconds()
            metadata[f"{name} seconds"] = dg.MetadataValue.float(seconds)
        if job.peak_memory_bytes is not None:
            metadata[f"{name} peak memory bytes"] = dg.MetadataValue.int(job.peak_memory_bytes)
        if job.exit_code is not None:
            metadata[f"{name} exit code"] = dg.MetadataValue.int(job.exit_code)
        if job.node is not None:
            metadata[f"{name} node"] = text(job.node)
    return metadata


def metrics_metadata(
    record: RawFile,
    metrics: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Mapping[str, Any]],
) -> Metadata:
    """Numbers as numbers, so that Dagit plots each over the partitions.

    With one settings a metric has its own name, with several the settings' name in front.
    """
    several = len(metrics) > 1
    metadata: Metadata = {
        "status": text(record.status.value),
        "project": text(record.project_id or ""),
    }
    for settings, found in metrics.items():
        for name, value in found.items():
            key = f"{settings}: {name}" if several else name
            if isinstance(value, bool | str):
                metadata[key] = text(str(value))
            elif value is not None and math.isfinite(value):
                metadata[key] = dg.MetadataValue.float(float(value))
    for settings, origin in provenance.items():
        metadata[f"{settings} provenance"] = dg.MetadataValue.json(_as_json(origin))
    return metadata


def index_metadata(state: RawMetricsState | None, reported: str) -> Metadata:
    """Of the check `index_complete`."""
    if state is None:
        return {"what was found": text(f"nothing was read: {reported}")}
    return {
        "what was found": text(reported),
        "read at": dg.MetadataValue.timestamp(state.at),
    }


def raw_metrics_metadata(
    state: RawMetricsState,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    traces: bytes = b"",
) -> Metadata:
    """Numbers as numbers, the facts as text, and the chromatogram as a picture."""
    metadata: Metadata = {}
    if traces and (tic := read_npz(io.BytesIO(traces)).get("tic")) is not None and tic.values:
        metadata["TIC"] = dg.MetadataValue.md(markdown(tic))
    metadata["index"] = text(state.in_words)
    for name, value in metrics.items():
        if isinstance(value, int | float) and math.isfinite(value):
            metadata[name] = dg.MetadataValue.float(float(value))
    for name, fact in (provenance.get("facts") or {}).items():
        if fact not in (None, ""):
            metadata[name] = text(fact)
    if state.traces is not None:
        metadata["traces"] = path(state.traces)
    reported = {key: value for key, value in provenance.items() if key not in ("facts", "traces")}
    return {**metadata, "provenance": dg.MetadataValue.json(_as_json(reported))}


def _as_json(value: Any) -> Any:
    """Plain values, with times as ISO 8601."""
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value
