"""Work that takes long, done one after the other while people go on, and what became of it."""

import logging
import os
import secrets
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.web.feed import Feed

MOST_WAITING = 20
_MOST_SAID = 100
_log = logging.getLogger("kraken.page")


class Errands:
    """`said`: what was last said of a file, by its id."""

    def __init__(self, feed: Feed) -> None:
        self.said: OrderedDict[str, str] = OrderedDict()
        self._feed = feed
        self._lock = threading.Lock()
        self._waiting = 0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="errand")

    def begin(self, file_id: str, what: str, do: Callable[[], str]) -> bool:
        """False if too many wait already.

        Args:
            what: that is done, as "its backup is read again".
            do: does it, and says what was found.
        """
        with self._lock:
            if self._waiting >= MOST_WAITING:
                return False
            self._waiting += 1
        self._say(file_id, f"Soon {what}.")
        self._pool.submit(self._run, file_id, what, do)
        return True

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, file_id: str, what: str, do: Callable[[], str]) -> None:
        self._say(file_id, f"Now {what}.")
        try:
            self._say(file_id, do())
        except KrakenError as error:
            self._say(file_id, f"Failed, while {what}: {error}")
        except Exception as error:  # noqa: BLE001 - told to who has asked
            _log.exception("an errand has failed")
            self._say(file_id, f"Failed, while {what}: {type(error).__name__}")
        finally:
            with self._lock:
                self._waiting -= 1

    def _say(self, file_id: str, text: str) -> None:
        with self._lock:
            self.said[file_id] = text
            self.said.move_to_end(file_id)
            self._feed.stamp += 1  # open pages show it
            while len(self.said) > _MOST_SAID:
                self.said.popitem(last=False)


def run_id_of(by: str) -> str:
    """What stands in leases and histories in place of a run of Dagster."""
    process = f"process {os.getpid()}, {secrets.token_hex(4)}"
    return f"kraken web for {by} on {socket.gethostname()}, {process}"
