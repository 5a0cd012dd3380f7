"""What Prometheus, Grafana and a load balancer ask of Kraken."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kraken_dagster.alerts.exposition import readiness
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.connection import connect
from kraken_dagster.web.feed import Feed
from kraken_dagster.web.health.gauges import gauges
from kraken_dagster_tests.alerts.watching import Watching, no_trouble, with_alerts
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.support.helpers import record

FILES = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
_NAME = re.compile(r"\bkraken_[a-z_]+")


def metrics_text(services: Services) -> bytes:
    feed = Feed(services)
    feed.refresh()
    return gauges(feed)


def families(services: Services) -> dict[str, dict[tuple[str, ...], float]]:
    found = text_string_to_metric_families(metrics_text(services).decode())
    return {
        family.name: {tuple(it.labels.values()): it.value for it in family.samples}
        for family in found
    }


def test_the_metrics_are_what_is_known_and_name_no_file(services: Services) -> None:
    watching = Watching(with_alerts(services, digest={"at": None}))
    watching.minute()
    watching.free_gb["backup"] = 400
    old = record("SECRET_1.raw", created_at_=services.now())
    services.store.raw_files.register(old, reason="a test")
    services.now.forward(hours=30)  # type: ignore[attr-defined]
    watching.minutes(1)
    found = families(watching.services)
    assert found["kraken_files"] == {("thermo1", "queued_for_monitoring"): 1}
    assert found["kraken_files_without_backup"][("thermo1",)] == 1
    assert found["kraken_disk_free_bytes"][("backup",)] == 400 * 1024**3
    assert found["kraken_disk_free_wanted_bytes"][("backup",)] == 500 * 1024**3
    assert found["kraken_healthy"][("file system backup",)] == 1
    assert found["kraken_alerts_open"][("low_disk", "critical")] == 1
    looked = found["kraken_alerts_looked_timestamp_seconds"]
    assert looked == {("any",): services.now().timestamp()}
    assert b"SECRET" not in metrics_text(watching.services)


def test_ready_is_whose_sensor_has_ticked_of_late(services: Services) -> None:
    watching = Watching(with_alerts(services, digest={"at": None}))
    assert "never ticked" in readiness(services).problems[0]
    watching.minute()
    assert not readiness(services).is_ready, "a monitor beside Dagster says nothing of its daemon"
    watching.dagster = no_trouble(services)
    watching.minute()
    assert readiness(services).is_ready
    services.now.forward(minutes=6)  # type: ignore[attr-defined]
    assert "has not ticked since" in readiness(services).problems[0]


def test_without_mongodb_nobody_is_ready(services: Services) -> None:
    away = connect("mongodb://127.0.0.1:9/krakendb", timeout_s=0.1)
    lost = Services(config=services.config, store=away, engines={}, now=services.now)
    assert "MongoDB can't be reached" in readiness(lost).problems[0]
    away.close()


def test_the_examples_ask_for_metrics_that_there_are(services: Services) -> None:
    known = set(families(services))
    for name in ("kraken-rules.yml", "kraken-rules-test.yml", "kraken-grafana.json"):
        asked = set(_NAME.findall((FILES / name).read_text(encoding="utf-8")))
        assert asked
        assert asked - known == set(), name
    dashboard = json.loads((FILES / "kraken-grafana.json").read_text(encoding="utf-8"))
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "kraken-rules.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["test", "rules", "kraken-rules-test.yml"],
    ],
    ids=" ".join,
)
def test_prometheus_itself_takes_the_examples(command: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        unavailable("no promtool: apt-get install prometheus")
    done = subprocess.run([promtool, *command], cwd=FILES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
