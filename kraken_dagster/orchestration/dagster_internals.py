"""What Kraken uses of Dagster beside its public API: all of it, with the reason for each.

Names are imported when they are first asked for: a run doesn't load what only the web server needs.
When a version of Dagster moves one, the tests fail in the words of this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Internal:
    """One private name.

    Args:
        module: where Dagster 1.13 has it.
        why: what Kraken needs it for.
        public: the public API that would take its place.
    """

    module: str
    why: str
    public: str


_EVENTS = "events are written in one transaction, 20 times faster than one by one"
_RUNLESS = "`DagsterInstance.report_runless_asset_event`, once it takes many events"
_BACKFILL = "a catch-up launches backfills of what is due from within a run"
_WORKSPACE = "Dagit is served twice over one workspace, behind Kraken's guard"
_SERVER = "one code server, which keeps what works when a reload fails"
_PROXY = "`dagster code-server start`, once a failed reload leaves the code that works"
_SWITCHES = "whether a sensor or schedule is switched on, without loading the definitions"

INTERNALS: Mapping[str, Internal] = {
    "AssetMaterializationPlannedData": Internal("dagster._core.events", _EVENTS, _RUNLESS),
    "AssetObservationData": Internal("dagster._core.events", _EVENTS, _RUNLESS),
    "StepMaterializationData": Internal("dagster._core.events", _EVENTS, _RUNLESS),
    "RUNLESS_JOB_NAME": Internal("dagster._core.instance.utils", _EVENTS, _RUNLESS),
    "RUNLESS_RUN_ID": Internal("dagster._core.instance.utils", _EVENTS, _RUNLESS),
    "AssetCheckExecutionRecordStatus": Internal(
        "dagster._core.storage.asset_check_execution_record",
        "the outcome of a check is rebuilt from MongoDB",
        "`report_runless_asset_event` with an AssetCheckEvaluation of the past",
    ),
    "INDEX_SHARD_NAME": Internal(
        "dagster._core.storage.event_log.sqlite.sqlite_event_log", _EVENTS, _RUNLESS
    ),
    "SQLITE_BUSY_TIMEOUT_SECONDS": Internal(
        "dagster._core.storage.event_log.sqlite.sqlite_event_log", _EVENTS, _RUNLESS
    ),
    "SqliteEventLogStorage": Internal(
        "dagster._core.storage.event_log.sqlite.sqlite_event_log", _EVENTS, _RUNLESS
    ),
    "SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION": Internal(
        "dagster._core.definitions.source_asset",
        "a run over many partitions shows only those as done that are",
        "an asset that yields some of its partitions",
    ),
    "DefinitionConfigSchema": Internal(
        "dagster._core.definitions.definition_config_schema",
        "launchpads show no configuration of resources",
        "a resource without a config schema",
    ),
    "assets_are_externally_managed": Internal(
        "dagster._core.storage.dagster_run",
        "whether a run is one of a catch-up, whose partitions Kraken reports itself",
        "a documented tag",
    ),
    "EXTERNALLY_MANAGED_ASSETS_TAG": Internal(
        "dagster._core.storage.tags", _BACKFILL, "a documented tag"
    ),
    "PartitionBackfill": Internal(
        "dagster._core.execution.backfill",
        _BACKFILL,
        "launching a backfill by `DagsterInstance`; GraphQL needs a web server that is up",
    ),
    "make_new_backfill_id": Internal("dagster._core.utils", _BACKFILL, "as PartitionBackfill"),
    "WorkspaceOpts": Internal("dagster._cli.workspace.cli_target", _WORKSPACE, "an ASGI factory"),
    "workspace_opts_to_load_target": Internal(
        "dagster._cli.workspace.cli_target", _WORKSPACE, "an ASGI factory"
    ),
    "IWorkspaceProcessContext": Internal(
        "dagster._core.workspace.context", _WORKSPACE, "an ASGI factory"
    ),
    "WorkspaceProcessContext": Internal(
        "dagster._core.workspace.context", _WORKSPACE, "an ASGI factory"
    ),
    "WorkspaceRequestContext": Internal(
        "dagster._core.workspace.context", _WORKSPACE, "an ASGI factory"
    ),
    "CodeLocationEntry": Internal(
        "dagster._core.workspace.workspace",
        "Dagit says why the code server has refused to load anew",
        "a field for an error in gRPC's ReloadCodeReply",
    ),
    "replace": Internal(
        "dagster_shared.record",
        "a CodeLocationEntry with another error",
        "`dataclasses.replace`, once Dagster's records are dataclasses",
    ),
    "configure_loggers": Internal(
        "dagster._utils.log", "Dagit's own lines in its own form", "an ASGI factory"
    ),
    "InstigatorStatus": Internal("dagster._core.scheduler.instigation", _SWITCHES, "GraphQL"),
    "InstigatorType": Internal("dagster._core.scheduler.instigation", _SWITCHES, "GraphQL"),
    "SensorInstigatorData": Internal("dagster._core.scheduler.instigation", _SWITCHES, "GraphQL"),
    "DagsterProxyApiServicer": Internal("dagster._grpc.proxy_server", _SERVER, _PROXY),
    "DagsterGrpcServer": Internal("dagster._grpc.server", _SERVER, _PROXY),
    "DagsterGrpcClient": Internal(
        "dagster._grpc.client",
        "`kraken reload` asks the code server",
        "a command of Dagster's that reloads a code location",
    ),
    "client_heartbeat_thread": Internal("dagster._grpc.client", _SERVER, _PROXY),
    "dagster_api_pb2": Internal("dagster._grpc.__generated__", _SERVER, _PROXY),
    "sync_list_repositories_grpc": Internal("dagster._api.list_repositories", _SERVER, _PROXY),
    "DagsterUserCodeProcessError": Internal("dagster._core.errors", _SERVER, _PROXY),
    "DagsterUserCodeUnreachableError": Internal("dagster._core.errors", _SERVER, _PROXY),
    "LoadableTargetOrigin": Internal("dagster._core.types.loadable_target_origin", _SERVER, _PROXY),
    "SerializableErrorInfo": Internal("dagster._utils.error", _SERVER, _PROXY),
    "FuturesAwareThreadPoolExecutor": Internal("dagster._core.utils", _SERVER, _PROXY),
    "setup_interrupt_handlers": Internal("dagster._utils.interrupts", _SERVER, _PROXY),
    "ReconstructableJob": Internal(
        "dagster._core.definitions.reconstruct",
        "a run builds the definitions of its own instrument only",
        "lazy definitions, or the run's job in the environment of its process",
    ),
    "dagster_instance_config": Internal(
        "dagster._core.instance.config",
        "`kraken doctor --offline` reads dagster.yaml and opens no storage",
        "`dagster instance info` without a home",
    ),
    "location_origins_from_yaml_paths": Internal(
        "dagster._core.workspace.load",
        "`kraken doctor --offline` reads workspace.yaml and loads no code",
        "`dagster definitions validate` without loading",
    ),
    "sqlite_run_storage": Internal(
        "dagster._core.storage.runs.sqlite",
        "a database that several programs made at once is left with one version",
        "storage that is made under a lock",
    ),
    "get_alembic_config": Internal(
        "dagster._core.storage.sql",
        "a database that several programs made at once is left with one version",
        "storage that is made under a lock",
    ),
}


def __getattr__(name: str) -> Any:
    internal = INTERNALS.get(name)
    if internal is None:
        raise AttributeError(name)
    try:
        return getattr(import_module(internal.module), name)
    except (ImportError, AttributeError) as error:
        raise AttributeError(
            f"This version of Dagster has no {internal.module}.{name}, by which {internal.why}; "
            f"see whether it has {internal.public}"
        ) from error
