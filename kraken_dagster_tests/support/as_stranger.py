"""Runs `kraken` commands as a user with no rights: no name, no home, in no folder of its own.

    python -m kraken_dagster_tests.support.as_stranger < JSON

JSON on stdin: `{"commands": [[ARGUMENT...]...], "stdout": PATH or null}`. Each command is a process
of its own, many at once; what they left is written to stdout as JSON, in their order. Whoever
starts it as root gets user 54321 in the commands; anybody else stays who they are.
"""

import json
import os
import pkgutil
import sys
import tempfile
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import kraken_dagster
from kraken_dagster.cli.common import print_table
from kraken_dagster.cli.main import main

STRANGER = 54321
AT_ONCE = 40
_OF_ROOT = 0


def import_all() -> None:
    """What commands import late, which a stranger may be unable to do: the checkout is root's."""
    for module in pkgutil.walk_packages(kraken_dagster.__path__, "kraken_dagster."):
        import_module(module.name)
    with redirect_stdout(StringIO()), suppress(SystemExit):
        print_table([{"a": "b"}], ["a"])
        main(["status", "--help"])


def start(command: list[str], stdout: str | None, folder: Path, number: int) -> int:
    """The id of the process."""
    child = os.fork()
    if child:
        return child
    out = stdout or str(folder / f"{number}.out")
    for path, descriptor in ((os.devnull, 0), (out, 1), (str(folder / f"{number}.err"), 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if os.geteuid() == _OF_ROOT:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
    for name in ("HOME", "USER", "LOGNAME", "USERNAME", "LNAME"):
        os.environ.pop(name, None)
    os.chdir("/")
    code = 99
    try:
        main(command, prog_name="kraken")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 98
    except BaseException as error:  # noqa: BLE001 - as Python does with what nobody catches
        sys.excepthook(type(error), error, error.__traceback__)
        code = 97
    finally:
        sys.stderr.flush()
        os._exit(code)


def run(commands: list[list[str]], stdout: str | None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder, codes = Path(name), []
        for first in range(0, len(commands), AT_ONCE):
            some = enumerate(commands[first : first + AT_ONCE], first)
            children = [start(item, stdout, folder, number) for number, item in some]
            codes += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        return [
            {
                "command": command,
                "code": code,
                "out": "" if stdout else (folder / f"{number}.out").read_text(),
                "err": (folder / f"{number}.err").read_text(),
            }
            for number, (command, code) in enumerate(zip(commands, codes, strict=True))
        ]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    import_all()
    print(json.dumps(run(asked["commands"], asked["stdout"])))
