"""What became of each key of AlphaKraken's, in words, and what a person has to do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from kraken_dagster.model.errors import ConfigError

_SECRET = ("password", "secret", "token", "webhook")


class Verdict(StrEnum):
    TAKEN = "taken"
    CHANGED = "changed"
    LEFT = "not taken"
    WRONG = "not understood"


@dataclass(frozen=True)
class Note:
    key: str
    verdict: Verdict
    words: str


@dataclass
class Notes:
    """The notes in the order of the keys, and what is to be done by hand."""

    notes: list[Note] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict, key: str, words: str) -> None:
        self.notes.append(Note(key, verdict, words))

    @property
    def wrong(self) -> bool:
        """Whether something was not understood."""
        return any(note.verdict is Verdict.WRONG for note in self.notes)


class Section:
    """The keys of one mapping. Each is asked for once; `end` tells of the others."""

    def __init__(self, name: str, values: object, notes: Notes) -> None:
        """
        Args:
            name: as people write it, `instruments.astral1`; empty for the file.

        Raises:
            ConfigError: it is no mapping.
        """
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise ConfigError(
                f"`{name}` can't be converted",
                expected="keys and values below it (`key: value`)",
                found=shown(name, values),
                next_step="mend it in a copy of AlphaKraken's file.",
            )
        self.name, self.notes = name, notes
        self._open: dict[str, Any] = {str(key): value for key, value in values.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._open

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._open))

    def key(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def below(self, key: str) -> "Section":
        """
        Raises:
            ConfigError: what stands there is no mapping.
        """
        return Section(self.key(key), self._open.pop(key, None), self.notes)

    def entries(self, key: str) -> list["Section"]:
        """The mappings of a list.

        Raises:
            ConfigError: it is no list of mappings.
        """
        values = self._open.pop(key, None) or []
        if not isinstance(values, list):
            raise ConfigError(f"`{self.key(key)}` can't be converted", expected="a list")
        return [Section(f"{self.key(key)}.{n}", it, self.notes) for n, it in enumerate(values)]

    def text(self, key: str) -> str | None:
        """A text in one line; None if there is none, or none that can be taken, which is told."""
        value = self._open.pop(key, None)
        if value is None or value == "":
            return None
        text = str(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self._not(key, "a text", value)
        elif "${" in text or not text.isprintable():
            self._not(key, "a text without `${` and control characters", value)
        else:
            return text
        return None

    def number(self, key: str) -> float | None:
        """A finite number; None as above."""
        value = self._open.pop(key, None)
        if value is None:
            return None
        try:
            number = float(value) if isinstance(value, str | int | float) else None
        except (ValueError, OverflowError):
            number = None
        if number is None or isinstance(value, bool) or not abs(number) < 1e15:
            self._not(key, "a number", value)
            return None
        return int(number) if number == int(number) else number

    def flag(self, key: str) -> bool | None:
        """Yes or no; None as above."""
        value = self._open.pop(key, None)
        words = {"true": True, "false": False, "1": True, "0": False}
        found = words.get(str(value).lower())
        if value is not None and found is None:
            self._not(key, "true or false", value)
        return found

    def take(self, key: str, words: str) -> None:
        self.notes.add(Verdict.TAKEN, self.key(key), words)

    def change(self, key: str, words: str) -> None:
        self.notes.add(Verdict.CHANGED, self.key(key), words)

    def leave(self, key: str, why: str) -> None:
        """Tells of a key, if it is there, that nothing here needs."""
        if key in self._open:
            del self._open[key]
            self.notes.add(Verdict.LEFT, self.key(key), why)

    def refuse(self, key: str, why: str) -> None:
        self._open.pop(key, None)
        self.notes.add(Verdict.WRONG, self.key(key), why)

    def end(self) -> None:
        """Tells of every key that nobody asked for."""
        for key in self:
            found = shown(key, self._open[key])
            self.refuse(key, f"no key of AlphaKraken's that is known here, found {found}")

    def _not(self, key: str, expected: str, value: object) -> None:
        self.refuse(key, f"expected {expected}, found {shown(key, value)}")


def shown(key: str, value: object) -> str:
    """A value as a note has it: short, and never a secret."""
    if any(word in key.lower() for word in _SECRET):
        return "a value that may be a secret"
    if isinstance(value, dict | list):
        return f"{'keys and values' if isinstance(value, dict) else 'a list'} ({len(value)})"
    text = value.isoformat() if isinstance(value, date) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
