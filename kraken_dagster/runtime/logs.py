"""What reaches any log of this process is printable, whoever writes it."""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from kraken_dagster.model.printable import printable, printable_lines

_PACKAGE = str(Path(__file__).resolve().parents[1])


def quote_log_records() -> None:
    """Quotes every record of Python's `logging` where it is made, before any handler has it.

    Dagster's logs of runs and sensors are such records, too. A message of Kraken's own has one
    line, so that a line break in a name forges no second one; those of libraries keep theirs.
    """
    previous = logging.getLogRecordFactory()
    if not isinstance(previous, _Quoting):
        logging.setLogRecordFactory(_Quoting(previous))


class _Quoting:
    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._previous(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # `logging` itself tells of these
            return record
        is_own = record.pathname.startswith(_PACKAGE)
        quoted = printable(message) if is_own else printable_lines(message)
        if quoted != message:  # else as it is: some formatters look at the arguments
            record.msg, record.args = quoted, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = printable_lines("".join(traceback.format_exception(*record.exc_info)))
        return record


def print_uncaught_quoted() -> None:
    """Has Python print the traceback of a fault in Kraken quoted, too."""

    def show(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        print(printable_lines(text.rstrip("\n")), file=sys.stderr)

    sys.excepthook = show
