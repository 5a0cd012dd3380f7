"""`kraken init`, and the files that come with the package."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.operations.site_files import NAMES, beside, shipped

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["instruments.yaml", "dagster.yaml", "workspace.yaml"])
def test_the_package_brings_what_the_checkout_has(name: str) -> None:
    assert shipped(name) == (_ROOT / name).read_text(encoding="utf-8")


def test_init_writes_a_configuration_that_loads(tmp_path: Path) -> None:
    folder = tmp_path / "a site's own 100%"
    done = CliRunner().invoke(main, ["init", str(folder)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in folder.iterdir()} == set(NAMES)
    assert set(load_config(folder / "instruments.yaml", environment={}).instruments) == {
        "astral1",
        "timstof1",
        "zenotof1",
    }
    unit = (folder / "kraken.service").read_text(encoding="utf-8")
    assert f"WorkingDirectory={str(folder).replace('%', '%%')}\n" in unit
    assert "100%%/instruments.yaml" in unit.split("ExecStart=")[1].splitlines()[0]
    assert "@" not in unit


def test_init_puts_dagsters_storage_on_postgresql_where_it_is_asked_to(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["init", str(tmp_path), "--postgres"])
    assert done.exit_code == 0, done.output
    assert "KRAKEN_DAGSTER_POSTGRES" in done.output
    written = yaml.safe_load((tmp_path / "dagster.yaml").read_text())
    assert written.pop("storage")["custom"]["class"] == "PooledPostgresStorage"
    assert written == yaml.safe_load(shipped("dagster.yaml"))


UNITS = [name for name in NAMES if name.endswith(".service")]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_units(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a site's own 100% $HOME"
    assert CliRunner().invoke(main, ["init", str(folder)]).exit_code == 0
    unit = tmp_path / name  # systemd's names of units have no spaces
    unit.write_text((folder / name).read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_the_units_have_what_hardens_them_and_leave_what_jobs_need(name: str) -> None:
    settings = dict(line.split("=", 1) for line in shipped(name).splitlines() if "=" in line)
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["ProtectSystem"] == "full"
    assert settings["KillMode"] == "process"  # jobs of this machine go on
    assert not {"PrivateTmp", "MemoryDenyWriteExecute", "RestrictNamespaces"} & settings.keys()


@pytest.mark.parametrize("name", NAMES)
def test_init_overwrites_nothing_and_then_writes_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    done = CliRunner().invoke(main, ["init", str(tmp_path)])
    assert done.exit_code == 1
    assert name in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_init_says_what_it_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["init", str(tmp_path / "file" / "folder")])
    assert done.exit_code == 1
    assert "can't be written to" in done.stderr


def test_a_file_of_the_sites_own_wins_over_the_packages(tmp_path: Path) -> None:
    config, spare = tmp_path / "site" / "instruments.yaml", tmp_path / "home"
    assert beside(config, "workspace.yaml", spare_folder=spare).parent == spare
    config.parent.mkdir()
    own = config.with_name("workspace.yaml")
    own.write_text("load_from: []")
    assert beside(config, "workspace.yaml", spare_folder=spare) == own


def test_a_shell_learns_where_dagsters_home_is_and_finds_dagsters_programs(tmp_path: Path) -> None:
    folder = tmp_path / "a site's own $HOME"
    assert CliRunner().invoke(main, ["init", str(folder)]).exit_code == 0
    program = shlex.quote(str(Path(sys.executable).with_name("kraken")))
    script = f'eval "$({program} env)" && printf "%s\\n" "$DAGSTER_HOME" "$KRAKEN_CONFIG" "$PATH"'
    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    home, config, path = done.stdout.splitlines()
    assert home == str(folder / ".kraken" / "dagster")
    assert (Path(home) / "dagster.yaml").exists()
    assert config == str(folder / "instruments.yaml")
    assert path == f"{Path(sys.executable).parent}:{os.defpath}"
