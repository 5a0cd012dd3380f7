"""Pages that every open browser asks for at once when something has changed: made once for all."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

_KEPT = 16


class Once:
    """The last answers, by what they depend on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Who comes while it is made waits for it."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = make()
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return found
