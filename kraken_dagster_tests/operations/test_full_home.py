"""Kraken's home on a disk that is full: each command ends in a sentence that names the place."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click.testing
import pytest

from kraken_dagster.cli.main import main
from kraken_dagster.store.embedded.server import ensure_running
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.support.helpers import write_config

COMMANDS = [("status",), ("retry", "x.raw"), ("up", "--web-port", "0")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 60 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", disk]).returncode:
        unavailable("a tmpfs can't be mounted; this needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))


def said(config: Path, command: tuple[str, ...]) -> str:
    found = click.testing.CliRunner().invoke(main, ["--config", str(config), *command])
    assert found.exit_code == 1
    [line] = found.stderr.splitlines()
    return line


@pytest.mark.parametrize("was_started", [False, True])
def test_a_command_on_a_full_disk_names_the_disk(
    tmp_path: Path, disk: Path, *, was_started: bool
) -> None:
    config = write_config(tmp_path, "", home=str(disk / "home"))
    if was_started:
        ensure_running(disk / "home" / "mongodb").stop()
    fill(disk)
    for command in COMMANDS:
        line = said(config, command)
        # Which it is depends on who finds it out first: Kraken, or the server that it starts.
        assert re.search(r"^kraken: No space, or no quota, is left: |, as its disk is full: ", line)
        assert str(disk / "home") in line
        assert "Next: free some" in line
