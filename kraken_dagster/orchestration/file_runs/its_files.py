"""Which files a run is for, and how many of them it may copy at once."""

import dagster as dg

from kraken_dagster.model.files.file_ids import raw_file_id_of
from kraken_dagster.orchestration.partitions import TAG_COPIES, TAG_FILES


def files_of(context: dg.AssetExecutionContext) -> list[str]:
    """The raw files of the run's partitions, in the order of the partitions.

    Raises:
        dg.Failure: a sensor has requested the run for another number of files. A range of
            partitions is looked up when its run begins, and some may have come or gone by then.
    """
    names = [raw_file_id_of(item) for item in context.partition_keys]
    requested = context.run.tags.get(TAG_FILES)
    if requested is None or int(requested) == len(names):
        return names
    raise dg.Failure(
        f"This run was requested for {requested} files, and {len(names)} stand in its range of "
        "partitions by now. Nothing was begun. Next: nothing, what is missing is requested again.",
        allow_retries=False,
    )


def copies_at_once(context: dg.AssetExecutionContext, *, slots: int, threads: int) -> int:
    """How many files are copied at a time: not more than the instrument has slots, nor than the
    sensor that has requested the run found free."""
    free = int(context.run.tags.get(TAG_COPIES, slots))
    return min(threads, max(slots, 1), max(free, 1))
