"""Tokens, links and logins as files; and where Dagit may listen at all."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from kraken_dagster.cli.main import main
from kraken_dagster.config.dagit import Authority, Dagit, Place, Role, is_same_origin
from kraken_dagster.config.loader import load_config
from kraken_dagster.dagit.access import LINK_LIVES_FOR, LOGIN_LIVES_FOR, PROXY, Access
from kraken_dagster.model.errors import ConfigError
from kraken_dagster_tests.support.helpers import NOW, write_config

_PEM = {"certificate": Path("cert.pem"), "private_key": Path("key.pem")}


@pytest.fixture
def access(tmp_path: Path) -> Access:
    access = Access(tmp_path)
    access.prepare("http://127.0.0.1:3000")
    return access


def test_nobody_else_can_read_what_lets_somebody_in(tmp_path: Path) -> None:
    (tmp_path / "access").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        access = Access(tmp_path)
        access.prepare("http://127.0.0.1:3000")
        access.new_link(Role.OPERATOR, now=NOW)
        access.new_login(Role.OPERATOR, now=NOW)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "access").rglob("*")}
    assert len(modes) == 8
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert (tmp_path / "access").stat().st_mode & 0o777 == 0o700


def test_secrets_of_links_and_logins_are_not_kept(access: Access) -> None:
    now = datetime.now(UTC)
    code = access.new_link(Role.VIEWER, now=now).partition("=")[2]
    login = access.new_login(Role.VIEWER, now=now)
    kept = "".join(f"{path}{path.read_text()}" for path in access.folder.glob("l*/*"))
    assert kept.count("viewer") == 2
    assert code not in kept
    assert login not in kept


def test_tokens_differ_and_stay(access: Access) -> None:
    tokens = {access.token(name) for name in (*Role, PROXY)}
    assert len(tokens) == 3
    assert tokens == {Access(access.home).token(name) for name in (*Role, PROXY)}
    assert access.role_of_token(access.token(Role.VIEWER)) is Role.VIEWER
    assert access.role_of_token(access.token(PROXY)) is None


@pytest.mark.parametrize(("mode", "text"), [(0o640, "x" * 43), (0o600, ""), (0o600, "guess\n")])
def test_a_token_that_is_no_secret_is_not_used(access: Access, mode: int, text: str) -> None:
    path = access.folder / "operator.token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="delete the file"):
        access.role_of_token(text)


def test_links_and_logins_end(access: Access) -> None:
    login = access.new_login(Role.OPERATOR, now=NOW)
    almost, later = NOW + LOGIN_LIVES_FOR - timedelta(seconds=1), NOW + LOGIN_LIVES_FOR
    assert access.role_of_login(login, now=almost) is Role.OPERATOR
    assert access.role_of_login(login, now=later) is None
    code = access.new_link(Role.OPERATOR, now=NOW).partition("=")[2]
    assert access.use_link(code, now=NOW + LINK_LIVES_FOR) is None
    assert access.use_link(code, now=NOW) is None


def test_old_links_are_removed_and_living_ones_are_not(access: Access) -> None:
    now = datetime.now(UTC)
    access.new_link(Role.OPERATOR, now=now - 2 * LINK_LIVES_FOR)
    code = access.new_link(Role.VIEWER, now=now).partition("=")[2]
    access.new_link(Role.VIEWER, now=now)
    assert len(list((access.folder / "links").iterdir())) == 2
    assert access.use_link(code, now=now) is Role.VIEWER


def test_revoking_ends_logins_links_and_tokens(tmp_path: Path) -> None:
    path = write_config(tmp_path, "mongodb://127.0.0.1:9/x")
    kraken = ["--config", str(path), "login"]
    refused = CliRunner().invoke(main, kraken)
    assert refused.exit_code == 1
    assert "No Dagit was started for this home" in refused.stderr
    access = Access(load_config(path).home)
    access.prepare("http://127.0.0.1:3000")
    now = datetime.now(UTC)
    token, login = access.token(Role.OPERATOR), access.new_login(Role.OPERATOR, now=now)
    link = CliRunner().invoke(main, [*kraken, "--viewer"]).stdout.strip()
    assert link.startswith("http://127.0.0.1:3000/login?code=")
    assert CliRunner().invoke(main, [*kraken, "--revoke"]).exit_code == 0
    assert access.role_of_login(login, now=now) is None
    assert access.use_link(link.partition("=")[2], now=now) is None
    assert access.role_of_token(token) is None


@pytest.mark.parametrize(
    ("settings", "host", "what"),
    [
        (Dagit(), "10.0.0.5", "without encryption"),
        (Dagit(hosts=["kraken.lab"]), "0.0.0.0", "without encryption"),
        (Dagit(**_PEM), "::", "answer to no name"),
        (Dagit(certificate=Path("cert.pem")), "127.0.0.1", "belong together"),
    ],
)
def test_dagit_is_not_opened_by_mistake(settings: Dagit, host: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Place(settings, host).check()


def test_dagit_is_opened_with_encryption() -> None:
    Place(Dagit(**_PEM), "10.0.0.5").check()
    proxied = Place(Dagit(hosts=["kraken.lab"], trusted_proxies=["10.0.0.0/30"]), "::")
    proxied.check()
    assert proxied.url == "https://kraken.lab"
    assert {at: proxied.may_connect(at) for at in ("10.0.0.3", "::ffff:10.0.0.3", "10.0.0.4")} == {
        "10.0.0.3": True,
        "::ffff:10.0.0.3": True,
        "10.0.0.4": False,
    }
    assert proxied.may_connect("::1")
    assert Place(Dagit(**_PEM, hosts=["kraken.lab"]), "0.0.0.0").url == "https://kraken.lab:3000"


def test_up_refuses_to_open_dagit_without_encryption(tmp_path: Path, mongodb_uri: str) -> None:
    path = write_config(tmp_path, mongodb_uri)
    done = CliRunner().invoke(main, ["--config", str(path), "up", "--host", "0.0.0.0"])
    assert done.exit_code == 1
    assert "logins could be read" in done.stderr
    assert "docs/security.md" in done.stderr


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://kraken.lab", True),
        ("http://kraken.lab:80", True),
        ("https://kraken.lab", False),
        ("http://kraken.lab:8080", False),
        ("http://kraken.lab.evil.example", False),
        ("http://kraken.lab@evil.example", False),
        ("http://evil.example/http://kraken.lab", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_the_very_same_origin_is_ones_own(origin: str, same: bool) -> None:
    host = Authority.parse("Kraken.lab", scheme="http")
    assert host is not None
    assert is_same_origin(origin, scheme="http", host=host) is same


@pytest.mark.parametrize("text", ["", "a:", ":80", "a:b", "a:1:2", "[::1", "::1]", "[::1]x", "a:²"])
def test_what_is_no_host_is_none(text: str) -> None:
    assert Authority.parse(text, scheme="http") is None
