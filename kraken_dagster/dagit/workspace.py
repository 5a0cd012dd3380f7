"""Dagit's view of the code locations, which says why the code server has refused to load anew."""

import re
from typing import Any

from kraken_dagster.orchestration.dagster_internals import (
    CodeLocationEntry,
    SerializableErrorInfo,
    WorkspaceProcessContext,
    replace,
)

# As the client of gRPC shows an error; Dagster keeps nothing else of it.
_REFUSED = re.compile(
    r"StatusCode\.FAILED_PRECONDITION\s+details = \"(.*)\"\s+debug_error_string", re.DOTALL
)


class Workspace(WorkspaceProcessContext):
    """Dagster's, with Kraken's words in place of "Could not reach user code server"."""

    def _load_location(self, origin: Any, reload: bool) -> CodeLocationEntry:
        entry = super()._load_location(origin, reload)
        cause = None if entry.load_error is None else entry.load_error.cause
        found = None if cause is None else _REFUSED.search(cause.message)
        if found is None:
            return entry
        # Of the same class: after some seconds Dagster asks for what goes on, and shows that again.
        kind = entry.load_error.cls_name
        told = f"{found[1]}\nWhat was loaded before goes on, and is shown again in some seconds."
        return replace(entry, load_error=SerializableErrorInfo(told, [], kind))
