"""docs/dependencies.md says what is installed and why, and keeps to it."""

import ast
import re
import subprocess
import sys

import pytest

from kraken_dagster_tests.licences import DOCUMENT, ROOT, direct, pinned, written

TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_the_table_of_licences_names_what_is_pinned() -> None:
    rows = re.findall(
        r"^\| (\S+) \| (\S+) \| (.+) \| \S+ \|$", TEXT.partition("## Licences")[2], re.M
    )
    reported = {name: version for name, version, _ in rows if name not in ("package", "---")}
    assert reported == pinned(), "run `make licences`"
    assert [name for name, _, licence in rows if licence == "not said"] == []


def test_the_table_is_what_the_installed_packages_say() -> None:
    assert written(TEXT) == TEXT, "run `make licences`"


@pytest.mark.parametrize(
    "extra",
    ["", "alerts", "embedded", "postgres", "docker", "kubernetes", "compare", "s3", "mcp", "dev"],
)
def test_every_direct_dependency_has_its_reason(extra: str) -> None:
    reasons = TEXT.partition("## The embedded")[0]
    rows = [line.split("|") for line in reasons.splitlines() if line.startswith("| ")]
    reported = {name.strip().lower() for row in rows for name in row[1].split(",")}
    names = {item.name.lower() for item in direct(extra)}
    assert names - {"kraken-dagster"} - reported == set()


def test_no_package_under_the_gpl_is_needed_but_by_the_extra() -> None:
    rows = [line for line in TEXT.splitlines() if re.search(r"\bA?GPL", line) and "| " in line[:2]]
    assert [row.split("|")[4].strip() for row in rows] == ["`embedded`"]


def test_nothing_of_the_embedded_server_is_imported() -> None:
    sources = [
        path for folder in ("kraken_dagster", "resources") for path in (ROOT / folder).rglob("*.py")
    ]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "secantus" for name in names), path


def test_nor_is_it_loaded_by_the_command() -> None:
    script = (
        "import sys; from kraken_dagster.cli.main import main; dict(main.commands);"
        "print([m for m in sys.modules if 'secantus' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
