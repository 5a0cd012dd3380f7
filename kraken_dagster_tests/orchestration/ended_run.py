"""A run in a process of its own, which a test tells to end, or kills; no tests.

python -m kraken_dagster_tests.orchestration.ended_run CONFIG DAGSTER_HOME JOB FIRST LAST [TAGS]
"""

import json
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.dagster_bench import Bench


def main(config_path: str, home: str, job: str, *ends_and_tags: str) -> None:
    first, last, *tags = ends_and_tags
    config = KrakenConfig.model_validate_json(Path(config_path).read_text())
    assert config.mongodb.uri is not None
    with (
        closing(connect(config.mongodb.uri)) as store,
        dg.DagsterInstance.from_config(home) as instance,
    ):
        bench = Bench(config, store, instance)
        if first == last:
            bench.execute(job, first)
        else:
            bench.execute_range(
                job, first, last, encoded=True, tags=json.loads(tags[0]) if tags else {}
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
