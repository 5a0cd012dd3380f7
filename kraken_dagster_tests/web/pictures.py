"""Makes the pictures of the page in docs/images: python -m kraken_dagster_tests.web.pictures"""

import tempfile
from contextlib import closing
from pathlib import Path

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.support.chromium import chromium
from kraken_dagster_tests.support.helpers import database_uri
from kraken_dagster_tests.web.laboratory import OpenPage, fill, served

_IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
_DESK = {"width": 1200, "height": 760}
_PICTURES = (
    ("page-fleet", "/", _DESK),
    ("page-plots", "/plots?filter=hela", _DESK),
    ("page-file", "/file?id=thermo1_hela_0030.raw", _DESK),
    ("page-phone", "/", {"width": 390, "height": 760}),
)


def take(page: OpenPage) -> None:
    with chromium() as browser:
        for name, path, size in _PICTURES:
            shown = browser.new_context(viewport=size).new_page()
            shown.goto(page.origin + path)
            shown.wait_for_timeout(2000)  # until what is drawn is drawn
            shown.screenshot(path=_IMAGES / f"{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        server = ensure_running(home / "mongodb")
        config = KrakenConfig.model_validate(
            {
                "home": home / "home",
                "locations": {
                    name: str(home / name) for name in ("instruments", "backup", "output")
                },
                "instruments": {"thermo1": {"type": "thermo"}, "bruker1": {"type": "bruker"}},
            }
        )
        try:
            with closing(connect(database_uri(server.uri, "pictures"))) as store:
                store.prepare()
                services = Services(config=config, store=store, engines={}, now=utc_now)
                fill(services, now=utc_now())
                with served(services) as page:
                    take(page)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
