"""Dagit in a real browser: what a person sees, and what a foreign page can't do."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from kraken_dagster.clients.access import Access
from kraken_dagster.domain.dagit import Role
from kraken_dagster.partitions import ASSETS
from kraken_dagster.steps.world import utc_now
from kraken_dagster_tests.copying_cases import unavailable
from kraken_dagster_tests.dagit_door import MUTATION, POOL, by_get
from kraken_dagster_tests.helpers import wait_until
from kraken_dagster_tests.laboratory import PATIENCE_S, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("browser"),  # in one worker, as they share a laboratory
]
_FLAGS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP *.example 127.0.0.1"]
_POOLS = "{ instance { concurrencyLimits { concurrencyKey } } }"
# Tries what a page can: an image, a form, fetch in three ways, a web socket, a frame.
_EVIL = """<title>evil</title><a id="link" href="%(dagit)s/assets">look</a>
<img src="%(dagit)s%(get)s"><iframe id="frame" src="%(dagit)s/assets"></iframe>
<iframe name="sink"></iframe>
<form method="POST" action="%(dagit)s%(get)s" target="sink" enctype="text/plain"></form>
<script>
const body = JSON.stringify({query: %(mutation)r});
const tried = ["text/plain; application/json", "application/json"].flatMap(type =>
  ["include", "omit"].map(credentials => fetch("%(dagit)s/graphql",
    {method: "POST", body, credentials, headers: {"Content-Type": type}}).catch(String)));
tried.push(fetch("%(dagit)s/graphql", {method: "POST", body, mode: "no-cors",
  credentials: "include", headers: {"Content-Type": "text/plain"}}).catch(String));
tried.push(new Promise(done => {
  const socket = new WebSocket("%(dagit)s/graphql".replace("http", "ws"), "graphql-ws");
  socket.onopen = () => done("web socket open"); socket.onerror = () => done("refused"); }));
document.forms[0].submit();
Promise.all(tried).then(found => {
  document.title = found.includes("web socket open") ? "open" : "tried"; });
</script>"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("browser") / "lab", sensors="stopped")
    folder = lab.home / "instruments" / "thermo1"
    for name in ("first.raw", "second.raw"):
        (folder / name).write_bytes(name.encode())
    try:
        lab.up()
        lab.wait_for_dagit()
        yield lab
    finally:
        if lab.process is not None and lab.process.poll() is None:
            lab.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        unavailable("no Chromium to look at Dagit with")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


def _page(browser: Browser) -> Page:
    page = browser.new_context(viewport={"width": 1700, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    page.set_default_navigation_timeout(PATIENCE_S * 1000)
    return page


def _logged_in(browser: Browser, lab: Lab, role: Role) -> Page:
    page = _page(browser)
    page.goto(Access(lab.home).new_link(role, now=utc_now()))
    assert "code=" not in page.url
    return page


def _shows(page: Page, url: str, *texts: str) -> None:
    page.goto(url)
    for text in texts:
        expect(page.get_by_text(text).first).to_be_visible(timeout=PATIENCE_S * 1000)


def test_the_printed_link_shows_the_lineage_and_the_sensors(lab: Lab, browser: Browser) -> None:
    dagit, page = f"http://127.0.0.1:{lab.port}", _page(browser)
    link = wait_until(lambda: re.search(rf"{dagit}/login\?code=\S+", lab.log), "a link is printed")
    page.goto(link[0])
    _shows(page, f"{dagit}/locations/kraken/asset-groups/bruker1/lineage", *ASSETS)
    assert page.get_by_text("Join the Dagster community").count() == 0
    _shows(page, f"{dagit}/automation", "bruker1_watcher", "thermo1_watcher", "cluster_jobs")
    again = _page(browser)
    again.goto(link[0])
    expect(again.get_by_text("This link was used already")).to_be_visible()


def test_who_is_not_logged_in_is_told_how(lab: Lab, browser: Browser) -> None:
    page = _page(browser)
    page.goto(f"http://127.0.0.1:{lab.port}/assets")
    expect(page.get_by_text("kraken login --viewer")).to_be_visible()


@pytest.mark.parametrize("name", ["evil.example", "localhost", "127.0.0.1"])
def test_a_foreign_page_can_not(lab: Lab, browser: Browser, name: str) -> None:
    """Open beside a Dagit where somebody is logged in, on another site and on another port."""
    dagit, page = f"http://127.0.0.1:{lab.port}", _logged_in(browser, lab, Role.OPERATOR)
    with _evil(dagit) as port:
        page.goto(f"http://{name}:{port}/")
        expect(page).to_have_title("tried", timeout=PATIENCE_S * 1000)
        expect(page.locator("#frame")).to_have_count(1)
        assert all("Assets" not in frame.content() for frame in page.frames if frame.parent_frame)
        pools = lab.graphql(_POOLS)["instance"]["concurrencyLimits"]
        assert POOL not in {item["concurrencyKey"] for item in pools}
        page.locator("#link").click()  # a link is followed, though the first request has no login
        expect(page).to_have_title(re.compile("Assets"), timeout=PATIENCE_S * 1000)


def test_a_name_that_is_bent_to_dagit_shows_nothing(lab: Lab, browser: Browser) -> None:
    page = _page(browser)
    answer = page.goto(f"http://evil.example:{lab.port}/")
    assert answer is not None
    assert answer.status == 421


@contextmanager
def _evil(dagit: str) -> Iterator[int]:
    values = {"dagit": dagit, "get": by_get(MUTATION), "mutation": MUTATION}

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write((_EVIL % values).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
