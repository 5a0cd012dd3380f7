"""Two versions of settings side by side, and what people set in a form."""

import difflib
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kraken_dagster.model.settings import AssignedSettings, Settings

_GIVEN_BY_KRAKEN = ("name", "version", "number", "status")
_LISTS = ("slurm_directives",)
_LONG = ("config_params", "slurm_directives", "description")


@dataclass(frozen=True)
class Field:
    """A field of settings in a form; `about` is its description."""

    name: str
    about: str
    is_long: bool
    value: str


@dataclass(frozen=True)
class Compared:
    """A field of two versions; `lines` are pairs of lines, and whether they differ."""

    name: str
    differs: bool
    lines: tuple[tuple[str, str, bool], ...]


def compared(left: Settings, right: Settings) -> list[Compared]:
    """Every field that one of them sets, those that differ first."""
    found = []
    for name in Settings.model_fields:
        texts = text_of(left, name), text_of(right, name)
        if name in _GIVEN_BY_KRAKEN or not any(texts):
            continue
        found.append(Compared(name, texts[0] != texts[1], tuple(_side_by_side(*texts))))
    return sorted(found, key=lambda item: not item.differs)


def _side_by_side(left: str, right: str) -> Iterator[tuple[str, str, bool]]:
    one, other = left.splitlines() or [""], right.splitlines() or [""]
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        for pair in itertools.zip_longest(one[a:b], other[c:d], fillvalue=""):
            yield (*pair, tag != "equal")


def text_of(settings: Settings, name: str) -> str:
    """A field as text; nothing where it is left open."""
    value = getattr(settings, name)
    if isinstance(value, tuple):
        return "\n".join(value)
    return "" if value is None else str(value)


def fields_of(values: Mapping[str, str], *, with_type: bool) -> list[Field]:
    """The fields of a form, with these values."""
    return [
        Field(name, field.description or "", name in _LONG, values.get(name, ""))
        for name, field in Settings.model_fields.items()
        if name not in _GIVEN_BY_KRAKEN and (with_type or name != "software_type")
    ]


def values_of(settings: Settings) -> dict[str, str]:
    return {name: text_of(settings, name) for name in Settings.model_fields}


def changes_of(form: Mapping[str, str]) -> dict[str, Any]:
    """The values of a form; None for a field that is left empty."""
    found: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if name in _GIVEN_BY_KRAKEN or name not in form:
            continue
        text = form[name].replace("\r\n", "\n").strip()
        if name in _LISTS:
            found[name] = tuple(line.strip() for line in text.splitlines() if line.strip()) or None
        elif field.annotation in (int, int | None) and text.isascii() and text.isdecimal():
            found[name] = int(text[:18])
        else:
            found[name] = text or None
    return found


def mark_of(parts: Iterable[object]) -> str:
    """What a form remembers of what its user saw, to find out what somebody else changed since."""
    text = "\n".join(sorted(map(repr, parts)))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def mark_of_project(status: str, assigned: Iterable[AssignedSettings]) -> str:
    return mark_of([status, *((item.id, item.settings.version) for item in assigned)])


def mark_of_versions(versions: Iterable[Settings]) -> str:
    return mark_of((item.version, item.status) for item in versions)
