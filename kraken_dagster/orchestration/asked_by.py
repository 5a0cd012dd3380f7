"""Who asked for a run: a person, a sensor, or a catch-up."""

import dagster as dg

from kraken_dagster.orchestration.partitions import CATCHUP, TAG_STEP


def asked_by_hand(context: dg.AssetExecutionContext) -> bool:
    """Whether a person asked for this run; a sensor's runs carry its tag."""
    return TAG_STEP not in context.run.tags


def is_catchup(context: dg.AssetExecutionContext) -> bool:
    """Whether `<instrument>_catchup` has launched this run."""
    return context.run.tags.get(TAG_STEP) == CATCHUP
