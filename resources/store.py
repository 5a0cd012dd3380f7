"""The MongoDB store as a Dagster resource."""

import atexit
import os
import threading
from pathlib import Path

import dagster as dg
from pydantic import Field

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


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Connects to MongoDB.

    The URI is no configuration of the resource: it may hold a password, and Dagster keeps and shows
    what a resource is configured with.
    """

    home: str = Field(description="The folder for the embedded server's data.")

    def create_store(self, named_uri: str | None) -> Store:
        """The store, with its indexes made once per process.

        Args:
            named_uri: `mongodb.uri` of instruments.yaml; without one the embedded server is used.

        Raises:
            StoreUnavailable, ConfigError
        """
        with _lock:
            uri = named_uri or self._supervised_uri() or self._embedded_uri()
            if uri not in _prepared:
                store = connect(uri)
                store.prepare()
                _prepared[uri] = store
            return _prepared[uri]

    def _supervised_uri(self) -> str | None:
        """That of the `kraken up` of this home; another one's is exported in vain."""
        if os.environ.get(HOME_VARIABLE) != self.home:
            return None
        port = os.environ.get(SUPERVISED_PORT_VARIABLE)
        return None if port is None else uri_of(self._folder, int(port))

    def _embedded_uri(self) -> str:
        server = ensure_running(self._folder)
        if server.process is not None:
            # Waited for, so that the next command finds either a server or none.
            atexit.register(server.stop)
        return server.uri

    @property
    def _folder(self) -> Path:
        return Path(self.home) / "mongodb"
