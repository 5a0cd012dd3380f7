"""`kraken alerts`: what a person sees and says of alerts."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kraken_dagster.cli.main import main
from kraken_dagster.model.alerts.alert import Condition
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.alerts.receivers import MailServer, WebhookServer, running
from kraken_dagster_tests.alerts.watching import an_alert
from kraken_dagster_tests.support.helpers import write_config


def kraken(path: Path, *args: str) -> Result:
    return CliRunner().invoke(main, ["--config", str(path), "alerts", *args])


@pytest.fixture
def path(tmp_path: Path, mongodb_uri: str, store: Store) -> Path:
    return write_config(tmp_path, mongodb_uri)


def test_what_is_open_is_listed_seen_and_over(path: Path, store: Store) -> None:
    assert kraken(path, "list").exit_code == 0
    alert = an_alert(Condition(subject="thermo1", summary="thermo1: 3 files failed"))
    store.alerts.open(alert)
    listed = kraken(path, "list")
    assert listed.exit_code == 1
    assert "thermo1: 3 files failed" in listed.output
    assert kraken(path, "ack", alert.short_id).exit_code == 0
    [row] = json.loads(kraken(path, "list", "--json").output)["alerts"]
    assert (row["state"], row["name"]) == ("acknowledged", "raw_file_error thermo1 #1")
    refused = kraken(path, "ack", "12345678")
    assert refused.exit_code == 1
    assert "No such alert is open" in refused.output + refused.stderr


def test_a_silence_needs_an_end_and_a_reason_and_can_be_ended(path: Path, store: Store) -> None:
    assert kraken(path, "silence", "--kind", "low_disk", "--reason", "x").exit_code == 2
    assert kraken(path, "silence", "--kind", "low_disk", "--hours", "1").exit_code == 1
    assert kraken(path, "silence", "--hours", "1", "--reason", "x").exit_code == 1
    assert kraken(path, "silence", "--instrument", "nobody", "--hours", "1").exit_code == 2
    done = kraken(path, "silence", "--instrument", "thermo1", "--hours", "1", "--reason", "column")
    assert done.exit_code == 0, done.output
    listed = kraken(path, "list").output
    assert "thermo1 until" in listed
    assert "column" in listed
    [silence] = json.loads(kraken(path, "list", "--json").output)["silences"]
    assert kraken(path, "silence", "--end", silence["id"]).exit_code == 0
    assert "column" not in kraken(path, "list").output
    assert kraken(path, "silence", "--end", silence["id"]).exit_code == 1


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # apprise's own
def test_every_channel_is_tried_and_told_by_its_name(
    tmp_path: Path, mongodb_uri: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail, hook = MailServer(), WebhookServer()
    audiences = {
        "operations": [{"type": "smtp", "to": ["lab@example.org"]}],
        "laboratory": [{"type": "apprise", "url_variable": "KRAKEN_TEST_APPRISE"}],
    }
    alerts = {"smtp": {"host": "127.0.0.1", "port": mail.port}, "audiences": audiences}
    path = write_config(tmp_path, mongodb_uri, alerts=alerts)
    monkeypatch.setenv("KRAKEN_TEST_APPRISE", f"json://127.0.0.1:{hook.port}/s3cret-path")
    with running(mail, hook):
        done = kraken(path, "test")
        assert done.output == "operations/1 smtp: sent\nlaboratory/1 apprise: sent\n"
        assert done.exit_code == 0
        assert (len(mail.mails), len(hook.bodies)) == (1, 1)
        assert hook.bodies[0]["title"] == "Kraken: a test of alerts"
        hook.status = 500
        failed = kraken(path, "test", "laboratory")
    assert failed.exit_code == 1
    assert failed.output.startswith("laboratory/1 apprise: apprise couldn't send a message")
    assert "s3cret-path" not in failed.output
    assert kraken(path, "test", "nobody").exit_code == 1


def test_every_rule_is_listed_with_its_thresholds(path: Path) -> None:
    rules = {item["kind"]: item for item in json.loads(kraken(path, "rules", "--json").output)}
    assert rules["low_disk"]["thresholds"] == {
        "instrument_free_gb": 200,
        "backup_free_gb": 500,
        "output_free_gb": 300,
    }
    assert rules["queue_stop"]["from"] == "AlphaKraken"
    assert "backup_free_gb: 500" in kraken(path, "rules").output
