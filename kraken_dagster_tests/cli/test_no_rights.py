"""Every command as a user with no rights, and with whatever else can be wrong: one sentence."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from kraken_dagster.cli.common import errors_of_the_system
from kraken_dagster.cli.main import main
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.errors import KrakenError

pytestmark = pytest.mark.timeout(600)
NOTHING_RUNS = "no `kraken up` runs with it on this machine"  # `status`, of a broken configuration


def leaves(group: click.Group, *before: str) -> Iterator[tuple[list[str], click.Command]]:
    """Every command that the parser knows, with the words that lead to it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, *before, name)
        else:
            yield [*before, name], command


def arguments(command: click.Command, folder: Path) -> list[str]:
    """Something for whatever it takes, and every folder that it could write to: nobody may."""
    given: list[str] = []
    for item in command.params:
        is_folder = isinstance(item.type, click.Path)
        value = str(folder / "x") if is_folder else "x:1"
        if isinstance(item.type, click.File):
            value = os.devnull
        if isinstance(item, click.Argument):
            given += [value] if item.required or item.nargs == -1 else []
        elif item.required or is_folder:
            given += [item.opts[0], value]
    return given


def write_config(place: Path, **changes: Any) -> Path:
    values = {
        "home": str(place / "home"),
        "locations": {name: str(place / name) for name in ("instruments", "backup", "output")},
        "instruments": {"thermo1": {"type": "thermo"}},
    }
    path = place / "instruments.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


def run(commands: list[list[str]], *, stdout: str | None = None) -> list[dict[str, Any]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    done = subprocess.run(
        [sys.executable, "-m", "kraken_dagster_tests.support.as_stranger"],
        input=json.dumps({"commands": commands, "stdout": stdout}),
        env=kept,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# Of a configuration that can be read.
NEED_NOTHING = [["alerts", "rules"]]


def faults(found: list[dict[str, Any]]) -> list[str]:
    """What didn't end as it should, in words."""
    return [
        f"{item['command'][2:]}: {item['code']}\n{item['err']}{item['out']}"
        for item in found
        if not ended_well(item) and not (item["code"] == 0 and item["command"][2:] in NEED_NOTHING)
    ]


def ended_well(item: dict[str, Any]) -> bool:
    lines = [line for line in item["err"].splitlines() if line != NOTHING_RUNS]
    if item["code"] not in (1, 2) or "Traceback" in item["err"] + item["out"]:
        return False
    if item["code"] == 2:
        return lines[0].startswith("Usage: kraken") and lines[-1].startswith("Error: ")
    if not lines:  # what is wrong stands in a table
        return "error" in item["out"] or "refused" in item["out"]
    return len(lines) == 1 and lines[0].startswith("kraken: ") and "Next: " in lines[0]


def unreadable_home(place: Path) -> Path:
    (place / "home" / "mongodb").mkdir(parents=True)
    (place / "home" / "mongodb" / "lock").touch()
    (place / "home").chmod(0o000)
    return write_config(place)


def home_that_may_be_read(place: Path) -> Path:
    (place / "home" / "mongodb").mkdir(parents=True)
    (place / "home" / "mongodb" / "lock").touch(mode=0o444)
    for folder in (place / "home" / "mongodb", place / "home"):
        folder.chmod(0o555)
    return write_config(place)


def home_in_a_folder_of_somebody_else(place: Path) -> Path:
    return write_config(place, home=str(place / "nobodys" / "home"))


def home_that_is_a_file(place: Path) -> Path:
    (place / "home").write_text("")
    return write_config(place)


def unreadable_config(place: Path) -> Path:
    path = write_config(place)
    path.chmod(0o000)
    return path


def config_in_a_closed_folder(place: Path) -> Path:
    (place / "closed").mkdir(mode=0o000)
    return place / "closed" / "instruments.yaml"


def no_config(place: Path) -> Path:
    return place / "instruments.yaml"


def bad_yaml(place: Path) -> Path:
    path = place / "instruments.yaml"
    path.write_text("instruments: {a: [\n")
    return path


def deep_yaml(place: Path) -> Path:
    path = place / "instruments.yaml"
    path.write_text("[" * 100_000)
    return path


def bytes_as_yaml(place: Path) -> Path:
    path = place / "instruments.yaml"
    path.write_bytes(b"\xff\xfe\x00a: \x80")
    return path


def mongodb_that_refuses(place: Path) -> Path:
    (place / "home").mkdir()
    (place / "home").chmod(0o555)
    return write_config(place, mongodb={"uri": f"mongodb://127.0.0.1:{free_port()}/"})


WRONG = [
    unreadable_home,
    home_that_may_be_read,
    home_in_a_folder_of_somebody_else,
    home_that_is_a_file,
    unreadable_config,
    config_in_a_closed_folder,
    no_config,
    bad_yaml,
    deep_yaml,
    bytes_as_yaml,
    mongodb_that_refuses,
]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, list[dict[str, Any]]]]:
    """What every command left, by what is wrong; they share a process to start from."""
    with tempfile.TemporaryDirectory() as name:  # others may not look into pytest's own folders
        places = [Path(name) / wrong.__name__ for wrong in WRONG]
        Path(name).chmod(0o755)
        commands = []
        for wrong, place in zip(WRONG, places, strict=True):
            (place / "nobodys").mkdir(parents=True)
            (place / "nobodys").chmod(0o555)
            config = ["--config", str(wrong(place))]
            commands += [
                [*config, *words, *arguments(item, place / "nobodys")]
                for words, item in leaves(main)
            ]
        ended, each = run(commands), len(commands) // len(WRONG)
        assert each > 20
        yield {
            wrong.__name__: ended[number * each : (number + 1) * each]
            for number, wrong in enumerate(WRONG)
        }
        for folder in (item for place in places for item in place.iterdir() if item.is_dir()):
            folder.chmod(0o755)


@pytest.mark.parametrize("wrong", [item.__name__ for item in WRONG])
def test_every_command_ends_in_one_sentence(found: Any, wrong: str) -> None:
    assert "\n".join(faults(found[wrong])) == ""


def test_every_command_says_when_its_output_can_not_be_written() -> None:
    config = ["--config", "/nowhere/instruments.yaml"]
    ended = run([[*config, *words, "--help"] for words, _ in leaves(main)], stdout="/dev/full")
    assert {item["code"] for item in ended} == {1}
    assert {item["err"].count("\n") for item in ended} == {1}
    assert all("No space" in item["err"] for item in ended)


def test_a_reader_who_has_enough_is_no_fault() -> None:
    script = f"{Path(sys.executable).with_name('kraken')} --help | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""


def test_a_file_system_that_is_read_only_is_no_matter_of_rights() -> None:
    refused = OSError(errno.EROFS, os.strerror(errno.EROFS), "/somewhere")
    words = "Nothing can be written on this file system: '/somewhere'.*Next: mount it"
    with pytest.raises(KrakenError, match=words), errors_of_the_system():
        raise refused
