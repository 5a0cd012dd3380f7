"""Where each run is a container of its own: `kraken compose --docker-launcher`.

No container is started: what Docker is asked for is made by Dagster's own package and docker-py.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from dagster._config import process_config
from dagster._core.utils import parse_env_var
from dagster_docker import DockerRunLauncher
from dagster_docker.container_context import DockerContainerContext
from dagster_docker.utils import validate_docker_config
from docker.models.containers import _create_container_args

import docker
from kraken_dagster.cli.main import main
from kraken_dagster.operations.containers.compose import WORKERS
from kraken_dagster_tests.support.compose import has_compose

DOCKER = Path(__file__).resolve().parents[2] / "docker"
SITE = """
mongodb: {uri: "${KRAKEN_MONGODB_URI:-mongodb://m/k}"}
locations: {instruments: /srv/kraken/instruments, backup: /srv/kraken/stores/backup,
            output: /srv/kraken/stores/output}
engines: {slurm: {type: slurm, host: login.example.org, user: "${CLUSTER_USER}"}}
defaults: {engine: slurm}
instruments:
  astral1: {type: thermo}
  timstof1: {type: bruker, path: /srv/pc 7/d$isk}
"""


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())
    return found


def compose(path: Path, *options: str, fails: bool = False) -> str:
    done = CliRunner().invoke(main, ["--config", str(path), "compose", *options])
    assert (done.exit_code != 0) is fails, done.output
    return done.output


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTER_USER", "kraken")
    path = tmp_path / "instruments.yaml"
    path.write_text(SITE)
    return path


@pytest.fixture
def workers(site: Path) -> dict[str, Any]:
    compose(site, "--docker-launcher")
    found: dict[str, Any] = yaml.safe_load((site.parent / WORKERS).read_text())["services"]
    return found


def launched(service: dict[str, Any]) -> dict[str, Any]:
    """What Docker is asked for by DockerRunLauncher: its own settings, then the worker's."""
    config = read("dagster.docker-launcher.yaml")["run_launcher"]["config"]
    config["networks"] = ["kraken_kraken"]
    taken = process_config(DockerRunLauncher.config_type(), config)
    assert taken.success, taken.errors
    validate_docker_config(None, config["networks"], config["container_kwargs"])
    launcher = DockerContainerContext(
        networks=config["networks"], container_kwargs=config["container_kwargs"]
    )
    text = service["environment"]["DAGSTER_CONTAINER_CONTEXT"]
    text = text.replace("${KRAKEN_PROJECT:-kraken}", "kraken").replace("$$", "$")
    text = re.sub(r"\$\{KRAKEN_SITE_PATH:\?[^}]*\}", "/opt/kraken-site", text)
    context = launcher.merge(DockerContainerContext.create_from_config(json.loads(text)))
    asked = _create_container_args(
        {
            "image": "kraken:1",
            "command": ["true"],
            "version": docker.constants.DEFAULT_DOCKER_API_VERSION,
            "environment": dict(parse_env_var(item) for item in context.env_vars),
            **context.container_kwargs,
        }
    )
    assert isinstance(asked, dict)
    return asked


def test_a_run_s_container_gets_its_own_instrument_and_no_other(
    workers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KRAKEN_DAGSTER_POSTGRES", "KRAKEN_MONGODB_URI", "TZ"):
        monkeypatch.setenv(name, f"of the daemon: {name}")
    asked = launched(workers["timstof1"])
    assert asked["environment"]["KRAKEN_INSTRUMENTS"] == "timstof1"
    assert asked["environment"]["KRAKEN_LOCATION"] == "timstof1"
    assert asked["environment"]["CLUSTER_USER"] == "kraken"  # instruments.yaml can't do without it
    assert asked["environment"]["KRAKEN_MONGODB_URI"] == "of the daemon: KRAKEN_MONGODB_URI"
    host = asked["host_config"]
    mounts = {item["Target"]: item for item in host["Mounts"]}
    assert mounts.keys() == {
        *("/etc/kraken", "/var/lib/kraken/logs", "/var/lib/kraken/home"),
        *("/srv/kraken/stores", "/srv/pc 7"),
    }
    assert mounts["/srv/pc 7"]["BindOptions"] == {"Propagation": "rslave"}
    assert mounts["/etc/kraken"]["ReadOnly"] is True
    assert mounts["/var/lib/kraken/home"]["Source"] == "kraken_home_timstof1"
    assert host["AutoRemove"] is True
    assert host["Init"] is True
    assert host["LogConfig"]["Config"]["max-size"] == "20m"
    assert "Binds" not in host  # Docker would make a folder that is missing


def test_the_worker_sees_what_its_runs_see(workers: dict[str, Any]) -> None:
    for service in workers.values():
        text = service["environment"]["DAGSTER_CONTAINER_CONTEXT"]
        mounts = json.loads(text)["docker"]["container_kwargs"]["mounts"]
        bound = {it["target"] for it in service["volumes"] if isinstance(it, dict)}
        named = {it.split(":")[-1 if not it.endswith(":ro") else -2] for it in service["volumes"]
                 if isinstance(it, str)}  # fmt: skip
        assert {it["Target"] for it in mounts} == bound | named


def test_without_the_option_a_worker_has_no_container_context(site: Path) -> None:
    compose(site)
    assert "DAGSTER_CONTAINER" not in (site.parent / WORKERS).read_text()
    assert "changed: astral1, timstof1" in compose(site, "--docker-launcher")


def test_code_locations_on_other_hosts_are_refused(site: Path) -> None:
    other = "code_locations: {host_2: {instruments: [astral1], host: 10.0.0.12}}\n"
    site.write_text(SITE + other)
    said = compose(site, "--docker-launcher", fails=True)
    assert "on its own host only" in said
    assert "host_2" in said
    assert not (site.parent / WORKERS).exists()


def test_runs_are_watched_and_the_rest_is_as_without_the_launcher() -> None:
    ours, plain = read("dagster.docker-launcher.yaml"), read("dagster.yaml")
    assert ours.pop("run_launcher")["class"] == "DockerRunLauncher"
    assert plain.pop("run_launcher")["class"] == "PatientRunLauncher"
    assert ours["run_monitoring"]["enabled"] is True
    assert ours["run_monitoring"].pop("poll_interval_seconds") == 20
    del plain["run_monitoring"]["poll_interval_seconds"]
    assert ours == plain


def _allowed(method: str) -> re.Pattern[str]:
    command = read("compose.docker-launcher.yaml")["services"]["docker-proxy"]["command"]
    (rule,) = [it for it in command if it.startswith(f"-allow{method}=")]
    return re.compile(rule.partition("=")[2])


@pytest.mark.parametrize(
    ("method", "path", "passes"),
    [
        ("GET", "/version", True),
        ("GET", "/v1.44/containers/0a1b/json", True),
        ("POST", "/v1.44/containers/create", True),
        ("POST", "/v1.44/containers/0a1b/start", True),
        ("POST", "/v1.44/containers/0a1b/stop", True),
        ("POST", "/v1.44/containers/0a1b/exec", False),
        ("POST", "/v1.44/images/create", False),
        ("POST", "/v1.44/build", False),
        ("GET", "/v1.44/containers/json", False),
        ("GET", "/v1.44/containers/0a1b/archive", False),
        ("GET", "/v1.44/secrets", False),
    ],
)
def test_the_proxy_lets_through_what_the_launcher_asks(
    method: str, path: str, passes: bool
) -> None:
    assert (_allowed(method).fullmatch(path) is not None) is passes


def test_only_the_proxy_has_the_socket() -> None:
    services = read("compose.docker-launcher.yaml")["services"]
    with_socket = [name for name, it in services.items() if "docker.sock" in str(it["volumes"])]
    assert with_socket == ["docker-proxy"]
    proxy = services["docker-proxy"]
    assert proxy["networks"] == ["docker"]
    assert "ports" not in proxy
    assert read("compose.docker-launcher.yaml")["networks"]["docker"] == {"internal": True}
    for name in ("daemon", "dagit"):
        assert services[name]["environment"]["DOCKER_HOST"] == "tcp://docker-proxy:2375"


@pytest.mark.parametrize("extra", ["compose.docker-launcher.yaml", "compose.mongodb-tls.yaml"])
def test_compose_takes_the_files_together(extra: str, site: Path) -> None:
    compose(site, "--docker-launcher")
    if not has_compose():
        base, more = read("compose.yaml"), read(extra)
        assert more["services"].keys() - base["services"].keys() <= {"docker-proxy"}
        return
    given = {
        **{"POSTGRES_PASSWORD": "a", "MONGODB_PASSWORD": "b", "DOCKER_GID": "99"},
        **{"KRAKEN_SITE": str(site.parent), "KRAKEN_SITE_PATH": str(site.parent)},
        **{"KRAKEN_BINDS": "/srv", "MONGODB_TLS": "/srv/tls"},
    }
    kept = {key: it for key, it in os.environ.items() if not key.startswith("KRAKEN")}
    files = [DOCKER / "compose.yaml", site.parent / WORKERS, DOCKER / extra]
    command = ["docker", "compose", "--project-directory", str(DOCKER)]
    command += [word for file in files for word in ("-f", str(file))]
    done = subprocess.run(
        [*command, "--profile", "*", "config"],
        env={**kept, **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    context = json.loads(found["timstof1"]["environment"]["DAGSTER_CONTAINER_CONTEXT"])
    sources = {it["Source"] for it in context["docker"]["container_kwargs"]["mounts"]}
    assert {str(site.parent), "kraken_logs", "kraken_home_timstof1", "/srv/pc 7"} <= sources
    assert {it["target"] for it in found["daemon"]["volumes"]} >= {
        *("/etc/kraken", "/var/lib/kraken/logs"),
        "/var/lib/kraken/dagster/dagster.yaml" if "launcher" in extra else "/etc/kraken-tls/ca.pem",
    }
