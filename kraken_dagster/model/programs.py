"""The programs that Kraken can run on a raw file: the registry of `software_type`.

A new program is an entry here, a module in `metrics/` that reads its results, and a line for it
in `metrics/registry.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# The version in what a program prints. Source: AlphaDIA `0:00:00.01 PROGRESS: version: 1.12.1`;
# DIA-NN `DIA-NN 1.8.1 (Data-Independent Acquisition by Neural Networks)`; Skyline `Skyline (64-bit)
# 23.1.0.268`; any other `program 1.2.3` in a line of its own.
_NUMBER = r"\d[\w.+-]*"
_ALPHADIA_VERSION = rf"\bPROGRESS: version: ({_NUMBER})"
_DIANN_VERSION = rf"^[^\w\n]*DIA-NN ({_NUMBER})"
_SKYLINE_VERSION = rf"^[^\w\n]*Skyline\w* (?:\(64-bit\) )?({_NUMBER})"
_PLAIN_VERSION = rf"^[A-Za-z][\w-]* v?(\d+\.{_NUMBER})\s*$"


class Start(StrEnum):
    """How a program is started."""

    CONDA = "conda"  # `alphadia` in the conda environment that `software` names
    PARAMETERS = "parameters"  # a program with the words of `config_params`
    RAW_FILE = "raw_file"  # a program with the raw file and the output folder


@dataclass(frozen=True)
class Program:
    """One `software_type`.

    Args:
        versions: patterns that find its version, the first group, in what it prints.
        needs_one_of: fields of the settings of which at least one names a file.
        writes_log: whether it writes `log.txt` into its output folder itself.
        has_error_codes: whether it leaves events that tell why it failed.
    """

    name: str
    start: Start
    versions: tuple[str, ...]
    needs_one_of: tuple[str, ...] = ()
    writes_log: bool = False
    has_error_codes: bool = False


ALPHADIA = Program(
    "alphadia",
    Start.CONDA,
    (_ALPHADIA_VERSION,),
    needs_one_of=("fasta_file_name", "speclib_file_name"),
    writes_log=True,
    has_error_codes=True,
)
CUSTOM = Program(
    "custom",
    Start.PARAMETERS,
    (_DIANN_VERSION, _SKYLINE_VERSION, _ALPHADIA_VERSION, _PLAIN_VERSION),
)
DIANN = Program("diann", Start.PARAMETERS, (_DIANN_VERSION,))
MSQC = Program("msqc", Start.RAW_FILE, (_PLAIN_VERSION,))
SKYLINE = Program("skyline", Start.PARAMETERS, (_SKYLINE_VERSION,))

PROGRAMS: Mapping[str, Program] = {
    program.name: program for program in (ALPHADIA, CUSTOM, DIANN, MSQC, SKYLINE)
}
