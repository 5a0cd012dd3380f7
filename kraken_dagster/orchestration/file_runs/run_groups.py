"""What is due on one instrument at the same tick: a run for each file, or one run for many."""

import hashlib
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import dagster as dg

from kraken_dagster.model.files.file_ids import partition_key
from kraken_dagster.model.raw_file import RawFile, Status, Step
from kraken_dagster.orchestration.dagster_internals import EXTERNALLY_MANAGED_ASSETS_TAG
from kraken_dagster.orchestration.file_runs.run_requests import (
    RANGE_TAGS,
    ensure_partitions,
    request,
)
from kraken_dagster.orchestration.partitions import (
    TAG_COPIES,
    TAG_FILES,
    TAG_INSTRUMENT,
    TAG_STEP,
    as_range,
)
from kraken_dagster.runtime.services import Services

_MOST_FILES = 200
# The jobs of a run's files are submitted once all of them are copied: a minute or two at 100 MB/s.
_MOST_BYTES = 10_000_000_000


def in_groups(
    files: Sequence[RawFile], *, many_from: int, fixed: Collection[str] = ()
) -> list[list[RawFile]]:
    """The files of each run to be requested, in the order given: one, or `many_from` and more.

    What needs a backup, and what has failed before, stands in no group with others; a file at
    which a run has died, so that its lease is still there, in none at all. So no file pays for
    what another does to a run.

    Args:
        many_from: 0: none are put together.
        fixed: files whose partitions must stay where they are.
    """
    runs: list[list[RawFile]] = []
    kinds: dict[Hashable, list[RawFile]] = {}
    for item in files:
        if many_from < 1 or item.lease is not None or item.id in fixed:
            runs.append([item])
        else:
            kind = (item.is_backed_up, item.status is Status.ERROR)
            kinds.setdefault(kind, []).append(item)
    for some in kinds.values():
        for part in _parts(some):
            runs += [part] if len(part) >= many_from else [[item] for item in part]
    places = {item.id: place for place, item in enumerate(files)}
    return sorted(runs, key=lambda run: places[run[0].id])


def _parts(files: Sequence[RawFile]) -> list[list[RawFile]]:
    """Files of the same kind, in parts that one run does within minutes."""
    parts: list[list[RawFile]] = []
    left = 0
    for item in files:
        size = 0 if item.is_backed_up else item.size or 0
        if not parts or size > left or len(parts[-1]) == _MOST_FILES:
            parts.append([])
            left = _MOST_BYTES
        parts[-1].append(item)
        left -= size
    return parts


def request_run(
    instance: dg.DagsterInstance,
    services: Services,
    files: Sequence[RawFile],
    *,
    step: Step,
    job_name: str,
    run_config: dict[str, Any] | None = None,
    only: dg.AssetKey | None = None,
    copies: int | None = None,
) -> dg.RunRequest | None:
    """A run for one file, or for a group of files of one instrument; None if another was quicker.

    It carries the tag by which Dagster writes no event for each file before the run has begun.

    Args:
        only: one of the job's assets, else it is all of them.
        copies: so many files of a group are copied at a time.
    """
    if len(files) == 1:
        [one] = files
        ensure_partitions(instance, one.instrument_id, [one])
        return request(
            services, one, step=step, job_name=job_name, run_config=run_config, only=only
        )
    attempts = _attempts(services, files, step)
    if not attempts:
        return None
    instrument_id = files[0].instrument_id
    first, last = as_range(instance, instrument_id, [*attempts])
    return dg.RunRequest(
        run_key=f"{first} and {len(attempts) - 1} more:{step}:{_digest(attempts)}",
        job_name=job_name,
        run_config=run_config or {},
        asset_selection=None if only is None else [only],
        tags={
            **dict(zip(RANGE_TAGS, (first, last), strict=True)),
            **_tags_of_many(step, instrument_id, len(attempts), copies),
        },
    )


def _attempts(services: Services, files: Sequence[RawFile], step: Step) -> dict[str, int]:
    """By partition key; those with which another process was quicker are not among them."""
    counted = ((item, services.store.raw_files.next_attempt(item, step)) for item in files)
    return {partition_key(item.id): number for item, number in counted if number is not None}


def _tags_of_many(step: Step, instrument_id: str, files: int, copies: int | None) -> dict[str, str]:
    tags = {
        EXTERNALLY_MANAGED_ASSETS_TAG: "true",
        TAG_STEP: step.value,
        TAG_INSTRUMENT: instrument_id,
        TAG_FILES: str(files),
    }
    return tags if copies is None else {**tags, TAG_COPIES: str(copies)}


def _digest(attempts: dict[str, int]) -> str:
    """Another one for each attempt at any of the files."""
    told = "\n".join(f"{key}:{attempt}" for key, attempt in sorted(attempts.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]
