"""The version of a program, as the program says it itself in what it prints.

A wrong version in a result is worse than none: each program is looked for by its own words, and
what other programs print beside it is not taken for it.
"""

import re

from kraken_dagster.model.settings import (
    SOFTWARE_TYPE_ALPHADIA,
    SOFTWARE_TYPE_CUSTOM,
    SOFTWARE_TYPE_DIANN,
    SOFTWARE_TYPE_MSQC,
    SOFTWARE_TYPE_SKYLINE,
)

_LONGEST = 64
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NUMBER = r"\d[\w.+-]*"
# Source: what the programs print. AlphaDIA `0:00:00.01 PROGRESS: version: 1.12.1`; DIA-NN `DIA-NN
# 1.8.1 (Data-Independent Acquisition by Neural Networks)`; Skyline `Skyline (64-bit) 23.1.0.268`;
# any other `program 1.2.3` in a line of its own.
_ALPHADIA = rf"\bPROGRESS: version: ({_NUMBER})"
_DIANN = rf"^[^\w\n]*DIA-NN ({_NUMBER})"
_SKYLINE = rf"^[^\w\n]*Skyline\w* (?:\(64-bit\) )?({_NUMBER})"
_PLAIN = rf"^[A-Za-z][\w-]* v?(\d+\.{_NUMBER})\s*$"
_PATTERNS = {
    SOFTWARE_TYPE_ALPHADIA: (_ALPHADIA,),
    SOFTWARE_TYPE_DIANN: (_DIANN,),
    SOFTWARE_TYPE_SKYLINE: (_SKYLINE,),
    SOFTWARE_TYPE_MSQC: (_PLAIN,),
    SOFTWARE_TYPE_CUSTOM: (_DIANN, _SKYLINE, _ALPHADIA, _PLAIN),
}


def software_version(software_type: str, log: str) -> str | None:
    """The version that a log tells; None if it tells none in the program's own words."""
    text = _COLOURS.sub("", log)
    for pattern in _PATTERNS.get(software_type, ()):
        found = re.search(pattern, text, re.MULTILINE)
        if found is not None:
            return found[1].rstrip(".")[:_LONGEST]
    return None
