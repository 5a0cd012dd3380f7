"""Dagster's proxy of a code server, which keeps what works.

Dagster's own starts a new child at each reload and ends the old one, whether or not the new one
could load the code; and it never notices that its child has died.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from kraken_dagster.orchestration.dagster_internals import (
    DagsterProxyApiServicer,
    DagsterUserCodeProcessError,
    DagsterUserCodeUnreachableError,
    LoadableTargetOrigin,
    SerializableErrorInfo,
    client_heartbeat_thread,
    dagster_api_pb2,
    sync_list_repositories_grpc,
)

_MODULE = "kraken_dagster.definitions"
# A child ends by itself when its proxy is gone for so long. Short of that a machine that is
# overloaded must not end it; and whoever kills the proxy leaves it behind for that time.
_CHILD_LIVES_ALONE_S = 300
# For ticks and launches that the old child has begun when a new one takes its place.
_OLD_CHILD_ENDS_AFTER_S = 20.0
_LOOK_EVERY_S = 2.0
_ASK_EVERY_S = 30.0
_HANGS_AFTER_S = 300.0
_LONGEST_PAUSE_S = 60.0
_LOG = logging.getLogger("kraken")


class KeepingProxy(DagsterProxyApiServicer):  # type: ignore[misc] - Dagster's name, loaded late
    """A failed reload leaves the child that works; a child that dies or hangs is replaced.

    Args:
        instance_ref: Dagster's instance, for the child.
        startup_timeout_s: how long a child may take to load the code.
        ended: set when the server is to end.
    """

    def __init__(
        self,
        instance_ref: Any,
        location_name: str,
        startup_timeout_s: int,
        ended: threading.Event,
    ) -> None:
        self._child: Any = None
        self._works = False
        self._problem: str | None = None
        self._server_id = str(uuid.uuid4())
        self._answered_at = self._ask_at = time.monotonic()
        super().__init__(
            loadable_target_origin=LoadableTargetOrigin(
                module_name=_MODULE, working_directory=os.getcwd()
            ),
            fixed_server_id=None,
            container_image=None,
            container_context=None,
            inject_env_vars_from_instance=True,
            location_name=location_name,
            log_level="critical",  # why a load has failed is told by whoever asked for it
            startup_timeout=startup_timeout_s,
            server_termination_event=ended,
            instance_ref=instance_ref,
            logger=_LOG,
            server_heartbeat=False,
            server_heartbeat_timeout=_CHILD_LIVES_ALONE_S,
            heartbeat_ttl=_CHILD_LIVES_ALONE_S,
            defs_state_info=None,
        )

    def ReloadCode(self, _request: Any, context: Any) -> Any:
        """Loads the code anew; FAILED_PRECONDITION with the reason if that can't be loaded."""
        with self._reload_lock:
            self._reload_location()
            problem = self._problem
        if problem is not None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        return dagster_api_pb2.ReloadCodeReply()

    def GetServerId(self, _request: Any, _context: Any) -> Any:
        """Another one after each reload; the daemon and Dagit ask every second."""
        return dagster_api_pb2.GetServerIdReply(server_id=self._server_id)

    def keep(self) -> None:
        """Looks after the child from now on."""
        threading.Thread(target=self._keep, name="kraken-keeps-child", daemon=True).start()

    def cleanup(self) -> None:
        """Tells the children to end once their runs have, and doesn't wait for it."""
        self._shutdown_once_executions_finish_event.set()
        self._server_termination_event.set()
        self._grpc_server_registry.shutdown_all_processes()

    def _reload_location(self) -> None:
        """Starts a child, and puts it in the place of the one before unless only that works."""
        child, self._problem = self._started()
        if child is not None and (self._problem is None or not self._has_child_that_works()):
            self._put_in_place(child)
            return
        if child is not None:
            child.shutdown_server()
        if self._client is None:  # for who asks what there is
            self._load_error = SerializableErrorInfo(self._problem, [], "DagsterUserCodeLoadError")

    def _started(self) -> tuple[Any, str | None]:
        """A new child, if it came to life, and why it has no definitions."""
        registry = self._grpc_server_registry
        try:
            registry.reload_grpc_endpoint(self._origin)
            child = registry.get_grpc_server_entry(self._origin).process
        except DagsterUserCodeProcessError as error:
            _LOG.error("The code server could not be started: %s", _last_cause(error))
            return None, _last_cause(error)
        try:
            sync_list_repositories_grpc(child.create_client())
        except DagsterUserCodeProcessError as error:
            return child, _last_cause(error)
        except DagsterUserCodeUnreachableError as error:
            return child, str(error)
        return child, None

    def _put_in_place(self, child: Any) -> None:
        old, old_beats = self._client, self._client_heartbeat_shutdown_event
        self._child, self._works = child, self._problem is None
        self._client, self._load_error = child.create_client(), None
        self._server_id, self._answered_at = str(uuid.uuid4()), time.monotonic()
        self._client_heartbeat_shutdown_event = threading.Event()
        _in_thread(client_heartbeat_thread, self._client, self._client_heartbeat_shutdown_event)
        if old is not None:
            _in_thread(_end_later, old, old_beats)

    def _has_child_that_works(self) -> bool:
        return self._works and self._child.server_process.poll() is None

    def _keep(self) -> None:
        pause_s = _LOOK_EVERY_S
        while not self._shutdown_once_executions_finish_event.wait(pause_s):
            if self._child_lives():
                pause_s = _LOOK_EVERY_S
                continue
            _LOG.warning("the process with the definitions has ended, or hangs: starting another")
            with self._reload_lock:
                self._works = False
                self._reload_location()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _child_lives(self) -> bool:
        if self._child is None or self._child.server_process.poll() is not None:
            return False
        if time.monotonic() >= self._ask_at:
            with suppress(DagsterUserCodeUnreachableError):
                self._client.ping("")
                self._answered_at = time.monotonic()
            self._ask_at = time.monotonic() + _ASK_EVERY_S
        return time.monotonic() - self._answered_at <= _HANGS_AFTER_S


def _in_thread(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _end_later(client: Any, beats: threading.Event) -> None:
    """It ends once its runs have."""
    time.sleep(_OLD_CHILD_ENDS_AFTER_S)
    with suppress(DagsterUserCodeUnreachableError):
        client.shutdown_server()
    beats.set()


def _last_cause(error: Any) -> str:
    """What went wrong, without the name of Kraken's own class, which says nothing more."""
    info = error.user_code_process_error_infos[0]
    while info.cause is not None:
        info = info.cause
    kind, _, text = info.message.strip().partition(": ")
    return text if kind.startswith("kraken_dagster.") else info.message.strip()
