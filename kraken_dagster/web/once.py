"""Answers that all open browsers ask for when something has changed: made once for all."""

import gzip
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

_KEPT = 32
_MOST_BYTES = 1_000_000  # of an answer that is kept
_FEWEST_PACKED = 1000
_LEVEL = 4  # of gzip, as for all other answers


@dataclass
class _Made:
    """An answer, and its content packed where that is worth it."""

    status: int
    headers: dict[str, str]
    plain: bytes
    packed: bytes | None

    def response(self, request: Request) -> Response:
        """A new one each time, because its headers are added to on its way out."""
        if self.packed is None or "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(self.plain, self.status, self.headers)
        packed = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(self.packed, self.status, {**self.headers, **packed})


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: _Made | None = None


class Once:
    """The last answers, by what they depend on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Entry] = OrderedDict()

    def answer(self, request: Request, key: Hashable, make: Callable[[], Response]) -> Response:
        """Who comes while it is made waits for it."""
        entry = self._entry(key)
        with entry.lock:
            if entry.made is None:
                entry.made = _made(make())
                if len(entry.made.plain) > _MOST_BYTES:
                    self._forget(key)
        return entry.made.response(request)

    def _entry(self, key: Hashable) -> _Entry:
        with self._lock:
            entry = self._kept.setdefault(key, _Entry())
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return entry

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._kept.pop(key, None)


def _made(answer: Response) -> _Made:
    plain = bytes(answer.body)
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    packed = gzip.compress(plain, _LEVEL) if len(plain) >= _FEWEST_PACKED else None
    return _Made(answer.status_code, headers, plain, packed)
