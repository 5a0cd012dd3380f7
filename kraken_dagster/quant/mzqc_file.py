"""The mzQC file that is left beside a result, where `qc.mzqc_files` asks for it."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kraken_dagster.fs.attributes import Refusals, flush
from kraken_dagster.fs.copying.part_files import open_part, part_path, remove_part, write_all
from kraken_dagster.fs.digests import output_errors
from kraken_dagster.fs.stores.roots import OpenRoot
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.metrics.mzqc.document import run_document
from kraken_dagster.metrics.mzqc.reader import OWN_NAME
from kraken_dagster.metrics.mzqc.results import result_of
from kraken_dagster.model.errors import CopyStalled, FileError, OutputUnreadable
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.runtime.services import Services


def leave_mzqc(
    services: Services,
    raw_file: RawFile,
    job: QuantJob,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    root: OpenRoot,
) -> str | None:
    """Writes the file into the result's folder, in place of an older one; why it could not.

    That costs no metric. Without a metric that has a term there is no file.
    """
    if not services.config.qc.mzqc_files:
        return None
    document = {
        **metrics,
        "settings_name": job.settings_name,
        "settings_version": job.settings_version,
        "type": job.metrics_type,
        "output_path": job.relative_output_path,
        "provenance": provenance,
    }
    output = services.config.locations.output.cluster_path
    result = result_of(raw_file, document, output=output)
    written = run_document([result], kraken=version("kraken-dagster"), now=services.now())
    if written is None:
        return None
    content = json.dumps(written, indent=1).encode()
    folder = services.result_folder(job, root.path)
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    try:
        bounded(lambda: _write(root.path, folder, content), timeout_s=stall_s, what=folder)
    except (FileError, OutputUnreadable, CopyStalled) as error:
        return f"{OWN_NAME} was not written: {error}"
    return None


def _write(root: Path, folder: Path, content: bytes) -> None:
    """Whole or not at all, and only below the root, wherever a job's links lead."""
    path = folder / OWN_NAME
    part = part_path(path)
    with output_errors(path):
        if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root)):
            raise PermissionError("the result's folder leads out of the output")
        try:
            handle = open_part(part)
            try:
                write_all(handle, content)
                flush(handle, Refusals())
            finally:
                os.close(handle)
            part.replace(path)
        finally:
            with suppress(OSError):  # its store is gone
                remove_part(part)
