"""One page over one database for all tests that only read."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import database_uri, job, mark_stores
from kraken_dagster_tests.web.laboratory import OpenPage, fill, served, with_traces

RERUN = "bruker1_hela_0011.raw"  # has a second, newer result of the same settings
TRACED = ("thermo1_hela_0006.raw", "bruker1_hela_0007.raw")
MEMBERS, MD5 = "thermo1_hela_0004.raw", "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[OpenPage]:
    home = tmp_path_factory.mktemp("rest")
    config = KrakenConfig.model_validate(
        {
            "home": home / "home",
            "locations": {name: str(home / name) for name in ("instruments", "backup", "output")},
            "instruments": {"thermo1": {"type": "thermo"}, "bruker1": {"type": "bruker"}},
            "page": {"requests_a_minute": 100_000},
        }
    )
    with closing(connect(database_uri(server_uri, f"rest_{secrets.token_hex(6)}"))) as store:
        store.prepare()
        services = Services(config=config, store=store, engines={}, now=utc_now)
        for name in ("backup", "output"):
            (home / name).mkdir()
        mark_stores(services)
        fill(services, count=12, now=datetime(2026, 3, 1, 12, tzinfo=UTC))
        for name in TRACED:
            with_traces(services, name, highest=1e6)
        again = job("again", raw_file=RERUN, settings_name="dia", state="succeeded")
        services.store.metrics.add(again, {"precursors": 1}, provenance={}, now=utc_now())
        with_members = services.store.raw_files.get(MEMBERS)
        members = {"file_info": {MEMBERS: [1.5e9, MD5]}}
        services.store.raw_files.update(with_members, members, now=utc_now(), note="read")
        with served(services, lives=False) as page:
            yield page
