"""Text for people: terminals, logs, pages. Names from disks and databases can do no harm in it.

A name may hold escape sequences that retitle or clear a terminal, line breaks that forge a line of
a log, marks that reverse the order of what follows, and characters that nobody sees. Each is shown
as Python writes it (`\\x1b`, `\\n`, `\\u202e`). Data (JSON, documents, manifests) stays as it is.
"""

import re

# Besides what `str.isprintable` refuses: fillers, joiners and variation selectors, which have no
# width (Unicode's Default_Ignorable_Code_Point).
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2065, 0x2065),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)
_BACKTICKS = re.compile("`+")


def printable(value: object) -> str:
    """`value` as text in one line, with an escape for each character that can't be seen as such.

    What is printable already stays the same, so that it may be applied twice.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isprintable() and char not in _INVISIBLE else ascii(char)[1:-1]
        for char in text
    )


def printable_lines(text: str) -> str:
    """The same for text of several lines, as a log or a traceback; tabs stay, too."""
    lines = re.split(r"\r?\n", text)
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def code_block(text: str) -> str:
    """Text of several lines as Markdown that shows it as it is.

    The fence is longer than any in the text, which so can't end it.
    """
    shown = printable_lines(text)
    longest = max(map(len, _BACKTICKS.findall(shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{shown}\n{fence}"
