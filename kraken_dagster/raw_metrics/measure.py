"""Reads one raw file's backup, and records what came of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from kraken_dagster.fs.result_files import is_share_failure
from kraken_dagster.fs.stores.manifest import manifest_text
from kraken_dagster.model.errors import (
    BackupUnwritable,
    CopyStalled,
    FileError,
    KrakenError,
    OutputUnreadable,
    StoreError,
    UnsupportedRawFile,
)
from kraken_dagster.model.metric_values import Value
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.raw_metrics import RawMetricsState, RawMetricsStatus
from kraken_dagster.raw_metrics.trace_files import keep_traces
from kraken_dagster.raw_readers.limited import RawReading, read_raw
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup

_LONGEST_PROBLEM = 2_000  # characters


@dataclass(frozen=True)
class RawOutcome:
    """What came of a raw file. `state` is None where it was not read, and nothing is recorded."""

    raw_file: RawFile
    reason: str
    state: RawMetricsState | None = None
    metrics: Mapping[str, Value] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    traces: bytes = b""


def measure(services: Services, raw_file_id: str) -> RawOutcome:
    """Reads the raw file's verified backup in a child process with limits.

    A file that can't be read has a state that says so; neither its status nor its backup changes.
    Where the backup store is away or gives no answer, nothing is recorded: it is still missing.

    Raises:
        StoreError: MongoDB is away.
    """
    raw_file = services.store.raw_files.current(raw_file_id)
    if not raw_file.is_backed_up or not raw_file.file_info:
        return RawOutcome(raw_file, "there is no verified backup to be read")
    try:
        reading = _read(services, raw_file)
    except StoreError:
        raise
    except (FileError, CopyStalled) as error:  # nothing is known of the file
        return RawOutcome(raw_file, str(error))
    except UnsupportedRawFile as error:
        return _without_metrics(services, raw_file, RawMetricsStatus.UNSUPPORTED, error)
    except Exception as error:  # noqa: BLE001 - a site's reader may raise anything
        return _without_metrics(services, raw_file, RawMetricsStatus.FAILED, error)
    return _record(services, raw_file, reading)


def _read(services: Services, raw_file: RawFile) -> RawReading:
    with opened_backup(services, raw_file) as root:
        path = services.backup_folder(raw_file, root.path) / raw_file.id
        try:
            return read_raw(
                path,
                limits=services.config.reading_limits,
                wall_s=services.instrument(raw_file.instrument_id).copy_stall_s,
            )
        except OSError as error:
            if not is_share_failure(error):
                raise
            raise BackupUnwritable(
                "The backup store gives an error, so the raw file can't be read now",
                file=path,
                found=error.strerror or error,
                next_step="check that it is mounted, its disk, and the rights of Kraken's user; "
                "read again a few times by itself, and by a catch-up with `raw_metrics`.",
            ) from error


def _without_metrics(
    services: Services, raw_file: RawFile, status: RawMetricsStatus, error: Exception
) -> RawOutcome:
    reported = str(error) if isinstance(error, KrakenError) else f"{type(error).__name__}: {error}"
    state = RawMetricsState(status=status, at=services.now(), problem=reported[:_LONGEST_PROBLEM])
    services.store.raw_metrics.keep(raw_file.id, state)
    return RawOutcome(raw_file, state.in_words, state)


def _record(services: Services, raw_file: RawFile, reading: RawReading) -> RawOutcome:
    """Traces first, then metrics, and last the state that says that both are there."""
    now = services.now()
    traces, problem = _traces(services, raw_file, reading)
    provenance: dict[str, Any] = {
        "kraken": version("kraken-dagster"),
        "reader": reading.reader,
        "format_version": reading.format_version,
        "backup_digest": _digest(raw_file),
        "facts": dict(reading.facts),
        "traces": dict(reading.trace_titles),
        "incomplete": reading.incomplete or None,
        "notes": [problem] if problem else [],
    }
    services.store.raw_metrics.add(
        raw_file.id, reading.metrics, traces=traces, provenance=provenance, now=now
    )
    state = RawMetricsState(
        status=RawMetricsStatus.DONE,
        at=now,
        complete=reading.complete,
        incomplete=reading.incomplete or None,
        traces=traces,
    )
    services.store.raw_metrics.keep(raw_file.id, state)
    return RawOutcome(raw_file, state.in_words, state, reading.metrics, provenance, reading.traces)


def _traces(
    services: Services, raw_file: RawFile, reading: RawReading
) -> tuple[str | None, str | None]:
    """Where they are kept, relative to the output; or why they aren't, which costs no metric."""
    if not reading.trace_titles:
        return None, None
    try:
        return keep_traces(services, raw_file, reading.traces), None
    except (FileError, OutputUnreadable, CopyStalled) as error:
        return None, f"the traces were not kept: {error}"


def _digest(raw_file: RawFile) -> str:
    """Of what was read: the MD5 of the backup's manifest."""
    text = manifest_text(raw_file.file_info)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
