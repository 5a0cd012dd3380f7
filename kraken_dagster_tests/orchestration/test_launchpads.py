"""What Dagit offers: in launchpads what an operator may set, and links to what it shows badly."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.test_utils import in_process_test_workspace
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_graphql.test.utils import execute_dagster_graphql

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.definitions import build_defs
from resources.kraken import KrakenResource

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),  # pydantic's
    pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition"),  # Dagster's, of its own
]
_LAUNCHPAD = """query($job: PipelineSelector!) { runConfigSchemaOrError(selector: $job) {
  __typename ... on RunConfigSchema { rootDefaultYaml rootConfigType { ... on CompositeConfigType {
    fields { name configType { ... on CompositeConfigType { fields { name } } } } } } } } }"""
_JOBS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name jobs { name } } } } }"


def shown() -> dg.Definitions:
    """What the workspace of this test loads."""
    roots = ("instruments", "backup", "output")
    return build_defs(
        KrakenConfig.model_validate(
            {
                "home": "/srv/kraken_home",
                "locations": {name: f"/data/{name}" for name in roots},
                "instruments": {"thermo1": {"type": "thermo"}},
                "alerts": {"page_url": "https://lab.example/kraken/"},
                "offsite": {"endpoint": "https://s3.example", "bucket": "raw"},
            }
        )
    )


def _launchpads(home: Path) -> dict[str, dict[str, Any]]:
    origin = LoadableTargetOrigin(
        executable_path="python", python_file=__file__, attribute=shown.__name__
    )
    found = {}
    with (
        dg.DagsterInstance.local_temp(str(home)) as instance,
        in_process_test_workspace(instance, origin) as workspace,
    ):
        nodes = execute_dagster_graphql(workspace, _JOBS).data["repositoriesOrError"]["nodes"]
        (location,) = workspace.code_location_names
        for name in [job["name"] for job in nodes[0]["jobs"]]:
            selector = {
                "repositoryLocationName": location,
                "repositoryName": nodes[0]["name"],
                "pipelineName": name,
            }
            answer = execute_dagster_graphql(workspace, _LAUNCHPAD, variables={"job": selector})
            found[name] = answer.data["runConfigSchemaOrError"]
    return found


def test_no_launchpad_shows_a_field_of_a_resource(tmp_path: Path) -> None:
    found = _launchpads(tmp_path)
    assert {"thermo1_ingest", "thermo1_catchup", "thermo1_offsite", "purge"} <= found.keys()
    for name, launchpad in found.items():
        fields = {
            field["name"]: field["configType"].get("fields", [])
            for field in launchpad["rootConfigType"]["fields"]
        }
        assert fields["resources"] == [], name
        assert "kraken_home" not in str(launchpad), name
    scaffold = yaml.safe_load(found["thermo1_catchup"]["rootDefaultYaml"])
    assert [*scaffold] == ["ops"]
    assert "limit" in scaffold["ops"]["thermo1__catchup"]["config"]


def test_a_run_is_still_given_what_code_has_configured() -> None:
    found = shown().get_repository_def().get_top_level_resources()
    with dg.build_resources(dict(found)) as given:
        assert isinstance(given.kraken, KrakenResource)
        assert given.kraken.store.home == given.store.home == "/srv/kraken_home"
        assert given.kraken.cluster.home == "/srv/kraken_home"


def test_assets_of_metrics_lead_to_their_plots_over_time() -> None:
    graph = shown().get_repository_def().asset_graph
    for asset in ("metrics", "raw_metrics"):
        link = graph.get(dg.AssetKey(["thermo1", asset])).metadata["plots over time"]
        assert link.value == (
            "https://lab.example/kraken/plots?filter=instrument_id%3D%5Ethermo1%24"
        )
