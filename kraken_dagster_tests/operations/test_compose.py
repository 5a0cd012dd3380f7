"""What runs in containers: what `kraken compose` writes, and rules that every service keeps."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.containers.compose import WORKERS, WORKSPACE
from kraken_dagster_tests.support.compose import has_compose

DOCKER = Path(__file__).resolve().parents[2] / "docker"
DEMO = DOCKER / "demo"
WRITTEN = (WORKERS, WORKSPACE)
SITE = """
locations: {instruments: /srv/kraken/instruments, backup: /srv/kraken/stores/backup,
            output: /srv/kraken/stores/output}
instruments:
  astral1: {type: thermo}
  timstof1: {type: bruker, path: /srv/pc 7/d$isk}
"""
LOCATIONS = """
code_locations:
  host_2: {instruments: [astral2, astral3], host: 10.0.0.12, port: 4001}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "instruments.yaml"
    path.write_text(SITE)
    return path


def compose(path: Path, *options: str, fails: bool = False) -> str:
    done = CliRunner().invoke(main, ["--config", str(path), "compose", *options])
    assert (done.exit_code != 0) is fails, done.output
    return done.output


def services(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    return found


def test_an_instrument_is_one_entry_and_one_command(site: Path) -> None:
    assert "added: astral1, timstof1" in compose(site)
    assert "nothing has changed" in compose(site)
    site.write_text(f"{SITE}  sciex1: {{type: sciex}}\n")
    said = compose(site, "--dry-run")
    assert "would write" in said
    assert "sciex1" not in (site.parent / WORKERS).read_text()
    assert compose(site) == said.replace("would write", "wrote")
    assert "added: sciex1\nNext: docker compose up -d --remove-orphans\n" in said
    assert "docker compose restart daemon dagit" in said
    site.write_text(SITE.replace("  astral1: {type: thermo}\n", ""))
    assert "removed: astral1, sciex1" in compose(site)
    assert list(services(site.parent / WORKERS)) == ["timstof1"]


def test_what_is_bound_is_the_folder_above_each_mount_point_and_never_made(site: Path) -> None:
    compose(site)
    found = services(site.parent / WORKERS)["timstof1"]
    binds = [item for item in found["volumes"] if isinstance(item, dict)]
    assert [item["source"] for item in binds] == ["/srv/kraken/stores", "/srv/pc 7"]
    for item in binds:
        assert item["bind"] == {"create_host_path": False, "propagation": "rslave"}
        assert item["target"] == item["source"]
    assert found["environment"]["KRAKEN_LOCATION"] == "timstof1"
    assert found["environment"]["KRAKEN_INSTRUMENTS"] == "timstof1"


def test_a_folder_s_name_with_a_dollar_is_no_variable(site: Path) -> None:
    site.write_text(SITE.replace("/srv/pc 7/d$isk", "/srv/p$c/disk"))
    compose(site)
    assert "source: /srv/p$$c\n" in (site.parent / WORKERS).read_text()


def test_instruments_of_another_host_stand_in_the_workspace_and_in_that_host_s_file(site) -> None:
    site.write_text(f"{SITE}  astral2: {{type: thermo}}\n  astral3: {{type: thermo}}\n{LOCATIONS}")
    compose(site)
    assert list(services(site.parent / WORKERS)) == ["astral1", "timstof1"]
    servers = yaml.safe_load((site.parent / WORKSPACE).read_text())["load_from"]
    assert [item["grpc_server"] for item in servers] == [
        {"host": "10.0.0.12", "port": 4001, "location_name": "host_2"},
        {"host": "astral1", "port": 4000, "location_name": "astral1"},
        {"host": "timstof1", "port": 4000, "location_name": "timstof1"},
    ]
    compose(site, "--host", "10.0.0.12")
    [(name, found)] = services(site.parent / WORKERS).items()
    assert (name, found["ports"]) == ("host_2", ["10.0.0.12:4001:4000"])
    assert found["environment"]["KRAKEN_INSTRUMENTS"] == "astral2,astral3"
    refusal = compose(site, "--host", "10.0.0.13", fails=True)
    assert "Expected one of ['10.0.0.12']. Found 10.0.0.13" in refusal


@pytest.mark.parametrize(
    ("before", "after"),
    [("/srv/pc 7/d$isk", "/disk"), ("/srv/kraken/stores/output", "output")],
)
def test_a_path_that_no_container_can_be_given_is_told_and_nothing_is_written(
    site: Path, before: str, after: str
) -> None:
    site.write_text(SITE.replace(before, after))
    assert "can't be given to a container" in compose(site, fails=True)
    assert not (site.parent / WORKERS).exists()


def test_a_file_of_somebody_else_is_left_alone(site: Path) -> None:
    (site.parent / WORKSPACE).write_text("load_from: []\n")
    assert "`kraken compose` has not written it" in compose(site, fails=True)
    assert [path.name for path in site.parent.iterdir()] != [WORKERS]
    assert (site.parent / WORKSPACE).read_text() == "load_from: []\n"
    assert not (site.parent / WORKERS).exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {instruments: [nowhere]}", "expected instruments of this file, found 'nowhere'"),
        ("{a: {instruments: [astral1]}, b: {instruments: [astral1]}}", "is in 'a' too"),
        ("daemon: {instruments: [astral1]}", "a name that no other service has"),
    ],
)
def test_code_locations_that_can_t_be_are_told(site: Path, text: str, expected: str) -> None:
    text = text if text.startswith("{") else f"{{{text}}}"
    site.write_text(f"{SITE}code_locations: {text}\n")
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_config(site, environment={})


def test_the_files_of_the_demo_are_what_the_command_writes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KRAKEN_MONGODB_URI", "mongodb://m/k")
    shutil.copy(DEMO / "instruments.yaml", tmp_path)
    compose(tmp_path / "instruments.yaml")
    for name in WRITTEN:
        assert (tmp_path / name).read_text() == (DEMO / name).read_text()


# -- rules that every service keeps ----------------------------------------------------------------


def _own() -> dict[str, Any]:
    return {**services(DOCKER / "compose.yaml"), **services(DEMO / WORKERS)}


@pytest.mark.parametrize("name", sorted(_own()))
def test_every_service_keeps_the_rules(name: str) -> None:
    service, text = _own()[name], yaml.safe_dump(_own()[name])
    assert service["init"] is True
    assert service["logging"]["options"]["max-size"]
    assert service["profiles"]
    assert "docker.sock" not in text
    assert "depends_on" not in service  # across profiles it breaks even `logs`
    assert "privileged" not in text
    assert re.fullmatch(r"\$\{\w+:-[a-z]+:[\w.]+\}", service["image"])  # a tag, and not `latest`
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    if name != "kraken":
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"  # a shell would be one more orphan
    for item in service["volumes"]:
        source = item["source"] if isinstance(item, dict) else item.split(":")[0]
        assert isinstance(item, dict) or not source.startswith("/")


def test_every_variable_that_must_be_set_is_in_the_example() -> None:
    text = "".join(path.read_text() for path in (DOCKER / "compose.yaml", DEMO / WORKERS))
    wanted = set(re.findall(r"\$\{(\w+):\?", text))
    assert wanted == {"POSTGRES_PASSWORD", "MONGODB_PASSWORD"}
    for example in (DOCKER / ".env.example", DEMO / "demo.env"):
        given = dict(re.findall(r"^(\w+)=(.*)$", example.read_text(), re.MULTILINE))
        assert wanted <= given.keys()
    assert given["POSTGRES_PASSWORD"] == "demo"


def test_compose_takes_the_files_together() -> None:
    """By Docker's own reader where it is, else by putting the files on top of each other."""
    if not has_compose():
        demo = services(DEMO / "compose.demo.yaml")
        assert demo.keys() - _own().keys() == {"demo"}
        return
    command = ["docker", "compose", "--env-file", "docker/demo/demo.env", "config"]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KRAKEN")}
    done = subprocess.run(
        command,
        cwd=DOCKER.parent,
        env=kept,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    assert found.keys() == {*_own(), "demo"} - {"kraken"}
    for name in ("sim_thermo", "sim_bruker", "sim_sciex"):
        mounts = {item["target"]: item["type"] for item in found[name]["volumes"]}
        assert mounts["/data"] == "volume"


def _instructions(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def test_the_dockerfile_keeps_the_rules() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert not text.startswith("# syntax=")  # which would need an image registry
    instructions = _instructions(text)
    stages = [line for line in instructions if line.startswith("FROM ")]
    assert stages == ["FROM ${BASE} AS build", "FROM ${BASE}"]
    last = instructions[instructions.index("FROM ${BASE}") :]
    assert "USER ${UID}:${GID}" in last  # a number, so that it can be checked without a passwd
    assert not [line for line in last if "pip " in line or "apt-get" in line]
    assert not [line for line in instructions if line.startswith(("ADD ", "MAINTAINER"))]
    assert not [line for line in instructions if "|| true" in line or "sudo" in line]
    for line in last:
        if line.startswith("WORKDIR "):
            assert line.removeprefix("WORKDIR ").startswith("/")
        if line.startswith("CMD "):
            assert line.startswith("CMD [")
    secrets = [line for line in instructions if "pip install" in line]
    assert all("--mount=type=secret" in line for line in secrets)


def test_the_image_is_given_what_it_needs_and_nothing_else() -> None:
    kept = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    assert kept[0] == "*"
    copied = re.findall(r"^COPY (?!--from)(.*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    named = {word for line in copied for word in line.split()[:-1] if not word.startswith("--")}
    assert named <= {line.removeprefix("!") for line in kept[1:]}


def test_the_base_image_is_named_in_one_place() -> None:
    name = (DOCKER / "base.image").read_text().strip()
    assert re.fullmatch(r"[a-z0-9./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", name)
    default = re.search(r"^ARG BASE=(.*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert default is not None
    assert default[1] == name.partition("@")[0]
