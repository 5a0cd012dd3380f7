"""The jobs of an instrument. Steps run in one process: a run is short, and waits for nothing."""

import dagster as dg

from kraken_dagster.partitions import (
    BACKUP,
    METRICS,
    QUANT_JOB,
    QUANT_RESULT,
    RAW_FILE,
    asset_key,
    collect_job,
    ingest_job,
    quant_job,
)


def instrument_jobs(instrument_id: str):
    """`<instrument>_ingest`, `<instrument>_quant` and `<instrument>_collect`."""
    steps = {
        ingest_job(instrument_id): (RAW_FILE, BACKUP, QUANT_JOB),
        quant_job(instrument_id): (QUANT_JOB,),
        collect_job(instrument_id): (QUANT_RESULT, METRICS),
    }
    return [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(
                *(asset_key(instrument_id, item) for item in assets)
            ),
        )
        for name, assets in steps.items()
    ]
