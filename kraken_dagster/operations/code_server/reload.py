"""The code server loads the definitions anew: on command, or as instruments.yaml has changed."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import ConfigError, KrakenError
from kraken_dagster.monitoring.loaded import CODE_SERVER, in_words, loaded_now
from kraken_dagster.operations.child import say
from kraken_dagster.operations.code_server.place import socket_of
from kraken_dagster.operations.presence import runs_here
from kraken_dagster.orchestration.dagster_internals import (
    DagsterGrpcClient,
    DagsterUserCodeUnreachableError,
)
from kraken_dagster.store.instances import Loaded, OnDisk

_PATIENCE_S = 900  # the code server's own is `local_startup_timeout`


def reload(config: KrakenConfig) -> str:
    """Has the code server of this home's `kraken up` load everything anew; in words what it knows.

    Raises:
        ConfigError: no `kraken up` runs, it has no code server, or this can't load the definitions
            and goes on with those that it has.
        KrakenError: the code server does not answer.
    """
    if runs_here(config.home) is None:
        raise ConfigError(
            "No `kraken up` runs for this home",
            file=config.home,
            next_step="start it with `kraken up`, which loads everything as it is now.",
        )
    socket = socket_of(config.home)
    if socket is None:
        raise ConfigError(
            "This `kraken up` has no code server: workspace.yaml names code locations of its own",
            next_step="reload them in Dagit (Deployment, Reload).",
        )
    load_anew(socket)
    known = [item for item in loaded_now(config.home, []) if item.process == CODE_SERVER]
    names = [name for item in known for name in item.instruments]
    written = in_words(known[0].file_time if known else None)
    return f"instruments.yaml of {written} is loaded: {', '.join(names)}; runs at work go on"


def load_anew(socket: Path) -> None:
    """
    Raises:
        ConfigError: the definitions can't be loaded; the code server goes on with those it has.
        KrakenError: it does not answer.
    """
    try:
        DagsterGrpcClient(socket=str(socket)).reload_code(timeout=_PATIENCE_S)
    except DagsterUserCodeUnreachableError as error:
        cause = error.__cause__
        if isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.FAILED_PRECONDITION:
            raise ConfigError(
                "The code can't be loaded anew, and what was loaded before goes on",
                found=cause.details(),
                next_step="correct it; a change of instruments.yaml is taken up by itself, "
                "anything else by `kraken reload`.",
            ) from error
        raise KrakenError(
            "The code server of `kraken up` does not answer",
            file=socket,
            found=error,
            next_step="wait for a minute, as `kraken up` starts it anew if it has ended; then "
            "`kraken reload`.",
        ) from error


@dataclass
class Follower:
    """Has the code server take up instruments.yaml when it is not what is loaded."""

    socket: Path
    _failed: str | None = None
    _thread: threading.Thread = field(default_factory=threading.Thread)

    def look(self, loaded: list[Loaded], disk: OnDisk) -> None:
        """Begins a reload, where one is due, and waits for nothing.

        A file that is broken is left alone, and one with which the definitions can't be loaded is
        tried once.
        """
        known = next((item for item in loaded if item.process == CODE_SERVER), None)
        if known is None or disk.problem is not None or self._thread.is_alive():
            return
        if disk.digest == self._failed or (disk.digest == known.digest and not known.stands):
            return
        self._thread = threading.Thread(target=self._reload, args=[disk.digest], daemon=True)
        self._thread.start()

    def _reload(self, digest: str) -> None:
        self._failed = None
        try:
            load_anew(self.socket)
        except ConfigError as error:
            self._failed = digest
            say(str(error))
        except KrakenError as error:
            say(str(error))
        else:
            say("instruments.yaml has changed, and is loaded anew")
