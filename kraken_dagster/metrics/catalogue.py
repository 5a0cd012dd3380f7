"""What metrics are called, in which unit they are, and what they say: for the page, the terminal,
Dagit, docs/metrics.md and mzQC.

A metric that is not here is its program's or the site's, and goes by its own name.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache, cached_property, lru_cache
from importlib.resources import files


@dataclass(frozen=True)
class Described:
    """A metric, or with `*` in its name several.

    Args:
        unit: as it is written; empty for counts and ratios.
        types: those of results in which it means this; empty: all.
    """

    name: str
    title: str
    unit: str
    definition: str
    types: tuple[str, ...] = ()

    @property
    def with_unit(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def in_words(self) -> str:
        """Its definition, with the unit."""
        return f"{self.definition[:-1]}, in {self.unit}." if self.unit else self.definition

    @cached_property
    def pattern(self) -> "re.Pattern[str]":
        return re.compile(translate(self.name))


@cache
def catalogue() -> Sequence[Described]:
    """All that are described, by the programs that they come from."""
    text = files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    return [
        Described(**{**item, "types": tuple(item.get("types", ()))}) for item in json.loads(text)
    ]


@lru_cache(maxsize=4096)
def described(name: str, metrics_type: str | None = None) -> Described | None:
    """What is known of a metric.

    Args:
        metrics_type: of the result that it stands in; where none is known, and the unit differs by
            it, the unit is left out.
    """
    found = [item for item in catalogue() if item.name == name]
    found = found or [
        item for item in catalogue() if "*" in item.name and item.pattern.fullmatch(name)
    ]
    fitting = [item for item in found if not item.types or metrics_type in item.types]
    if fitting:
        return fitting[0]
    if not found:
        return None
    first = found[0]
    return Described(first.name, first.title, "", first.definition)


def title_of(name: str, metrics_type: str | None = None) -> str:
    """What people read in place of a metric's name."""
    known = described(name, metrics_type)
    return name.replace("_", " ") if known is None or "*" in known.name else known.title
