"""The laboratory's page with 100,000 files of 30 metrics each, in Chromium.

Prints, each beside its goal: when a page is painted and drawn, how long a keystroke in the filter
takes, requests and bytes to the browser, the server's CPU and memory, what 50 open pages cost while
something changes every second (page_load.py), and the CPU of a term of the filter beside that of a
regular expression over every cell, which is AlphaKraken's way. What takes time is only true on a
machine that has nothing else to do: the load average is printed. The files are put into the page's
table straight away: MongoDB is not measured.

    python benchmarks/page.py [FILES]
"""

import re
import sys
import time
from typing import TYPE_CHECKING, Any

import page_load
from page_server import Served, fill, load, serving

from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.table.selection import select

if TYPE_CHECKING:  # the server's process loads this module, too, and is to be no larger by it
    from playwright.sync_api import Browser, Page, ViewportSize

PAINTED_MS, DRAWN_MS, KEYSTROKE_MS, FIRST_KB, MEMORY_MB = 500, 1000, 200, 100, 400
VIEWS = (("/", None), ("/files", None), ("/plots", "kraken:plots"))
DESK: "ViewportSize" = {"width": 1400, "height": 900}
PHONE: "ViewportSize" = {"width": 390, "height": 800}
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"
_BYTES = "performance.getEntries().reduce((sum, item) => sum + (item.transferSize || 0), 0)"
_REQUESTS = "1 + performance.getEntriesByType('resource').length"
_ROWS = "performance.getEntriesByName('kraken:rows')"


def beside(value: float, goal: float, unit: str) -> str:
    return f"{value:.0f} {unit} ({value / goal:.2f} of the goal)"


def scan(served: Served) -> None:
    from kraken_dagster_tests.support.chromium import chromium

    with chromium() as browser:
        for path, mark in VIEWS:
            # The first time also what is otherwise there: style sheets and scripts.
            print(f"{path}; {load()}", flush=True)
            view(browser, served, path, mark, PHONE).close()
            page = view(browser, served, path, mark, DESK)
            if path == "/files":
                keystrokes(page)
            page.close()


def view(
    browser: "Browser", served: Served, path: str, mark: str | None, size: "ViewportSize"
) -> "Page":
    page = browser.new_context(viewport=size, bypass_csp=True).new_page()
    before = served.cpu()
    answer = page.goto(served.origin + path)
    assert answer is not None
    assert answer.ok, f"{path} is answered with {answer.status}"
    drawn = page.evaluate("performance.now()")
    if mark:
        page.wait_for_function(f"performance.getEntriesByName('{mark}').length")
        drawn = page.evaluate(f"performance.getEntriesByName('{mark}')[0].startTime")
    page.wait_for_timeout(300)
    used = served.cpu() - before
    print(
        f"  {size['width']} pixels wide:\n"
        f"  painted {beside(page.evaluate(_PAINTED), PAINTED_MS, 'ms')}, "
        f"drawn {beside(drawn, DRAWN_MS, 'ms')}\n"
        f"  {page.evaluate(_REQUESTS)} requests, "
        f"{beside(page.evaluate(_BYTES) / 1000, FIRST_KB, 'kB')}, server {used:.2f} s CPU"
    )
    return page


def keystrokes(page: "Page") -> None:
    page.focus("#filter")
    for letter in "hela":
        page.evaluate("performance.clearMarks(); window.typed = performance.now()")
        page.keyboard.type(letter)
        page.wait_for_function(f"{_ROWS}.length")
        took = page.evaluate(f"{_ROWS}[0].startTime - window.typed")
        print(f"  keystroke {letter!r} shown after {beside(took, KEYSTROKE_MS, 'ms')}")


def of_every_cell(table: Table, text: str) -> int:
    """A term as AlphaKraken's page has it: a regular expression over the text of every cell."""
    rows = range(len(table))
    return sum(
        any(re.search(text, table.text(name, row), re.IGNORECASE) for name in table.columns)
        or re.search(text, table.ids[row], re.IGNORECASE) is not None
        for row in rows
    )


def terms(count: int) -> None:
    table = Table()
    fill(table, count)
    ours, found = timed(lambda: int(select(table, "hela_0999").mask.sum()))
    theirs, same = timed(lambda: of_every_cell(table, "hela_0999"))
    assert found == same
    print(f"a term {ours:.3f} s CPU; over every cell {theirs:.1f} s: {theirs / ours:.0f} times")


def timed(work: Any) -> tuple[float, int]:
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def main(count: int) -> None:
    with serving(count) as served:
        print(f"{count:,} files, {beside(served.megabytes(), MEMORY_MB, 'MB')}", flush=True)
        scan(served)
        page_load.all_loads(served)
        print(f"in the end {beside(served.megabytes(), MEMORY_MB, 'MB')}")
    terms(count)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
