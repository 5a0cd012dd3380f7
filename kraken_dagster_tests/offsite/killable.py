"""An upload in a process of its own, so that a test can kill it: CONFIG NAME TIME."""

import sys
from contextlib import closing
from datetime import datetime

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.offsite.client import connect as connect_s3
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect

if __name__ == "__main__":
    text, name, time = sys.argv[1:]
    config, now = KrakenConfig.model_validate_json(text), datetime.fromisoformat(time)
    assert config.mongodb.uri is not None
    assert config.offsite is not None
    with closing(connect(config.mongodb.uri)) as store:
        services = Services(config=config, store=store, engines={}, now=lambda: now)
        upload_file(services, connect_s3(config.offsite), name, run_id="killed")
