"""Opens MongoDB: the configured one, that of this home's `kraken up`, or one of our own."""

import atexit
import os
import threading
from pathlib import Path

from kraken_dagster.store.connection import Store, connect
from kraken_dagster.store.embedded.server import ensure_running, uri_of

# `kraken up` tells what it starts where its embedded server is. That server is its own to start
# again: one that a run or a sensor started would end with that run's process. Only the port: the
# password is read where it stands.
SUPERVISED_PORT_VARIABLE = "KRAKEN_SUPERVISED_MONGODB_PORT"
# In the environment of everything that `kraken up` starts, but for jobs, which outlive it.
HOME_VARIABLE = "KRAKEN_UP_HOME"

_lock = threading.Lock()
_prepared: dict[str, Store] = {}


def open_store(home: Path, named_uri: str | None) -> Store:
    """The store, with its indexes made once per process.

    Args:
        home: Kraken's, for the embedded server's data.
        named_uri: `mongodb.uri` of instruments.yaml; without one the embedded server is used.

    Raises:
        StoreUnavailable, ConfigError
    """
    with _lock:
        uri = named_uri or _supervised_uri(home) or _embedded_uri(home)
        if uri not in _prepared:
            store = connect(uri)
            store.prepare()
            _prepared[uri] = store
        return _prepared[uri]


def _supervised_uri(home: Path) -> str | None:
    """That of the `kraken up` of this home; another one's is exported in vain."""
    if os.environ.get(HOME_VARIABLE) != str(home):
        return None
    port = os.environ.get(SUPERVISED_PORT_VARIABLE)
    return None if port is None else uri_of(_folder(home), int(port))


def _embedded_uri(home: Path) -> str:
    server = ensure_running(_folder(home))
    if server.process is not None:
        # Waited for, so that the next command finds either a server or none.
        atexit.register(server.stop)
    return server.uri


def _folder(home: Path) -> Path:
    return home / "mongodb"
