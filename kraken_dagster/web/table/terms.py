"""The filter's language, which is AlphaKraken's: `hela & !error & proteins=[1000,9000]`.

`&` joins terms, `!` negates one. A term is a regular expression without regard to case, looked for
in the id and every cell of a row; after `column=` in that column only; `column=[low,high]` is a
range with both ends, of which one may be left out. What can't be understood is told, and ignored.

Regular expressions are RE2's, which need no more than time in proportion to the text, whatever
they are.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

LONGEST = 2_000  # characters
MOST_TERMS = 50
_SPECIAL = re.compile(r"[\\^$.*+?{}\[\]|()]")
_ESCAPED = re.compile(r"\\.|\[[^\]]*\]|\(\?[^)]*\)?")
_OPTIONAL = re.compile(r".[*?{]|\([^)]*\)[*?{]")
_RANGE = re.compile(r"\[([^\[\],]*),([^\[\],]*)\]")
_OF_NUMBERS = frozenset("0123456789.e+-: ")


class NotUnderstood(ValueError):
    """Why a term is ignored, in words."""


@dataclass(frozen=True)
class Term:
    """One condition. `pattern` is what is looked for, or `bounds` are those of a range."""

    text: str
    negated: bool = False
    column: str | None = None
    pattern: str = ""
    bounds: tuple[str, str] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it stands for itself, without any sign of a regular expression."""
        return _SPECIAL.search(self.pattern) is None

    @property
    def may_be_metric(self) -> bool:
        """Whether a number or a date could be written like that."""
        if self.is_plain:
            return set(self.pattern.lower()) <= _OF_NUMBERS
        if "|" in self.pattern:
            return True
        # A letter outside of escapes and classes that nothing makes optional must be there.
        needed = _OPTIONAL.sub("", _ESCAPED.sub("", self.pattern))
        return not any(char.isalpha() and char not in "eE" for char in needed)

    @property
    def words(self) -> list[str] | None:
        """What is looked for where it is several plain words, one of which will do."""
        found = self.pattern.lower().split("|")
        return None if any(not item or _SPECIAL.search(item) for item in found) else found


def terms(text: str) -> list[Term]:
    """The conditions of a filter, as they stand.

    Raises:
        NotUnderstood: it is too long.
    """
    if len(text) > LONGEST:
        raise NotUnderstood(f"a filter has at most {LONGEST} characters, found {len(text)}")
    parts = text.split("&") if text.strip() else []
    if len(parts) > MOST_TERMS:
        raise NotUnderstood(f"a filter has at most {MOST_TERMS} terms, found {len(parts)}")
    return [_term(part.strip()) for part in parts]


def _term(text: str) -> Term:
    rest = text.removeprefix("!").strip() if text.startswith("!") else text
    negated = rest is not text
    name, equals, value = rest.partition("=")
    if not equals:
        return Term(text, negated, pattern=rest)
    column, value = name.strip(), value.strip()
    found = _RANGE.fullmatch(value)
    if found is not None:
        low, high = found[1].strip(), found[2].strip()
        if (low or high) and all(not item or bound(item) is not None for item in (low, high)):
            return Term(text, negated, column, bounds=(low, high))
    return Term(text, negated, column, pattern=value)


def bound(text: str) -> float | None:
    """A bound of a range: a number, or a date as UTC epoch seconds; None if it is neither."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """
    Raises:
        NotUnderstood: it is no regular expression of RE2's.
    """
    import re2  # noqa: PLC0415 - the table is of use without it

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        # Cells are lines: ^ and $ are the ends of one.
        return re2.compile(f"(?m){pattern}", options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reported = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise NotUnderstood(f"no regular expression: {reported.replace('(?m)', '')}") from None
    except UnicodeEncodeError:
        raise NotUnderstood("no text in Unicode") from None
