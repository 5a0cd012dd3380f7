"""Kraken on Kubernetes: the values for Dagster's chart, and the Job that its package makes.

Nothing is run, and the chart's templates are not rendered: they are not on this machine.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

VALUES = Path(__file__).resolve().parents[2] / "docker" / "kubernetes-values.yaml"


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(VALUES.read_text())
    return found


# Keys that Dagster's chart 1.13 has, of those that are used here, from its own schema.
_CHART = {
    "": "global generatePostgresqlPasswordSecret postgresql dagsterWebserver dagsterDaemon "
    "concurrency runLauncher computeLogManager telemetry dagster-user-deployments",
    "dagsterWebserver": "replicaCount enableReadOnly image service envSecrets",
    "dagsterDaemon": "enabled image envSecrets runMonitoring sensors",
    "concurrency": "enabled runs pools",
    "runLauncher": "type config",
    "dagster-user-deployments": "enabled enableSubchart deployments",
}
_DEPLOYMENT = (
    "name image port dagsterApiGrpcArgs deploymentStrategy includeConfigInLaunchedRuns env "
    "envSecrets volumes volumeMounts readinessProbe"
)


def deployments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = values()["dagster-user-deployments"]["deployments"]
    return found


def test_the_values_name_keys_of_the_chart() -> None:
    given = values()
    for name, keys in _CHART.items():
        section = given[name] if name else given
        assert set(section) <= set(keys.split()), name
    for item in deployments():
        assert set(item) <= set(_DEPLOYMENT.split())
        assert re.fullmatch(r"[a-z0-9-]{1,63}", item["name"])


def context_of(deployment: dict[str, Any]) -> K8sContainerContext:
    """As the chart writes it of a deployment, for the runs of that code location."""
    return K8sContainerContext.create_from_config(
        {
            "k8s": {
                "image_pull_policy": deployment["image"]["pullPolicy"],
                "env_config_maps": [f"dagster-{deployment['name']}-user-env"],
                "env_secrets": [item["name"] for item in deployment["envSecrets"]],
                "volume_mounts": deployment["volumeMounts"],
                "volumes": deployment["volumes"],
                "namespace": "kraken",
                "service_account_name": "dagster",
                "env": deployment["env"],
            }
        }
    )


def test_the_launcher_takes_its_settings() -> None:
    launcher = values()["runLauncher"]
    given = launcher["config"]["k8sRunLauncher"]
    config = {
        "load_incluster_config": given["loadInclusterConfig"],
        "image_pull_policy": given["imagePullPolicy"],
        "job_namespace": "kraken",
        "service_account_name": "dagster",
        "dagster_home": values()["global"]["dagsterHome"],
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": "dagster-postgresql-secret",
    }
    assert len(given) == 2
    taken = process_config(K8sRunLauncher.config_type(), config)
    assert taken.success, taken.errors
    assert launcher["type"] == K8sRunLauncher.__name__


@pytest.mark.parametrize("deployment", deployments(), ids=lambda item: item["name"])
def test_a_run_is_a_job_with_the_mounts_of_its_worker(deployment: dict[str, Any]) -> None:
    image = f"{deployment['image']['repository']}:{deployment['image']['tag']}"
    job = construct_dagster_k8s_job(
        job_config=DagsterK8sJobConfig(
            job_image=image,
            dagster_home="/var/lib/kraken/dagster",
            instance_config_map="dagster-instance",
            postgres_password_secret="dagster-postgresql-secret",
        ),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        user_defined_k8s_config=context_of(deployment).run_k8s_config,
    ).to_dict()
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == image
    mounts = {item["mount_path"]: item["name"] for item in container["volume_mounts"]}
    assert {
        it["mountPath"]: it["name"] for it in deployment["volumeMounts"]
    }.items() <= mounts.items()
    claims = {
        item["name"]: item["persistent_volume_claim"]["claim_name"]
        for item in pod["volumes"]
        if item["persistent_volume_claim"]
    }
    assert claims["instrument"] == f"kraken-{deployment['name']}"
    env = {item["name"]: item["value"] for item in container["env"]}
    assert env["KRAKEN_INSTRUMENTS"] == env["KRAKEN_LOCATION"] == deployment["name"]
    secrets = [item["secret_ref"]["name"] for item in container["env_from"] if item["secret_ref"]]
    assert "kraken-secrets" in secrets


def test_nobody_changes_anything_in_dagit_without_the_guard() -> None:
    given = values()
    assert given["dagsterWebserver"]["enableReadOnly"] is True
    assert given["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    assert "ingress" not in given
