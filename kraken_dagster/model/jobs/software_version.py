"""The version of a program, as the program says it itself in what it prints.

A wrong version in a result is worse than none: each program is looked for by its own words, and
what other programs print beside it is not taken for it.
"""

import re

from kraken_dagster.model.programs import PROGRAMS

_LONGEST = 64
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def software_version(software_type: str, log: str) -> str | None:
    """The version that a log tells; None if it tells none in the program's own words."""
    text = _COLOURS.sub("", log)
    program = PROGRAMS.get(software_type)
    for pattern in program.versions if program else ():
        found = re.search(pattern, text, re.MULTILINE)
        if found is not None:
            return found[1].rstrip(".")[:_LONGEST]
    return None
