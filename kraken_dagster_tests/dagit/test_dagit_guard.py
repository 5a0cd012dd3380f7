"""Dagit behind its guard: strangers' pages and programs, viewers, operators. Everything by HTTP."""

import json
from collections.abc import Iterator

import pytest
from dagster_graphql.schema import create_schema
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kraken_dagster.config.dagit import Dagit, Role
from kraken_dagster.runtime.services import utc_now
from kraken_dagster_tests.dagit.dagit_door import (
    JSON,
    MUTATION,
    READING,
    Door,
    Header,
    attacks,
    by_get,
    dagit,
    of_a_mutation,
)

pytestmark = [
    pytest.mark.xdist_group("dagit"),  # in one worker, as they share a Dagit
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
REPORTS = ("materialization", "check", "observation")
PROXY, NO_PROXY = "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    settings = Dagit(
        hosts=["kraken.lab.example"], trusted_proxies=[f"{PROXY}/32"], operators=["alice"]
    )
    with dagit(tmp_path_factory.mktemp("guarded"), settings=settings) as found:
        yield found


@pytest.fixture(scope="module")
def operator(door: Door) -> Header:
    return door.login(Role.OPERATOR)


@pytest.fixture(scope="module")
def viewer(door: Door) -> Header:
    return door.login(Role.VIEWER)


def _ask(door: Door, query: str, *headers: Header) -> tuple[int, str]:
    answer = door.send("POST", "/graphql", JSON, *headers, body=json.dumps({"query": query}))
    return answer.status, answer.text


def test_without_the_guard_a_foreign_page_changes_dagit(tmp_path) -> None:
    with dagit(tmp_path, serve="open") as door:
        done = {name for name, answer in attacks(door, []) if answer.status == 200}
        assert door.was_attacked
    assert done >= {"an image", "a second query", "a foreign page", "no preflight", "rebinding"}


def test_what_viewers_are_given_changes_nothing_by_itself(tmp_path) -> None:
    with dagit(tmp_path, serve="read only") as door:
        assert len(list(attacks(door, []))) > 10
        assert not door.was_attacked
        for kind in REPORTS:
            assert door.send("POST", f"/report_asset_{kind}/thermo1/backup").status >= 400


def test_no_page_but_its_own_changes_dagit(door: Door, operator: Header) -> None:
    answers = dict(attacks(door, [operator]))
    assert {name: answer.status for name, answer in answers.items() if answer.status < 400} == {}
    assert not door.was_attacked
    assert "not called 'evil.example" in answers["rebinding"].text
    assert "A page of 'http://evil.example' may not" in answers["a foreign page"].text
    assert "You are not logged in" in answers["nobody"].text


@pytest.mark.parametrize("host", ["evil.example", "", "127.0.0.1:1:2", "127.0.0.1.evil.example"])
def test_a_foreign_name_gets_nothing_not_even_a_page(door: Door, operator, host: str) -> None:
    for path in ("/", "/server_info", by_get(READING), "/login?code=x"):
        answer = door.send("GET", path, operator, host=host or " ")
        assert answer.status in (400, 421), (path, answer)


def test_configured_and_local_names_are_answered_under_any_port(door: Door, operator) -> None:
    for host in ("localhost:8080", "[::1]", "KRAKEN.lab.example", "127.0.0.1"):
        assert door.send("GET", "/server_info", operator, host=host).status == 200, host


def test_two_hosts_are_no_host(door: Door, operator) -> None:
    answer = door.send("GET", "/server_info", operator, ("Host", "evil.example"))
    assert answer.status == 400


@pytest.mark.parametrize("kind", REPORTS)
def test_nobody_reports_work_that_was_not_done(door: Door, operator, kind: str) -> None:
    path, own = f"/report_asset_{kind}/thermo1/backup", ("Origin", door.origin)
    for credentials in ((operator, own), (door.bearer(Role.OPERATOR),), ()):
        for method in ("POST", "GET", "PUT"):
            assert door.send(method, path, *credentials).status == 403
        assert door.send("POST", path, *credentials, JSON, body="{}").status == 403
        assert door.send("POST", f"{path}?asset_key=[]", *credentials).status == 403
        for disguised in (path.replace("_", "%5F"), "/." + path, "/x/.." + path, "/" + path):
            assert door.send("POST", disguised, *credentials).status in (400, 403), disguised


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "PROPFIND"]
)
def test_other_methods_are_refused(door: Door, operator, method: str) -> None:
    answer = door.send(method, "/runs", operator, ("Origin", door.origin))
    assert answer.status == 405
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_files_named_by_a_request_are_not_read(door: Door, operator) -> None:
    for path in ("/notebook?path=/x.ipynb&repoLocName=kraken", "/dagit/notebook", "/logs/../x/out"):
        assert door.send("GET", path, operator).status in (400, 403), path


def test_the_own_page_reads_and_an_operator_changes(tmp_path) -> None:
    with dagit(tmp_path) as door:
        for credentials in ((door.login(Role.OPERATOR), ("Origin", door.origin)),
                            (door.bearer(Role.OPERATOR),)):  # fmt: skip
            status, text = _ask(door, READING, *credentials)
            assert (status, '"version"' in text) == (200, True)
        assert not door.was_attacked
        assert _ask(door, MUTATION, *credentials)[0] == 200
        assert door.was_attacked
        answer = door.send("GET", by_get(READING), credentials[0])
        assert answer.json == json.loads(text)
        page = door.send("GET", "/", door.login(Role.VIEWER))
        assert page.headers["X-Frame-Options"] == "DENY"


def test_a_viewer_reads(door: Door, viewer) -> None:
    own = ("Origin", door.origin)
    for credentials in ((viewer, own), (door.bearer(Role.VIEWER),)):
        assert _ask(door, READING, *credentials)[0] == 200
        status, text = _ask(door, "{ permissions { permission value } }", *credentials)
        assert status == 200
        assert '"value":true' not in text.replace(" ", "")


def test_a_viewer_changes_nothing_whatever_the_mutation(door: Door, viewer) -> None:
    mutations = create_schema().graphql_schema.mutation_type.fields
    assert len(mutations) > 30
    for name in mutations:
        status, text = _ask(door, f"mutation {{ {name} }}", viewer, ("Origin", door.origin))
        assert (status, f"{name} is for operators" in text) == (403, True)
    hidden = "query q { version } mutation m { ...f } fragment f on Mutation { reloadWorkspace }"
    assert _ask(door, hidden, viewer, ("Origin", door.origin))[0] == 403


@pytest.mark.parametrize(
    "body",
    [f"[{of_a_mutation()}]", "1", "{}", '{"query": 1}', "{", "\udcff"],
    ids=["batch", "number", "nothing", "no text", "cut off", "no text at all"],
)
def test_what_is_not_one_query_is_refused(door: Door, operator, body: str) -> None:
    own = ("Origin", door.origin)
    sent = body.encode("utf-8", "surrogateescape")
    assert door.send("POST", "/graphql", JSON, operator, own, body=sent).status == 400


@pytest.mark.parametrize(
    "query",
    ["{", "{a" * 5000, "subscription { x }", "fragment f on Q { x }"],
    ids=["cut off", "nested", "subscription", "fragment"],
)
def test_what_neither_reads_nor_changes_is_refused(door: Door, operator, query: str) -> None:
    status, text = _ask(door, query, operator, ("Origin", door.origin))
    assert status == 400
    assert text.startswith("kraken: GraphQL")


def test_a_link_is_good_once_and_a_wrong_token_never(door: Door) -> None:
    door.access.prepare(door.origin)
    link = door.access.new_link(Role.OPERATOR, now=utc_now())
    path = link.removeprefix(door.origin)
    first, second = door.send("GET", path), door.send("GET", path)
    assert (first.status, second.status) == (303, 401)
    cookie = first.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "kraken login" in second.text
    for token in ("wrong", "", "Bearer", "ä", door.access.token("proxy")):
        wrong = ("Authorization", f"Bearer {token}".encode().decode("latin-1"))
        assert _ask(door, READING, wrong)[0] == 401, token
    name = cookie.partition("=")[0]
    for value in ("", "wrong", "../links/x", "../" * 10 + "etc/passwd"):
        assert door.send("GET", "/", ("Cookie", f"{name}={value}")).status == 401


def test_a_user_is_believed_only_of_a_proxy_that_proves_itself(door: Door) -> None:
    alice, proof = (
        ("X-Forwarded-User", "alice"),
        ("X-Kraken-Proxy-Token", door.access.token("proxy")),
    )
    tls, own = ("X-Forwarded-Proto", "https"), ("Origin", "https://kraken.lab.example")
    source = ("X-Forwarded-For", PROXY)

    def ask(*headers: Header, peer: str, query: str = MUTATION) -> int:
        answer = door.send(
            "POST", "/graphql", JSON, tls, own, *headers,
            body=of_a_mutation(query), host="kraken.lab.example", source=peer,
        )  # fmt: skip
        return answer.status

    assert ask(alice, proof, peer=NO_PROXY) == 403
    assert ask(alice, proof, source, peer=NO_PROXY) == 403
    assert ask(alice, peer=PROXY) == 403
    assert ask(alice, ("X-Kraken-Proxy-Token", "wrong"), peer=PROXY) == 403
    assert ask(alice, alice, proof, peer=PROXY) == 400
    assert ask(proof, peer=PROXY) == 401
    assert ask(("X-Forwarded-User", ""), proof, peer=PROXY) == 401
    assert ask(("X-Forwarded-User", "bob"), proof, peer=PROXY) == 403
    assert ask(("X-Forwarded-User", "alice, bob"), proof, peer=PROXY) == 403
    assert not door.was_attacked
    assert ask(("X-Forwarded-User", "bob"), proof, peer=PROXY, query=READING) == 200
    unknown = 'mutation { deleteConcurrencyLimit(concurrencyKey: "never made") }'
    assert ask(alice, proof, peer=PROXY, query=unknown) == 200


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_web_socket_of_another_page_is_refused(door: Door, operator, origin) -> None:
    with pytest.raises(InvalidStatus) as raised:
        _open(door, operator, origin)
    assert raised.value.response.status_code == 403


def test_a_web_socket_without_a_login_is_refused(door: Door) -> None:
    with pytest.raises(InvalidStatus):
        _open(door, ("Cookie", "x=y"), door.origin)


def test_a_web_socket_of_the_own_page_is_open_and_changes_nothing(door: Door, operator) -> None:
    with _open(door, operator, door.origin) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv(30))["type"] == "connection_ack"
        start = {"type": "start", "id": "1", "payload": {"query": MUTATION}}
        socket.send(json.dumps(start))
        assert json.loads(socket.recv(30))["type"] == "error"
    assert not door.was_attacked


def _open(door: Door, credentials: Header, origin: str | None):
    return connect(
        f"ws://127.0.0.1:{door.place.port}/graphql",
        additional_headers=[credentials],
        origin=origin,
        subprotocols=["graphql-ws"],
        open_timeout=30,
        proxy=None,
    )


def test_a_browser_without_a_login_is_told_how_to_log_in(door: Door) -> None:
    browser = ("Accept", "text/html,application/xhtml+xml")
    page = door.send("GET", "/<b>", browser)
    assert page.status == 401
    assert "run `kraken login`" in page.text
    assert "<b>" not in page.text
    link = door.send("GET", "/runs", browser, ("Sec-Fetch-Site", "cross-site"))
    assert (page.text.count("refresh"), link.text.count("refresh")) == (0, 1)
