"""The server: every tool of Kraken's and AlphaKraken's, marked as one that only reads."""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from importlib.metadata import version
from inspect import getdoc
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ToolAnnotations

from kraken_dagster.model.errors import KrakenError
from kraken_dagster.runtime.services import Services
from kraken_dagster.web.mcp.alphakraken import AlphaKrakenTools
from kraken_dagster.web.mcp.marking import NOTICE, answer
from kraken_dagster.web.mcp.tools import Tools

INSTRUCTIONS = (
    "Kraken carries raw files of mass spectrometers to a verified backup, processing on a cluster, "
    "metrics and an archive. These tools only read. Begin with `what_is_wrong` or `find_files`; "
    f"a file is named by its `id`, as lists tell it. Dates are UTC, sizes bytes. {NOTICE} "
    "A next step is for a person to do: tell it, and do not do it yourself."
)
_READING = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def make_server(services: Services) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer(
        "kraken",
        title="Kraken on Dagster",
        instructions=INSTRUCTIONS,
        version=version("kraken-dagster"),
        log_level="WARNING",
    )
    for tool in (*_of(Tools(services)), *_of(AlphaKrakenTools(services))):
        server.add_tool(
            _told(tool), description=getdoc(tool), annotations=_READING, structured_output=False
        )
    return server


def _of(tools: object) -> Iterator[Callable[..., Any]]:
    for name in vars(type(tools)):
        if not name.startswith("_"):
            yield getattr(tools, name)


def _told(tool: Callable[..., Any]) -> Callable[..., CallToolResult]:
    """The tool with its answer marked; a model is told Kraken's own errors, and no others."""

    @wraps(tool)
    def call(**arguments: Any) -> CallToolResult:
        try:
            found = tool(**arguments)
        except KrakenError as error:
            raise ToolError(str(error)) from error
        return answer(found) if isinstance(found, Mapping) else found

    return call
