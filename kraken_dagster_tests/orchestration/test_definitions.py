"""What Dagster is told: every name that users, tags and run keys rely on, and how it is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.definitions import build_defs

pytestmark = pytest.mark.filterwarnings(
    "ignore:The `__fields__` attribute is deprecated"  # pydantic's, about Dagster's own code
)
CHECKOUT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).parents[1] / "snapshots" / "definitions.json"
RENEW = "KRAKEN_RENEW_SNAPSHOTS"


def _config(instruments: dict[str, dict[str, Any]]) -> KrakenConfig:
    roots = ("instruments", "backup", "output")
    return KrakenConfig.model_validate(
        {"locations": {name: f"/data/{name}" for name in roots}, "instruments": instruments}
    )


def _assets(repository: dg.RepositoryDefinition) -> dict[str, Any]:
    graph = repository.asset_graph
    return {
        key.to_user_string(): {
            "group": node.group_name,
            "partitions": node.partitions_def and node.partitions_def.name,
            "after": sorted(parent.to_user_string() for parent in node.parent_keys),
            "checks": sorted(check.name for check in node.check_keys),
            "pools": sorted(node.pools or ()),
            "kinds": sorted(node.kinds or ()),
        }
        for key in sorted(graph.get_all_asset_keys())
        for node in [graph.get(key)]
    }


def _jobs(repository: dg.RepositoryDefinition) -> dict[str, Any]:
    return {
        job.name: {
            "assets": sorted(
                key.to_user_string() for key in job.asset_layer.executable_asset_keys or ()
            ),
            "partitions": job.partitions_def and job.partitions_def.name,
            "executor": job.executor_def.name,
        }
        for job in repository.get_all_jobs()
        if not job.name.startswith("__")
    }


def _sensors(repository: dg.RepositoryDefinition) -> dict[str, Any]:
    return {
        sensor.name: {
            "default_status": sensor.default_status.value,
            "interval_s": sensor.minimum_interval_seconds,
            "jobs": sorted(target.job_name for target in sensor.targets or ()),
        }
        for sensor in repository.sensor_defs
    }


def _everything(config: KrakenConfig) -> dict[str, Any]:
    repository = build_defs(config).get_repository_def()
    checks = {
        f"{check.asset_key.to_user_string()}: {check.name}": (
            repository.asset_graph.get_check_spec(check).partitions_def.name
        )
        for check in repository.asset_graph.asset_check_keys
    }
    return {
        "assets": _assets(repository),
        "checks by partitions": checks,
        "jobs": _jobs(repository),
        "schedules": {
            item.name: f"{item.cron_schedule}, {item.default_status.value}"
            for item in repository.schedule_defs
        },
        "sensors": _sensors(repository),
        "resources": sorted(repository.get_top_level_resources()),
    }


def _run(
    *arguments: str, cwd: Path = CHECKOUT, **environment: str
) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if "KRAKEN" not in key}
    return subprocess.run(
        arguments,
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


def _validate(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    home.mkdir()
    dagster = str(Path(sys.executable).with_name("dagster"))
    return _run(
        *(dagster, "definitions", "validate", *arguments), DAGSTER_HOME=str(home), **environment
    )


def test_the_definitions_of_three_instruments_are_those_of_the_snapshot() -> None:
    config = _config(
        {
            "thermo1": {"type": "thermo"},
            "bruker1": {"type": "bruker", "sensors": "running", "watch_interval_s": 7},
            "sciex1": {"type": "sciex", "skip_processing": True},
        }
    )
    found = json.dumps(_everything(config), indent=1, sort_keys=True) + "\n"
    if os.environ.get(RENEW):
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text(), (
        "Dagster's names have changed. Partitions, run keys and the history in Dagster hang on "
        f"them. If it is meant, set {RENEW}=1, run this test again and look at the difference in "
        f"{SNAPSHOT.name}."
    )


def test_a_configuration_without_instruments_loads() -> None:
    found = _everything(_config({}))
    assert (found["assets"], found["jobs"], found["sensors"]) == ({}, {}, {})


def test_an_added_instrument_changes_no_name_of_the_others() -> None:
    one = {"thermo1": {"type": "thermo"}}
    before = _everything(_config(one))
    after = _everything(_config({**one, "thermo2": {"type": "thermo"}}))
    for kind, of_all in (("assets", 2), ("checks by partitions", 0), ("jobs", 4)):
        assert before[kind].items() <= after[kind].items()
        of_one = len(before[kind]) - of_all  # the others are of all instruments together
        assert len(after[kind]) == of_all + 2 * of_one


def test_code_locations_that_share_the_instruments_share_no_name_and_no_asset() -> None:
    whole = _config({name: {"type": "thermo"} for name in ("thermo1", "thermo2", "thermo3")})
    first = _everything(whole.only({"thermo1"}, location="host_1"))
    second = _everything(whole.only({"thermo2", "thermo3"}, location="host_2"))
    for kind in ("assets", "jobs", "schedules", "sensors"):
        assert first[kind]
        assert not first[kind].keys() & second[kind].keys()
    together = {*first["assets"], *second["assets"]}
    assert together == set(_everything(whole)["assets"])
    assert "file_systems/backup" in first["assets"]  # whose instrument is the first of the file
    assert {"cluster_jobs_host_1", "alerts_host_1"} <= first["sensors"].keys()
    assert {"purge_host_2", "scrub_host_2", "retire_partitions_host_2"} == set(second["schedules"])


def test_a_stand_in_takes_the_place_of_a_resource() -> None:
    stand_in = object()
    defs = build_defs(
        _config({"thermo1": {"type": "thermo"}}), resource_overrides={"store": stand_in}
    )
    found = defs.get_repository_def().get_top_level_resources()["store"]
    with dg.build_resources({"store": found}) as given:
        assert given.store is stand_in


def test_a_wrong_configuration_fails_the_load_with_file_line_and_key(tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(
        "locations: {instruments: i, backup: b, output: o}\n"
        "instruments:\n"
        "  thermo1:\n"
        "    type: thermo\n"
        "    watch_intervall_s: 5\n"
    )
    done = _validate(
        tmp_path / "home", "-m", "kraken_dagster.definitions", KRAKEN_CONFIG=str(config)
    )
    reported = done.stdout + done.stderr
    assert done.returncode != 0
    assert (
        f"{config}, line 5, key 'instruments.thermo1.watch_intervall_s': no such key"
        in " ".join(reported.split())
    ), reported


_IMPORT = """
import os, sys
import dagster, dagster_shared, pydantic, pymongo, tqdm, yaml

touched = []
def audit(event, args):
    if event == "open" and str(args[0]).endswith((".yaml", ".yml", ".json", ".env")):
        touched.append(f"{event} {args[0]}")
    if event.startswith(("socket.", "subprocess.")):
        touched.append(f"{event} {args}")
sys.addaudithook(audit)

read = os._Environ.__getitem__
def spy(self, name):
    if "KRAKEN" in name:
        touched.append(f"environment {name}")
    return read(self, name)
os._Environ.__getitem__ = spy

import kraken_dagster.definitions
assert os.environ.get("KRAKEN_CONFIG") and len(touched) == 1, touched  # the spy works
print("touched only by ourselves:", touched)
"""


def test_importing_the_definitions_reads_no_file_and_no_environment(tmp_path: Path) -> None:
    (tmp_path / "instruments.yaml").write_text("not: [valid")
    nowhere = tmp_path / "nowhere" / "instruments.yaml"
    done = _run(sys.executable, "-c", _IMPORT, cwd=tmp_path, KRAKEN_CONFIG=str(nowhere))
    assert done.returncode == 0, done.stderr
    assert "touched only by ourselves: ['environment KRAKEN_CONFIG']" in done.stdout


def test_dagster_validates_the_shipped_workspace(tmp_path: Path) -> None:
    done = _validate(tmp_path / "home", "-w", "workspace.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_configuration_that_is_not_there_fails_the_load_and_not_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRAKEN_CONFIG", str(tmp_path / "nowhere.yaml"))
    from kraken_dagster import definitions

    with pytest.raises(Exception, match=r"nowhere\.yaml.*KRAKEN_CONFIG") as raised:
        definitions.defs()
    assert type(raised.value).__name__ == "ConfigError"
