"""Numbers as programs and people write them, and what they write for a missing one."""

import math
import re
from collections.abc import Iterable, Sequence
from enum import Enum

# What programs write where there is no number: R, pandas, DIA-NN and Skyline (`#N/A`), C libraries
# of Windows (`-nan(ind)`, `1.#IND`), .NET in other languages, and Excel, when a report went
# through it, in its. In lower case. An infinite number was not measured either.
_MISSING_WORDS = """
    - -- \u2013 \u2014 . ?
    na n/a <na> (na) n.a. n.d. n/d nd nv n.v. nat
    null (null) <null> none nil missing undefined
    nan -nan +nan nan() -nan() nan(ind) -nan(ind) +nan(ind) nan(snan) -nan(snan)
    qnan snan nanq -nanq nans -nans neun 非数字 不是一個數字
    #n/a #nv #n/v #n/d #nd #n.d. #i/t #yok #hiányzik #puuttuu! #saknas! #otillgängligt
    #\u043d/\u0434
    #div/0! #num! #zahl! #nombre! #¡num! #value! #wert! #valeur! #¡valor! #valor! #ref! #null!
    #name?
"""
_MISSING_PHRASES = (
    *("", "n. def.", "non numérique", "non un numero reale", "icke numeriskt", "nan (非数値)"),
    *("nan (não é um número)", "nan (niet-een-getal)", "nie jest liczbą", "není číslo"),
    *("nem szám", "\u043d\u0435 \u0447\u0438\u0441\u043b\u043e"),
)
MISSING = frozenset((*_MISSING_WORDS.split(), *_MISSING_PHRASES))
_INFINITE_WORDS = "inf infinity ∞ unendlich infini infinito nieskończoność 正无穷大 负无穷大"
INFINITE = frozenset(sign + word for sign in ("", "+", "-") for word in _INFINITE_WORDS.split())
# `1.#IND`, `-1.#J` (rounded), `1,#QNAN`: what older C libraries of Windows print
OF_WINDOWS = r"[+-]?\d[.,]#\w*"

_MINUS = "\u2212"  # what some cultures of .NET write
_SPACES = " \u00a0\u2009\u202f'\u2019"  # that separate thousands, with either decimal sign
_EXPONENT = r"(?:[eE][+-]?\d+)?"


def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    grouped = rf"[1-9]\d{{0,2}}(?P<by>[{thousands}{_SPACES}])\d{{3}}(?:(?P=by)\d{{3}})*"
    indian = rf"[1-9]\d?(?:{thousands}\d{{2}})+{thousands}\d{{3}}"
    whole = rf"(?:{grouped}|{indian}|\d+)"
    return re.compile(rf"[+-]?(?:{whole}(?:{decimal}\d*)?|{decimal}\d+){_EXPONENT}", re.ASCII)


class Decimal(Enum):
    """The sign before the decimals."""

    POINT = "."
    COMMA = ","


_PATTERNS = {
    Decimal.POINT: _pattern(re.escape("."), ","),
    Decimal.COMMA: _pattern(",", re.escape(".")),
}


class Ambiguous(ValueError):
    """A cell that is one number with a decimal point and another one with a decimal comma."""


def is_missing(cell: str) -> bool:
    text = cell.strip().lower()
    return text in MISSING or text in INFINITE or re.fullmatch(OF_WINDOWS, text) is not None


def parse_number(cell: str) -> float | None:
    """The number in a cell, None for a missing one; ValueError, with the cell, for other text."""
    if is_missing(cell):
        return None
    text, factor = _without_percent(cell)
    if "_" in text:  # Python's digit separator, nobody else's
        raise ValueError(repr(cell))
    try:
        return finite(float(text) * factor)
    except ValueError:
        raise ValueError(repr(cell)) from None


def parse_numbers(
    cells: Sequence[str], *, decimal: Decimal | None = None, habit: Decimal | None = None
) -> list[float | None]:
    """A column of any culture, whose decimal sign its cells tell.

    Args:
        decimal: the sign to believe in where the cells can be read either way.
        habit: the sign to believe in where there is no such word, and it is the one in the cells.

    Raises:
        Ambiguous: they can, and there is none such.
        ValueError: a cell is no number.
    """
    signs = decimal_signs(cells)
    if not signs:
        raise ValueError(repr(_first_fault(cells)))
    readings = {sign: [_number(cell, sign) for cell in cells] for sign in signs}
    if len(signs) == 1:
        return readings[signs[0]]
    if readings[Decimal.POINT] == readings[Decimal.COMMA]:
        return readings[Decimal.POINT]
    triples = zip(cells, readings[Decimal.POINT], readings[Decimal.COMMA], strict=True)
    unsure = [cell for cell, one, other in triples if one != other]
    if decimal is None and (habit is None or not all(habit.value in cell for cell in unsure)):
        raise Ambiguous(repr(unsure[0]))
    return readings[decimal or habit or Decimal.POINT]


def decimal_signs(cells: Iterable[str]) -> list[Decimal]:
    """With which of the signs every cell is a number, or missing."""
    there = [_without_percent(cell)[0] for cell in cells if not is_missing(cell)]
    return [
        sign
        for sign, pattern in _PATTERNS.items()
        if all(pattern.fullmatch(text) for text in there)
    ]


def finite(number: float | None) -> float | None:
    """`number`, or None for NaN and infinity, which neither JSON nor a plot can hold."""
    return number if number is not None and math.isfinite(number) else None


def spellings(words: Iterable[str]) -> list[str]:
    """Words as programs capitalise them, for readers that compare letter by letter."""
    mixed = ("NaN", "-NaN", "+NaN", "NaN()", "NaT")
    return sorted({*mixed, *(spelt for one in words for spelt in (one, one.upper(), one.title()))})


def _number(cell: str, sign: Decimal) -> float | None:
    if is_missing(cell):
        return None
    text, factor = _without_percent(cell)
    other = next(one for one in Decimal if one is not sign).value
    plain = text.translate(dict.fromkeys(map(ord, _SPACES + other)))
    return finite(float(plain.replace(sign.value, ".")) * factor)


def _without_percent(cell: str) -> tuple[str, float]:
    text = cell.strip().replace(_MINUS, "-")
    if "%" not in text:
        return text, 1
    return text.removeprefix("%").removesuffix("%").strip(), 0.01


def _first_fault(cells: Sequence[str]) -> str:
    """A cell that is no number with either sign, or else two that need different ones."""
    for cell in cells:
        if not decimal_signs([cell]):
            return cell
    first = {tuple(decimal_signs([cell])): cell for cell in cells}
    return " and ".join(cell for signs, cell in first.items() if len(signs) == 1)
