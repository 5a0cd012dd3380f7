"""Regular expressions that people write, and that names of files are searched with."""

import re

_MOST_REPEATS = 3


def why_not_pattern(pattern: str) -> str | None:
    """Why a regular expression is not taken for names of files; None if it is.

    A name has up to 255 characters, and the search in one can't be interrupted. So there are few
    repeats without a bound, and none within another: the time stays within milliseconds.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        return f"expected a regular expression, found {pattern!r}: {error}"
    if pattern and compiled.search(""):
        return f"expected what not every name matches (see skip_processing), found {pattern!r}"
    if _repeats(pattern) > _MOST_REPEATS or _is_nested(pattern):
        return (
            f"expected at most {_MOST_REPEATS} of * + {{n,}}, none of them in a group that is "
            f"repeated, found {pattern!r}"
        )
    return None


def _without_literals(pattern: str) -> str:
    """A pattern without what is escaped, and without sets of characters."""
    return re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern, flags=re.DOTALL)


def _repeats(pattern: str) -> int:
    return len(re.findall(r"[*+]|\{\d*,\d*\}", _without_literals(pattern)))


def _is_nested(pattern: str) -> bool:
    """Whether a group is repeated that holds a choice, or a repeat of its own."""
    plain = _without_literals(pattern)
    inner = re.compile(r"\((?:\?[a-zA-Z:=!<>-]*)?([^()]*)\)([*+{]?)")
    while found := inner.search(plain):
        varies = re.search(r"[*+?|{]", found[1]) is not None
        if varies and found[2]:
            return True
        plain = plain[: found.start()] + ("x?" if varies else "x") + found[2] + plain[found.end() :]
    return False
