"""Dagit of a whole Kraken: what a person sees in a real browser, what a foreign page can't do, and
that no answer holds a secret."""

import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
from playwright.sync_api import Browser, Page, expect

from kraken_dagster.acquisition.watch import due_for_backup, look_at
from kraken_dagster.config.dagit import Role
from kraken_dagster.config.loader import load_config
from kraken_dagster.dagit.access import Access
from kraken_dagster.orchestration.partitions import ASSETS, raw_files
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster_tests.dagit.dagit_door import MUTATION, POOL, by_get
from kraken_dagster_tests.dagit.dagit_queries import COMPUTE_LOGS, PAGES, START_SENSOR, variables
from kraken_dagster_tests.support.chromium import chromium
from kraken_dagster_tests.support.helpers import database_uri, wait_until
from kraken_dagster_tests.support.laboratory import PATIENCE_S, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(1800),  # a guard against hanging; each wait has its own
    pytest.mark.xdist_group("browser"),  # in one worker, as they share a laboratory
]
_FILES = ["first.raw", "second.raw"]
_NAMES = "--host-resolver-rules=MAP *.example 127.0.0.1"
_OF_BACKUPS = "The raw file's verified copy on the backup store."
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
def lab(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[Lab]:
    """The password of its MongoDB stands in instruments.yaml. Two files are known."""
    home = tmp_path_factory.mktemp("browser") / "lab"
    lab = Lab(home, sensors="stopped", uri=database_uri(server_uri, "browser"))
    for name in _FILES:
        (lab.home / "instruments" / "thermo1" / name).write_bytes(name.encode())
    try:
        lab.up()
        lab.wait_for_dagit()
        _register(lab, "thermo1", _FILES)
        yield lab
    finally:
        if lab.process is not None and lab.process.poll() is None:
            lab.stop()


@pytest.fixture(scope="module")
def started_browser() -> Iterator[Browser]:
    with chromium(_NAMES) as browser:
        yield browser


@pytest.fixture
def browser(started_browser: Browser) -> Iterator[Browser]:
    """A page that is left open goes on asking Dagit, and drawing: none is."""
    yield started_browser
    for context in started_browser.contexts:
        context.close()


def _register(lab: Lab, instrument_id: str, names: list[str]) -> None:
    """The files are known, their acquisitions are over, and they have partitions."""
    config = load_config(lab.config_path, environment={})
    services = Services(config=config, store=lab.store, engines={})

    def over() -> bool:
        look_at(services, instrument_id)
        due = due_for_backup(services.store, instrument_id, services.now())
        return {item.id for item in due} == set(names)

    wait_until(over, "the acquisitions are over", timeout_s=PATIENCE_S, every_s=0.5)
    with dg.DagsterInstance.from_config(str(lab.dagster_home)) as instance:
        instance.add_dynamic_partitions(str(raw_files(instrument_id).name), names)


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
        expect(page.get_by_text(text).first).to_be_visible()


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
        expect(page).to_have_title("tried")
        expect(page.locator("#frame")).to_have_count(1)
        assert [frame.url for frame in page.frames if frame.url.startswith(dagit)] == []
        pools = lab.graphql(_POOLS)["instance"]["concurrencyLimits"]
        assert POOL not in {item["concurrencyKey"] for item in pools}
        page.locator("#link").click()  # a link is followed, though the first request has no login
        expect(page.get_by_text(_OF_BACKUPS).first).to_be_visible()


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
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_an_operator_materialises_and_a_viewer_can_not(lab: Lab, browser: Browser) -> None:
    asset = f"http://127.0.0.1:{lab.port}/assets/thermo1/raw_file?view=partitions"
    looking = _logged_in(browser, lab, Role.VIEWER)
    _shows(looking, asset, "first.raw")
    expect(looking.get_by_role("button", name="Materialize").first).to_be_disabled()
    page = _logged_in(browser, lab, Role.OPERATOR)
    _shows(page, asset, "first.raw")
    before = _backfills(lab)
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Launch backfill").click()
    assert _ended(lab, before)["status"] == "COMPLETED_SUCCESS"


def _backfills(lab: Lab) -> set[str]:
    return {item["id"] for item in lab.backfills()}


def _ended(lab: Lab, before: set[str]) -> Any:
    """The backfill that was not there before, once it has ended."""

    def found() -> Any:
        for item in lab.backfills():
            if item["id"] not in before and item["status"].startswith("COMPLETED"):
                return item
        return None

    return wait_until(found, "a backfill has ended", timeout_s=PATIENCE_S, every_s=1)


def test_no_answer_of_dagit_holds_a_secret(lab: Lab) -> None:
    """Of what its pages ask: the password of MongoDB, and the tokens for Dagit itself."""
    shown = secrets.token_hex(32)  # as long and as odd as the secrets are
    lab.graphql(START_SENSOR, sensorSelector=variables("")["sensor"])
    before = _backfills(lab)
    lab.launch_backfill(["thermo1/raw_file", "thermo1/backup"], ["second.raw"], shown=shown)
    [run] = _ended(lab, before)["runs"]
    ticks = "share1's sensor has ticked"
    wait_until(
        lambda: _reported("ticks", _ask(lab, "ticks")), ticks, timeout_s=PATIENCE_S, every_s=1
    )

    answers = {name: _ask(lab, name, run["runId"]) for name in PAGES}
    answers |= {f"log of {key}": text for key, text in _logs(lab, run["runId"]).items()}
    assert [name for name in PAGES if not _reported(name, answers[name])] == []
    assert any("second.raw" in text for name, text in answers.items() if name.startswith("log of"))
    assert {"run", "runs"} <= _holding(answers, shown)
    kept = [urlsplit(str(lab.uri)).password, *_tokens(lab)]
    assert len(set(filter(None, kept))) == 4
    assert [name for secret in kept for name in _holding(answers, str(secret))] == []


def _ask(lab: Lab, page: str, run_id: str = "") -> str:
    return json.dumps(lab.graphql(PAGES[page][0], **variables(run_id)))


def _reported(page: str, answer: str) -> bool:
    return PAGES[page][1] in answer


def _holding(answers: dict[str, str], word: str) -> set[str]:
    return {name for name, text in answers.items() if word in text}


def _tokens(lab: Lab) -> list[str]:
    return [path.read_text().strip() for path in (lab.home / "access").glob("*.token")]


def _logs(lab: Lab, run_id: str) -> dict[str, str]:
    """What the run's processes have printed, by the keys of its logs."""
    run: dict[str, Any] = json.loads(_ask(lab, "run", run_id))["runOrError"]
    keys = [item["fileKey"] for item in run["eventConnection"]["events"] if "fileKey" in item]
    return {
        key: json.dumps(lab.graphql(COMPUTE_LOGS, key=[run_id, "compute_logs", key]))
        for key in keys
    }
