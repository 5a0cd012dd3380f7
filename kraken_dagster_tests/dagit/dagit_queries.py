"""What Dagit's own pages ask by GraphQL: every place where a configuration or a message is shown.

Each page has a word that its answer holds, so that a page that shows nothing is noticed.
"""

from typing import Any

IN_KRAKEN = {"repositoryLocationName": "kraken", "repositoryName": "__repository__"}
START_SENSOR = """mutation($sensorSelector: SensorSelector!) {
  startSensor(sensorSelector: $sensorSelector) { __typename } }"""
_METADATA = """metadataEntries { label description
  ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr }
  ... on JsonMetadataEntry { jsonString } ... on PathMetadataEntry { path }
  ... on UrlMetadataEntry { url } ... on TableMetadataEntry { table { records } } }"""
_ERROR = """... on PythonError { message stack errorChain { error { message stack } } }"""
_EVENTS = f"""events {{ __typename ... on MessageEvent {{ message level }}
  ... on ErrorEvent {{ error {{ message stack errorChain {{ error {{ message stack }} }} }} }}
  ... on DisplayableEvent {{ label description {_METADATA} }}
  ... on LogsCapturedEvent {{ logKey fileKey externalUrl }} }}"""
_RUN = """runId jobName status runConfigYaml runConfig tags { key value }
  assetSelection { path } repositoryOrigin { repositoryLocationMetadata { key value } }
  executionPlan { steps { key metadata { key value } } }"""
_TICK = """status skipReason cursor runIds runKeys error { message stack }
  logEvents { events { message level } }"""
_CONFIG = """configTypeKey description defaultValueAsJson
  configType { key description ... on CompositeConfigType {
    fields { name description defaultValueAsJson } } }"""

PAGES = {
    "workspace": (
        f"""{{ workspaceOrError {{ {_ERROR} ... on Workspace {{ locationEntries {{ name loadStatus
          displayMetadata {{ key value }} locationOrLoadError {{ {_ERROR}
            ... on RepositoryLocation {{ name dagsterLibraryVersions {{ name version }} }} }}
        }} }} }} }}""",
        "dagster",
    ),
    "repositories": (
        """{ repositoriesOrError { ... on RepositoryConnection { nodes { name
          displayMetadata { key value } assetGroups { groupName }
          jobs { name description tags { key value } runTags { key value }
            presets { name runConfigYaml tags { key value } }
            modes { name resources { name description } } }
          sensors { name description metadata { assetKeys { path } } targets { pipelineName } }
          schedules { name description cronSchedule } } } } }""",
        "thermo1_watcher",
    ),
    "resources": (
        """query($repository: RepositorySelector!) {
          allTopLevelResourceDetailsOrError(repositorySelector: $repository) {
            ... on ResourceDetailsList { results { name description resourceType
              configuredValues { key value type }
              configFields { name description defaultValueAsJson configTypeKey }
              nestedResources { name resource { name configuredValues { key value } } } } } } }""",
        "Connects to MongoDB.",
    ),
    "one resource": (
        """query($resource: ResourceSelector!) {
          topLevelResourceDetailsOrError(resourceSelector: $resource) {
            ... on ResourceDetails { name description resourceType
              configuredValues { key value type }
              configFields { name description defaultValueAsJson configTypeKey } } } }""",
        "Connects to MongoDB.",
    ),
    "environment": (
        """query($repository: RepositorySelector!) {
          utilizedEnvVarsOrError(repositorySelector: $repository) { __typename
            ... on EnvVarWithConsumersList { results { envVarName
              envVarConsumers { type name } } } } }""",
        "EnvVarWithConsumersList",
    ),
    "launchpad": (
        """query($job: PipelineSelector!) { runConfigSchemaOrError(selector: $job) {
          ... on RunConfigSchema { rootDefaultYaml rootConfigType { key }
            allConfigTypes { key description ... on CompositeConfigType {
              fields { name description defaultValueAsJson } } } } } }""",
        "files_per_run",
    ),
    "job": (
        f"""query($job: PipelineSelector!) {{ pipelineOrError(params: $job) {{
          ... on Pipeline {{ name description tags {{ key value }} {_METADATA}
            modes {{ name resources {{ name description configField {{ name {_CONFIG} }} }} }}
            solids {{ name definition {{ name description metadata {{ key value }}
              ... on SolidDefinition {{ configField {{ name {_CONFIG} }}
                requiredResources {{ resourceKey }} }} }} }} }} }} }}""",
        "thermo1_catchup",
    ),
    "run": (
        f"""query($run: ID!) {{ runOrError(runId: $run) {{ ... on Run {{ {_RUN}
          eventConnection {{ {_EVENTS} }} }} }} }}""",
        "Finished execution of step",
    ),
    "runs": (f"{{ runsOrError {{ ... on Runs {{ results {{ {_RUN} }} }} }} }}", "kraken"),
    "events": (
        f"""query($run: ID!) {{ logsForRun(runId: $run) {{
          ... on EventConnection {{ {_EVENTS} }} }} }}""",
        "MaterializationEvent",
    ),
    "assets": (
        f"""{{ assetNodes {{ id description opName groupName jobNames kinds
          tags {{ key value }} {_METADATA} configField {{ name {_CONFIG} }} }} }}""",
        "thermo1",
    ),
    "one asset": (
        f"""query($asset: AssetKeyInput!) {{ assetNodeOrError(assetKey: $asset) {{
          ... on AssetNode {{ description opName opTags {{ key value }} {_METADATA}
            configField {{ name {_CONFIG} }} requiredResources {{ resourceKey }}
            type {{ name description {_METADATA} }}
            op {{ name description metadata {{ key value }} }}
            assetMaterializations {{ message label description {_METADATA} }}
            targetingInstigators {{ ... on Sensor {{ name description }} }}
            assetChecksOrError {{ ... on AssetChecks {{ checks {{ name description
              executionForLatestMaterialization {{ status evaluation {{ description {_METADATA}
              }} }} }} }} }} }} }} }}""",
        "second.raw",
    ),
    "ticks": (
        f"""query($sensor: SensorSelector!) {{ sensorOrError(sensorSelector: $sensor) {{
          ... on Sensor {{ name description sensorState {{ status typeSpecificData {{
            ... on SensorData {{ lastRunKey lastCursor }} }} ticks {{ {_TICK} }} }} }} }} }}""",
        "SKIPPED",
    ),
    "automation": (
        """query($repository: RepositorySelector!) {
          sensorsOrError(repositorySelector: $repository) { ... on Sensors { results {
            name description sensorState { status ticks(limit: 1) { status skipReason
              error { message stack } } } } } } }""",
        "cluster_jobs",
    ),
    "deployment": (
        """{ version instance { info runQueueConfig { maxConcurrentRuns }
          daemonHealth { allDaemonStatuses { daemonType lastHeartbeatErrors { message stack } } }
          concurrencyLimits { concurrencyKey } } }""",
        "run_monitoring",
    ),
}
COMPUTE_LOGS = """query($key: [String!]!) {
  capturedLogs(logKey: $key) { stdout stderr }
  capturedLogsMetadata(logKey: $key) { stdoutLocation stderrLocation } }"""


def variables(run_id: str) -> dict[str, Any]:
    """For all pages; each takes what it declares."""
    return {
        "run": run_id,
        "repository": IN_KRAKEN,
        "resource": {**IN_KRAKEN, "resourceName": "store"},
        "job": {**IN_KRAKEN, "pipelineName": "thermo1_catchup"},
        "asset": {"path": ["thermo1", "backup"]},
        "sensor": {**IN_KRAKEN, "sensorName": "share1_watcher"},
    }
