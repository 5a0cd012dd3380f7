"""All raw files as columns in memory: numbers as float64, texts as codes, NaN or -1 for nothing.

A row never moves while its table lives; rows are appended, and their cells replaced. What is
removed makes a new table. Whoever reads or writes one holds its `lock`.
"""

import secrets
import threading
from collections import OrderedDict
from datetime import datetime

import numpy as np
import numpy.typing as npt

from kraken_dagster.web.table.cells import Cell, Cells, number_text, one_line, time_text

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_FIRST_ROOM = 1024
MOST_COLUMNS = 2_000  # of a database that holds whatever programs of the site have written
_MASKS_KEPT = 64


class Column:
    """One column. Which of its two arrays are there says what it has held so far."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.numbers: Numbers | None = None
        self.codes: Codes | None = None
        self.words: list[str] = []
        self.is_time = False
        self._code_of: dict[str, int] = {}

    def put(self, row: int, value: Cell) -> None:
        number, word = np.nan, None
        if isinstance(value, datetime):
            self.is_time, number = True, value.timestamp()
        elif isinstance(value, bool):
            word = str(value)
        elif isinstance(value, int | float):
            number = float(value)
        elif value is not None:
            word = value
        if not np.isnan(number) and self.numbers is None:
            self.numbers = np.full(self._room, np.nan)
        if word is not None and self.codes is None:
            self.codes = np.full(self._room, -1, dtype=np.int32)
        if self.numbers is not None:
            self.numbers[row] = number
        if self.codes is not None:
            self.codes[row] = -1 if word is None else self._code(word)

    def grow(self, room: int) -> None:
        more = room - self._room
        if self.numbers is not None:
            self.numbers = np.concatenate([self.numbers, np.full(more, np.nan)])
        if self.codes is not None:
            self.codes = np.concatenate([self.codes, np.full(more, -1, dtype=np.int32)])
        self._room = room

    def text(self, row: int) -> str:
        if self.codes is not None and self.codes[row] >= 0:
            return self.words[self.codes[row]]
        if self.numbers is None:
            return ""
        value = float(self.numbers[row])
        return time_text(value) if self.is_time else number_text(value)

    def _code(self, word: str) -> int:
        code = self._code_of.get(word)
        if code is None:
            code = self._code_of[word] = len(self.words)
            self.words.append(word)
        return code


class Table:
    """Rows by id. `version` counts changes; `changed[row]` is the version of a row's last one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.token = secrets.token_hex(4)  # tells versions of two tables apart
        self.version = 0
        self.ids: list[str] = []
        self.columns: dict[str, Column] = {}
        self.left_out: set[str] = set()  # names of columns for which there was no room
        # What a term without a column is looked for in: the cells of a row, a line for each.
        self.texts: list[str] = []
        self.texts_lower: list[str] = []
        self.metrics: list[str] = []
        self.masks: OrderedDict[object, tuple[int, Mask]] = OrderedDict()
        self._room = _FIRST_ROOM
        self._changed = np.zeros(self._room, dtype=np.int64)
        self._row_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def changed(self) -> Rows:
        return self._changed[: len(self)]

    def row(self, file_id: str) -> int | None:
        return self._row_of.get(file_id)

    def put(self, file_id: str, cells: Cells) -> None:
        """Adds a row, or replaces all of its cells."""
        row = self._row_of.get(file_id)
        if row is None:
            row = self._append(file_id)
        for name in cells.keys() - self.columns.keys():
            if len(self.columns) >= MOST_COLUMNS:
                self.left_out.add(name)
            else:
                self.columns[name] = Column(self._room)
        for name, column in self.columns.items():
            column.put(row, cells.get(name))
        self._note(row, cells)
        self.version += 1
        self._changed[row] = self.version

    def numbers(self, name: str) -> Numbers:
        """A column's numbers; NaN where there is none."""
        column = self.columns.get(name)
        if column is None or column.numbers is None:
            return np.full(len(self), np.nan)
        return column.numbers[: len(self)]

    def codes(self, name: str) -> Codes:
        """A column's texts, as places in its `words`; -1 where there is none."""
        column = self.columns.get(name)
        if column is None or column.codes is None:
            return np.full(len(self), -1, dtype=np.int32)
        return column.codes[: len(self)]

    def text(self, name: str, row: int) -> str:
        column = self.columns.get(name)
        return "" if column is None else column.text(row)

    def is_word(self, name: str, word: str) -> Mask:
        """Where a column holds just this text."""
        column = self.columns.get(name)
        if column is None or word not in column.words:
            return np.zeros(len(self), dtype=bool)
        return np.asarray(self.codes(name) == column.words.index(word))

    def remember(self, key: object, mask: Mask) -> None:
        self.masks[key] = (self.version, mask)
        self.masks.move_to_end(key)
        while len(self.masks) > _MASKS_KEPT:
            self.masks.popitem(last=False)

    def _append(self, file_id: str) -> int:
        row = len(self.ids)
        if row == self._room:
            self._room *= 2
            self._changed = np.concatenate([self._changed, np.zeros(row, dtype=np.int64)])
            for column in self.columns.values():
                column.grow(self._room)
        self.ids.append(file_id)
        self._row_of[file_id] = row
        for lines in (self.texts, self.texts_lower, self.metrics):
            lines.append("")
        return row

    def _note(self, row: int, cells: Cells) -> None:
        texts, metrics = [one_line(self.ids[row])], []
        for value in cells.values():
            if isinstance(value, str | bool):
                if value != texts[0]:
                    texts.append(one_line(str(value)))
            elif isinstance(value, datetime):
                metrics.append(time_text(value.timestamp()))
            elif value is not None and value == value:  # NaN is nothing  # noqa: PLR0124
                metrics.append(number_text(value))
        self.texts[row] = "\n".join(texts)
        self.texts_lower[row] = self.texts[row].lower()
        self.metrics[row] = "\n".join(metrics)
