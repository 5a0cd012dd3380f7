"""The version of a program, as the program says it itself in what it prints."""

import re

_LONGEST = 64
_LINES = 300  # programs say it first
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NUMBER = r"\d[\w.+-]*"
# Source: what the programs print. AlphaDIA `... PROGRESS: version: 1.12.1`; DIA-NN `DIA-NN 1.8.1
# (Data-Independent Acquisition by Neural Networks)`; Skyline `Skyline (64-bit) 23.1.0.268 (...)`;
# any other `program 1.2.3` in a line of its own, or `version 1.2.3`.
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bversion:? v?({_NUMBER})",
        rf"\bDIA-NN ({_NUMBER})",
        rf"\bSkyline\w* (?:\(64-bit\) )?({_NUMBER})",
        rf"^\s*[A-Za-z][\w-]* v?(\d+\.{_NUMBER})\s*$",
    )
)


def software_version(log: str) -> str | None:
    """The first version that a log tells; None if it tells none."""
    for line in _COLOURS.sub("", log).splitlines()[:_LINES]:
        for pattern in _PATTERNS:
            if (found := pattern.search(line)) is not None:
                return found[1].rstrip(".")[:_LONGEST]
    return None
