"""How columns are shown: `columns:` of a file with AlphaKraken's keys, which works as it is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import ConfigError

_FIRST = ("instrument_id", "status", "created_at", "quality", "project_id", "size_gb")


class ColumnEntry(BaseModel):
    """One column, or with `*` in its name several."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str
    hide: bool = False
    at_end: bool = False
    color_gradient: Literal["green_is_high", "red_is_high"] | None = None
    plot: bool = False
    plot_optional: bool = False
    log_scale: bool = False
    overlay: bool = False
    alternative_names: tuple[str, ...] = ()

    @field_validator(
        "hide", "at_end", "plot", "plot_optional", "log_scale", "overlay", mode="before"
    )
    @classmethod
    def _nothing_is_no(cls, value: Any) -> Any:
        return False if value is None else value

    @field_validator("alternative_names", mode="before")
    @classmethod
    def _nothing_is_none(cls, value: Any) -> Any:
        return () if value is None else value

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name


@dataclass(frozen=True)
class ColumnChoice:
    """The entries in their order; columns without one come after them."""

    entries: Sequence[ColumnEntry] = field(default=())

    @property
    def other_names(self) -> Mapping[str, str]:
        """Names that other versions have written, and what each is shown as."""
        return {other: item.name for item in self.entries for other in item.alternative_names}

    def entry(self, name: str) -> ColumnEntry | None:
        """That of the very name, else the first with a pattern that fits."""
        patterns = None
        for item in self.entries:
            if item.name == name:
                return item
            if patterns is None and item.is_pattern and matches(item.name, name):
                patterns = item
        return patterns

    def gradient(self, name: str) -> str | None:
        entry = self.entry(name)
        return None if entry is None else entry.color_gradient

    def arranged(self, names: Sequence[str]) -> list[str]:
        """The usual columns, then those with an entry in their order, then the others. Those that
        are hidden are left out, and those `at_end` are last."""
        place = {name: (-1 if name in _FIRST else len(self.entries), False) for name in names}
        for name in names:
            entry = self.entry(name)
            if entry is not None:
                place[name] = (self.entries.index(entry), entry.at_end)
        kept = [name for name in names if not ((e := self.entry(name)) and e.hide)]
        return sorted(kept, key=lambda name: (place[name][1], place[name][0]))

    def plotted(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if (e := self.entry(name)) is not None and e.plot]


def matches(pattern: str, name: str) -> bool:
    """Whether a column is one of those that `irt_*_delta_rt` stands for."""
    return _translated(pattern).fullmatch(name) is not None


@lru_cache(maxsize=512)
def _translated(pattern: str) -> "re.Pattern[str]":
    return re.compile(translate(pattern.replace("[", "[[]").replace("?", "[?]")))


def columns_of(config: KrakenConfig) -> ColumnChoice:
    """What the configuration says, else what is of use for the metrics that Kraken reads itself.

    Raises:
        ConfigError: the file that it names can't be used.
    """
    return _USUAL if config.page.columns is None else load_columns(config.page.columns)


def load_columns(path: Path) -> ColumnChoice:
    """
    Raises:
        ConfigError: there is no such file, or it isn't what AlphaKraken's is.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = tuple(ColumnEntry.model_validate(item) for item in found["columns"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise _unusable(path, f"{type(error).__name__}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unusable(path, f"{where}: {first['msg']}, found {first['input']!r}") from error
    return ColumnChoice(entries)


def _unusable(path: Path, found: str) -> ConfigError:
    return ConfigError(
        "The column configuration can't be used",
        file=path,
        expected="a list `columns` with entries that have a `name`; see docs/page.md",
        found=found[:500],
        next_step="correct it, or leave `page.columns` out of instruments.yaml.",
    )


_HIGH_IS_GOOD = ("precursors", "proteins", "peptides", "weighted_average_charge")
_LOW_IS_GOOD = ("fwhm_rt", "mean_fwhm_rt", "calibration:ms1_error", "calibration:ms2_error")
_USUAL = ColumnChoice(
    (
        *(
            ColumnEntry(name=name, color_gradient="green_is_high", plot=True)
            for name in _HIGH_IS_GOOD
        ),
        *(ColumnEntry(name=name, color_gradient="red_is_high", plot=True) for name in _LOW_IS_GOOD),
        ColumnEntry(name="status_details", at_end=True),
    )
)
