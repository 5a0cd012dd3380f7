"""`kraken status --watch`: the counts of all files, refreshed, and how fast they change."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kraken_dagster.model.errors import StoreError
from kraken_dagster.model.raw_file import FINAL, Status
from kraken_dagster.store.connection import Store

_RATE_OVER_S = 60.0


@dataclass
class Rates:
    """How many files end in a minute, by instrument, over the last minute that was looked at."""

    _seen: deque[tuple[float, dict[str, int]]] = field(default_factory=deque)

    def add(self, at: float, ended: dict[str, int]) -> None:
        """`at` in seconds, of any clock that only goes forward."""
        self._seen.append((at, ended))
        while len(self._seen) > 2 and at - self._seen[1][0] >= _RATE_OVER_S:
            self._seen.popleft()

    def per_minute(self, instrument_id: str) -> float | None:
        """None until there were two looks."""
        (first, before), (last, now) = self._seen[0], self._seen[-1]
        if last <= first:
            return None
        return 60 * (now.get(instrument_id, 0) - before.get(instrument_id, 0)) / (last - first)


def ended_of(counts: dict[Status, int]) -> int:
    return sum(count for status, count in counts.items() if status in FINAL)


def watch(store: Store, instrument_ids: list[str], *, every_s: float) -> None:
    """Shows the counts until Ctrl-C, where there is no terminal one table after the other."""
    console, rates = Console(), Rates()
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        live = Live(console=console, auto_refresh=False)
        if console.is_terminal:
            stack.enter_context(live)
        for picture in pictures(store, instrument_ids, rates, clock=time.monotonic):
            if console.is_terminal:
                live.update(picture, refresh=True)
            else:
                console.print(picture)
            time.sleep(every_s)


def pictures(
    store: Store, instrument_ids: list[str], rates: Rates, *, clock: Callable[[], float]
) -> Iterator[Group]:
    """One table after the other, each as of the moment at which it is asked for."""
    while True:
        try:
            counts = {item: store.raw_files.count_by_status(item) for item in instrument_ids}
        except StoreError as error:
            yield Group(Text(str(error), style="red"))
            continue
        rates.add(clock(), {item: ended_of(found) for item, found in counts.items()})
        yield Group(_table(counts, rates), Text("Ctrl-C ends this", style="dim"))


def _table(counts: dict[str, dict[Status, int]], rates: Rates) -> Table:
    shown = [status for status in Status if any(status in found for found in counts.values())]
    table = Table("instrument", *shown, "files a minute", box=None, pad_edge=False)
    for instrument_id, found in counts.items():
        rate = rates.per_minute(instrument_id)
        cells = [str(found.get(status, "-")) for status in shown]
        table.add_row(instrument_id, *cells, "-" if rate is None else f"{rate:.1f}")
    return table
