"""Every command and every question to MongoDB in docs/operations.md does what it is there for."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml

from kraken_dagster.model.raw_file import Status
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import database_uri, mark_stores_of, record

pytestmark = pytest.mark.xdist_group("operations")  # in one worker, as they share a site
ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
LINES = [line.strip() for line in TEXT.replace("\\\n", "").splitlines() if line.startswith("    ")]
# Not here: they need the network, the programs of a real MongoDB, or don't end.
LEFT_OUT = ("git pull", ".venv/bin/pip", "kraken up")
BEFORE_ALL = 'eval "$(kraken env)"'
COMMANDS = [
    line.partition("  #")[0].strip()
    for line in dict.fromkeys(LINES)
    if line.startswith(("kraken ", "dagster ", "find ", "cp ")) and not line.startswith(LEFT_OUT)
]
QUESTION = re.compile(r"db\.(\w+)\.find\((\{.*?\})\)(?:\.sort\((\{.*\})\))?$")
QUESTIONS = [line for line in LINES if line.startswith("db.")]
# They say by their exit code that something is unwell, as some of what these tests made is, or not
# there: no `kraken up` runs.
MAY_COMPLAIN = ("kraken status", "kraken doctor", "kraken reload")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[Path]:
    """A folder with an installation in it, and the files that the document speaks of."""
    folder = tmp_path_factory.mktemp("site")
    uri = database_uri(server_uri, "kraken_operations")
    for name in ("instruments/thermo1", "backup/thermo1", "output", "settings", "software"):
        (folder / name).mkdir(parents=True)
    config = {
        "mongodb": {"uri": uri},
        "locations": {
            name: name for name in ("instruments", "backup", "output", "settings", "software")
        },
        "engines": {"local": {}},
        "options": {"move_files": False, "remove_files": False},
        "instruments": {"thermo1": {"type": "thermo"}},
    }
    (folder / "instruments.yaml").write_text(yaml.safe_dump(config))
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("20260301_sample_17.raw", "20260301_sample_19.raw"):
        plan = Acquisition(name, "thermo", minutes=1, size_bytes=5000)
        SimulatedInstrument(folder / "instruments/thermo1", "thermo", LabClock(1e6)).acquire(plan)
    store = connect(uri)
    store.prepare()
    for name, status in (
        ("20260301_sample_19.raw", Status.MONITORING_DONE),
        ("20260301_sample_17.raw", Status.DONE),
        ("20260301_sample_18.raw", Status.ERROR),
        ("20230104_sample_17.raw", Status.DONE),
    ):
        assert store.raw_files.register(record(name, status=status), reason="test")
    left = record("20250301_sample_1.raw", status=Status.DONE, instrument_id="old1")
    assert store.raw_files.register(left, reason="test")
    store.close()
    mark_stores_of(folder / "instruments.yaml")
    (folder / ".kraken" / "mongodb").mkdir(parents=True)
    _add_alphakraken(folder)
    yield folder
    with pymongo.MongoClient(server_uri) as client:
        client.drop_database("kraken_operations")


def _add_alphakraken(folder: Path) -> None:
    """Its files, as its checkout and Airflow's export have them."""
    cases = ROOT / "kraken_dagster_tests" / "cases" / "alphakraken"
    for name in ("envs", "webapp"):
        (folder / name).mkdir()
    shutil.copy(cases / "locations.yaml", folder / "envs" / "alphakraken.production.yaml")
    shutil.copy(cases / "site.env", folder / "envs" / "production.env")
    (folder / "variables.json").write_text(json.dumps({"debug_no_cluster_ssh": "False"}))
    (folder / "webapp" / "columns_config.yaml").write_text("columns: [{name: proteins}]\n")


@pytest.fixture(scope="module")
def shell(site: Path) -> dict[str, str]:
    """What a shell knows in that folder once it has done what the document begins with."""
    programs = str(Path(sys.executable).parent)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KRAKEN", "DAGSTER"))}
    given = {"PATH": f"{programs}:{os.environ['PATH']}", "BACKUP": str(site / "backup")}
    done = _run(f"{BEFORE_ALL}; env -0", site, {**kept, **given})
    assert done.returncode == 0, done.stderr
    return dict(item.split("=", 1) for item in done.stdout.split("\0") if item)


def _run(
    command: str, site: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", command],
        cwd=site,
        env=environment,
        capture_output=True,
        input="y\n",  # some commands ask whether they may
        text=True,
        timeout=120,
    )


def test_the_document_has_its_commands_and_questions() -> None:
    """What is looked for by its form is found."""
    assert BEFORE_ALL in LINES
    assert len(COMMANDS) > 15
    assert len(QUESTIONS) > 5
    shown = {shlex.split(command)[1] for command in COMMANDS if command.startswith("kraken")}
    assert {"status", "doctor", "show", "retry", "rebuild", "files", "settings"} <= shown


@pytest.mark.lab
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_document_works(command: str, site: Path, shell: dict[str, str]) -> None:
    done = _run(command, site, shell)
    assert "Traceback" not in done.stderr, done.stderr
    allowed = (0, 1) if command.startswith(MAY_COMPLAIN) else (0,)
    assert done.returncode in allowed, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_of_the_document_has_an_answer(
    question: str, mongodb_uri: str, store: Any
) -> None:
    """Each finds what it is for, and nothing of a file that is well."""
    found = QUESTION.fullmatch(question)
    assert found is not None, question
    collection, condition = found[1], json.loads(found[2])
    refusal = {"problem": "odd", "at": record().created_at_}
    well = {"backup_status": "copying_done", "retry_at": record().created_at_}
    documents: dict[str, list[dict[str, Any]]] = {
        "raw_file": [
            {
                "_id": "unwell",
                "status": "error" if "error" in found[2] else "copying",
                "purge": refusal,
            },
            {"_id": "well", "status": "done", "lease": None, **well},
        ],
        "quant_job": [{"_id": "unwell", "uncollected": True}, {"_id": "well"}],
        "metrics": [
            {"_id": "unwell", "settings_name": "search"},
            {"_id": "well", "settings_name": "x"},
        ],
        "kraken_status": [{"_id": "unwell"}],
    }
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        database = client.get_default_database()
        database[collection].insert_many(documents[collection])
        order = json.loads(found[3] or '{"_id": 1}')
        answer = database[collection].find(condition).sort(list(order.items()))
        assert [item["_id"] for item in answer] == ["unwell"]
