"""Makes the pictures of the page in docs/images, of a laboratory that is there:

kraken demo --once --home DEMO --files 12
python -m kraken_dagster_tests.web.pictures DEMO/instruments.yaml
"""

import sys
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser

from kraken_dagster.cli.common import open_services
from kraken_dagster.web.column_config import columns_of
from kraken_dagster_tests.support.chromium import chromium
from kraken_dagster_tests.web.laboratory import OpenPage, served

_IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
_DESK = {"width": 1200, "height": 760}
_PHONE = {"width": 390, "height": 760}
_PLOTS = "/plots?filter=precursors%3D%5B1%2C%5D&y=precursors,proteins,fwhm_rt,max_tic"


def take(page: OpenPage) -> None:
    wanted = {
        "page-fleet": ("/", _DESK),
        "page-plots": (_PLOTS, _DESK),
        "page-file": (f"/file?id={quote(_file_with_traces(page))}", {**_DESK, "height": 900}),
        "page-phone": ("/", _PHONE),
    }
    with chromium() as browser:
        for name, (path, size) in wanted.items():
            _shoot(browser, page.origin + path, size, _IMAGES / f"{name}.png")


def _shoot(browser: Browser, address: str, size: dict[str, int], target: Path) -> None:
    shown = browser.new_context(viewport=size).new_page()
    shown.goto(address)
    shown.wait_for_timeout(5000)  # until what is drawn is drawn
    shown.screenshot(path=target)


def _file_with_traces(page: OpenPage) -> str:
    """The newest that is done and has a chromatogram."""
    store = page.feed.services.store
    table = page.feed.table
    names = sorted(
        (table.numbers("created_at")[row], name)
        for row, name in enumerate(table.ids)
        if table.text("status", row) == "done"
    )
    for _, name in reversed(names):
        state = store.raw_files.get(name).raw_metrics
        if state is not None and state.traces:
            return name
    raise SystemExit("no file of this laboratory has a chromatogram")


def main() -> None:
    services = open_services(Path(sys.argv[1]))
    with served(services, choice=columns_of(services.config)) as page:
        take(page)


if __name__ == "__main__":
    main()
