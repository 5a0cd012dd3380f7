"""Writes the table of licences in docs/dependencies.md: what is pinned, and what its package says.

make licences
"""

import re
from collections.abc import Sequence, Set
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "dependencies.md"
BEGIN, END = "<!-- licences: make licences -->", "<!-- end of licences -->"
_OURS = "kraken-dagster"
_CLASSIFIER = "License :: OSI Approved :: "
_EXTRAS = ("alerts", "embedded", "mcp", "postgres", "docker", "kubernetes")
_LONGEST = 60  # some give the text of their licence in place of its name
# Where the package says too little: by its own text.
_TOLD_ELSEWHERE = {"python-dateutil": "Apache-2.0 OR BSD-3-Clause"}


def pinned() -> dict[str, str]:
    """Versions in constraints.txt by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def direct(extra: str = "") -> list[Requirement]:
    """What pyproject.toml names, with an extra or without one."""
    found = [Requirement(text) for text in requires(_OURS) or []]
    wanted = [item for item in found if (item.marker is None) == (not extra)]
    return [
        item for item in wanted if item.marker is None or item.marker.evaluate({"extra": extra})
    ]


def needed_by(wanted: Sequence[Requirement], known: Set[str]) -> set[str]:
    """These packages and all that they need, as far as it is installed and not `known`."""
    done, todo = set[tuple[str, str]](), list(wanted)
    while todo:
        item = todo.pop()
        name = canonicalize_name(item.name)
        for extra in {"", *item.extras} - {extra for its, extra in done if its == name}:
            try:
                lines = distribution(name).requires or []
            except PackageNotFoundError:  # for another system
                break
            done.add((name, extra))
            found = map(Requirement, lines)
            todo += [
                it for it in found if it.marker is None or it.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in done} - known - {_OURS}


def licence(name: str) -> str:
    """What the package says: its SPDX expression, else its classifiers, else its own words."""
    facts = distribution(name).metadata
    classifiers = [
        text.removeprefix(_CLASSIFIER)
        for text in facts.get_all("Classifier", [])
        if text.startswith(_CLASSIFIER)
    ]
    words = (facts.get("License") or "").split("\n")[0]
    ours = _TOLD_ELSEWHERE.get(name)
    reported = ours or facts.get("License-Expression") or "; ".join(classifiers) or words
    return reported[:_LONGEST] or "not said"


def rows() -> list[str]:
    """A row for each package that is pinned: name, version, licence, and what needs it."""
    core = needed_by(direct(), set())
    extras = {f"`{name}`": needed_by(direct(name), core) for name in _EXTRAS}
    parts = {"Kraken": core, **extras}
    found = []
    for name, version in sorted(pinned().items()):
        where = next((part for part, names in parts.items() if name in names), "development")
        found.append(f"| {name} | {version} | {licence(name)} | {where} |")
    return found


def written(text: str) -> str:
    """The document with its table made anew."""
    table = ["| package | version | licence | needed by |", "|---|---|---|---|", *rows()]
    inside = "\n".join([BEGIN, *table, END])
    return re.sub(f"{BEGIN}.*{END}", lambda _: inside, text, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
