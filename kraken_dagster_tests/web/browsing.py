"""A browser's page, on a desk and on a phone, and what is hard to use on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from kraken_dagster_tests.support.laboratory import PATIENCE_S

_AXE = Path(__file__).parent / "assets" / "axe.min.js"
DESK = {"viewport": {"width": 1400, "height": 900}, "color_scheme": "light"}
PHONE = {
    "viewport": {"width": 390, "height": 800},
    "color_scheme": "dark",
    "has_touch": True,
    "is_mobile": True,
}


def opened(browser: Browser, device: dict[str, Any]) -> Iterator[Page]:
    """A page of its own; whatever the browser complains of, or asks a person, is a failure."""
    context = browser.new_context(**device)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert wrong == []


def findings(page: Page) -> list[str]:
    """What axe-core finds serious: contrast, labels, names, structure."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{item['id']}: {item['nodes'][0]['html'][:150]}: {item['nodes'][0]['failureSummary']}"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
    ]
