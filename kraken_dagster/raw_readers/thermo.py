"""Reads Thermo raw files, without Thermo's libraries: index, events and parameters of the scans,
and what the header says. Spectra are not looked at.
"""

from pathlib import Path

from kraken_dagster.raw_readers.byte_file import ByteFile, opened
from kraken_dagster.raw_readers.contents import RawContents, Scans
from kraken_dagster.raw_readers.thermo_layout import (
    PROVEN,
    Header,
    RunHeader,
    read_header,
    read_identity,
    read_run_header,
)
from kraken_dagster.raw_readers.thermo_scans import (
    BEHIND_PARAMETERS,
    Index,
    Parameters,
    read_events,
    read_index,
    read_parameters,
)

NAME = "thermo"


def read(path: Path) -> RawContents:
    """What a raw file says of its scans.

    Raises:
        UnsupportedRawFile: a version whose layout is not known.
        FileFormatError: no such file, cut off before the end of its index and events, or a number
            in them can't be: then there is no metric rather than a wrong one.
    """
    with opened(path, "a Thermo raw file") as file:
        header = read_header(file)
        run = read_run_header(file, header)
        index = read_index(file, run, header.layout, header.version)
        ms_level, precursor_mz = read_events(file, run, header.layout)
        parameters = read_parameters(file, run)
        facts = header.facts | read_identity(file, run, header.layout)
        complete, incomplete = _completeness(file, header, run, index, parameters)
    scans = Scans(
        ms_level=ms_level,
        rt_min=index.rt_min,
        tic=index.tic,
        base_peak=index.base_peak,
        injection_ms=parameters.injection_ms,
        low_mz=index.low_mz,
        high_mz=index.high_mz,
        precursor_mz=precursor_mz,
    )
    return RawContents(
        reader=NAME,
        format_version=str(header.version),
        scans=scans,
        facts=facts | {"format_is_proven": int(header.version in PROVEN)},
        complete=complete,
        incomplete=incomplete,
    )


def _completeness(
    file: ByteFile, header: Header, run: RunHeader, index: Index, parameters: Parameters
) -> tuple[bool | None, str]:
    """A file ends with the parameters of its last scan. What other controllers write may stand
    behind them: then a file that is longer is not known to be complete.
    """
    data_end = run.data_at + index.data_end
    if data_end > file.size:
        return False, f"A scan's data end at byte {data_end}, the file at byte {file.size}."
    if parameters.record_bytes is None:
        return None, "The header of the scan parameters was not found."
    expected = run.parameters_at + parameters.record_bytes * run.scans + BEHIND_PARAMETERS
    if file.size == expected:
        return True, ""
    if file.size > expected and header.controllers > 1:
        return None, f"Other controllers' data stand behind byte {expected}."
    return False, f"Expected {expected} bytes, found {file.size}."
