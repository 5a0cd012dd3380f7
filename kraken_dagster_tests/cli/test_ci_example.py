"""The repository of a laboratory in docs/examples does in CI what docs/ci.md says, from a wheel."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.xdist_group("ci_example"), pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "laboratory"
SOURCES = ("kraken_dagster", "kraken_dagster_tests", "resources")
FILES = ("pyproject.toml", "README.md", "LICENSE")
ON_GITHUB = yaml.safe_load((EXAMPLE / ".github/workflows/kraken.yml").read_text())["jobs"]["check"]
ON_GITLAB = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())["check"]
LINES = [line for step in ON_GITHUB["steps"] for line in step.get("run", "").splitlines()]
CHECKS = [line for line in LINES if not line.startswith("pip ")]


@dataclass
class Runner:
    """A machine of a CI: the laboratory's repository, a Python, and nothing else of Kraken's."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-e", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
        )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, made of a copy, so that nothing is written into the checkout."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(wheels), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return wheels


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment that has what Kraken needs, as links, and not Kraken itself."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "kraken" not in path.name:
            (site / path.name).symlink_to(path)
    for path in Path(sys.executable).parent.iterdir():
        if "kraken" in path.name or path.is_dir() or (home / "bin" / path.name).exists():
            continue
        head, _, rest = path.read_bytes().partition(b"\n")
        if head.startswith(b"#!" + bytes(path.parent)):  # a script of Python's
            script = home / "bin" / path.name
            script.write_bytes(b"#!" + bytes(home / "bin" / "python") + b"\n" + rest)
            script.chmod(0o755)
    return home / "bin"


@pytest.fixture(scope="module")
def installed(programs: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The machine after the example's own line for the installation, which finds this wheel."""
    folder = tmp_path_factory.mktemp("runner") / "laboratory"
    shutil.copytree(EXAMPLE, folder)
    variables = {
        "HOME": str(folder.parent),
        "PATH": f"{programs}:{os.defpath}",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        **ON_GITHUB["env"],
    }
    runner = Runner(folder, variables)
    (install,) = [line for line in LINES if line.startswith("pip ")]
    done = runner.run(install)
    assert done.returncode == 0, done.stdout + done.stderr
    where = runner.run("python -c 'import kraken_dagster; print(kraken_dagster.__file__)'")
    assert where.stdout.startswith(str(programs.parent)), where.stdout + where.stderr
    return runner


@pytest.fixture
def runner(installed: Runner, tmp_path: Path) -> Runner:
    shutil.copytree(EXAMPLE, tmp_path / "laboratory")
    return Runner(tmp_path / "laboratory", installed.environment)


def test_both_pipelines_run_the_same_lines() -> None:
    assert ON_GITLAB["script"] == LINES
    assert ON_GITLAB["variables"].items() >= ON_GITHUB["env"].items()


def test_the_document_tells_the_exit_codes_of_every_line() -> None:
    rows = re.findall(r"^\| (`(?:kraken|dagster) .*?) \|", (ROOT / "docs/ci.md").read_text(), re.M)
    reported = " ".join(rows)
    for line in CHECKS:
        words = line.split()
        assert all(word in reported for word in words[: 3 if words[1] == "project" else 2]), line


def test_every_line_of_the_pipeline_ends_well_and_leaves_only_what_git_ignores(
    runner: Runner,
) -> None:
    said: dict[str, str] = {}
    for line in CHECKS:
        done = runner.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        said[line] = done.stdout
    reported = "\n".join(said.values())
    for expected in (
        "read: astral1, timstof1",
        "not looked at: backup, output, MongoDB, clocks, engine cluster, astral1, timstof1",
        "timstof1/metrics",
        "--fasta /fs/pool/settings/plasma_dia/human.fasta",
    ):
        assert expected in reported
    new = {path.name for path in runner.folder.iterdir()} - {
        path.name for path in EXAMPLE.iterdir()
    }
    assert new <= {name.rstrip("/") for name in (EXAMPLE / ".gitignore").read_text().split()}


def test_a_mistake_in_the_configuration_fails_each_check_with_line_and_key(runner: Runner) -> None:
    path = runner.folder / "instruments.yaml"
    path.write_text(path.read_text().replace("copy_threads: 4", "copy_treads: 4"))
    number = path.read_text().splitlines().index("    copy_treads: 4") + 1
    for line in CHECKS[:3]:
        done = runner.run(line)
        reported = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == 1, f"{line}\n{reported}"
        assert f"line {number}, key 'instruments.timstof1.copy_treads': no such key" in reported, (
            reported
        )


def test_settings_that_were_altered_and_a_file_that_nothing_would_run_on_fail_the_preview(
    runner: Runner,
) -> None:
    path = runner.folder / "settings.yaml"
    path.write_text(path.read_text().replace("64G", "65G"))
    altered, preview = (
        next(line for line in CHECKS if line.startswith(what))
        for what in ("kraken settings import", "kraken project preview")
    )
    for line, words in ((altered, "digest"), (preview, "No settings configured")):
        done = runner.run(line)
        assert done.returncode == 1, f"{line}\n{done.stdout}\n{done.stderr}"
        assert words in done.stdout + done.stderr


@pytest.mark.parametrize("line", ["kraken env", "kraken doctor --offline"])
def test_a_variable_that_is_not_set_is_named(installed: Runner, line: str) -> None:
    bare: dict[str, Any] = {
        name: value for name, value in installed.environment.items() if name not in ON_GITHUB["env"]
    }
    done = Runner(installed.folder, bare).run(line)
    assert done.returncode == 1
    assert "KRAKEN_MONGODB_URI to be set" in done.stderr
    assert "Traceback" not in done.stderr
