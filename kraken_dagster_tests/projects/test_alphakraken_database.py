"""A database that AlphaKraken filled, as it is; and what Kraken writes, read by AlphaKraken."""

import json
from datetime import UTC, datetime

import click.testing
import dagster as dg
import pymongo
import pytest
from bson import ObjectId

from kraken_dagster.acquisition.watch import look_at
from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.cli.main import main
from kraken_dagster.config.engines import LocalEngine
from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster.projects import projects as catalog
from kraken_dagster.projects.settings import new_version
from kraken_dagster.quant.preview import preview
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.projects import alphakraken
from kraken_dagster_tests.support.dagster_bench import Bench
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import (
    NOW,
    backed_up,
    tick_until_idle,
    wait_until,
    write_config,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mongoengine.*"),
]
WRITES = 'echo result > "$OUTPUT_PATH/result.txt"'


@pytest.fixture
def database(mongodb_uri):
    """Filled before Kraken has ever seen it."""
    with pymongo.MongoClient(mongodb_uri) as client:
        yield client.get_default_database()


def on_disk(services, name: str, content: bytes = b"hello") -> None:
    """The file's backup where AlphaKraken has put it."""
    folder = services.config.locations.backup.path / "thermo1" / "2025_05"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


FORMS = {
    "latest.raw": {},
    "etag.raw": {"file_info": {"etag.raw": [5.0, "5d41402abc4b2a76b9719d911017c592", "etag"]}},
    "from_root.raw": {
        "file_info": {"thermo1/2025_05/from_root.raw": [5.0, "5d41402abc4b2a76b9719d911017c592"]},
        "backup_base_path": None,
        "backup_status": None,
        "instrument_file_status": None,
    },
    "relative.raw": {"backup_base_path": "thermo1/2025_05"},
    "other_root.raw": {"backup_base_path": "/an/older/mount/thermo1/2025_05"},
    "few_fields.raw": {
        "original_name": None,
        "project_id": None,
        "size": None,
        "updated_at_": None,
        "created_at_": None,
        "instrument_file_status": None,
        "backup_status": None,
    },
    # As a program writes it that knows no time zones.
    "naive.raw": {"created_at": datetime(2025, 5, 6, 7, 8, 9), "size": 5.0},  # noqa: DTZ001
}


@pytest.fixture
def filled(database, services):
    """One document of each form, with their backups."""
    for name, changes in FORMS.items():
        database["raw_file"].insert_one(alphakraken.raw_file(name, **changes))
        on_disk(services, name)
    return services


@pytest.mark.parametrize("name", FORMS)
def test_a_backup_is_proven_by_a_document_of_any_form(filled, name):
    outcome = back_up(filled, name, run_id="by hand", options=BackupOptions())
    assert (outcome.done, outcome.reason, list(outcome.facts)) == (True, "verified again", [name])
    raw_file = filled.store.raw_files.get(name)
    assert (raw_file.status, raw_file.created_at) == (Status.DONE, alphakraken.MADE)


@pytest.mark.parametrize("name", FORMS)
def test_a_damaged_backup_is_found_by_a_document_of_any_form(filled, name):
    on_disk(filled, name, b"hellO")
    with pytest.raises(Exception, match="The backup is not what was recorded"):
        back_up(filled, name, run_id="by hand", options=BackupOptions())


def test_a_backup_below_the_path_that_was_recorded_is_found_there(database, services):
    root = services.config.locations.backup.path
    base = f"{root}/thermo1/moved_here"
    database["raw_file"].insert_one(alphakraken.raw_file("x.raw", backup_base_path=base))
    (root / "thermo1" / "moved_here").mkdir(parents=True)
    (root / "thermo1" / "moved_here" / "x.raw").write_bytes(b"hello")
    assert back_up(services, "x.raw", run_id="by hand", options=BackupOptions()).done


def test_a_backup_that_was_recorded_under_an_older_path_of_the_cluster_stays_in_its_folder(
    database, services
):
    base = "/older/thermo1/2025_05/mount/thermo1/2025_05/of its own"
    database["raw_file"].insert_one(alphakraken.raw_file("x.raw", backup_base_path=base))
    place = services.backup_folder(services.store.raw_files.get("x.raw"))
    assert place == services.config.locations.backup.path / "thermo1" / "2025_05" / "of its own"


@pytest.mark.parametrize(
    "path",
    [
        "/old/thermo1/2025_05/../../../etc",
        "../../etc",
        "/etc",
        "thermo1/../../etc",
        "thermo1//2025_05",
    ],
)
def test_a_recorded_path_never_leads_out_of_the_backup(database, services, path):
    database["raw_file"].insert_one(alphakraken.raw_file("x.raw", backup_base_path=path))
    raw_file = services.store.raw_files.get("x.raw")
    assert services.backup_folder(raw_file) == (
        services.config.locations.backup.path / "thermo1" / "2025_05"
    )


def test_a_document_that_nobody_can_read_hides_no_other(filled, database):
    odd = [
        alphakraken.raw_file("odd_info.raw", file_info={"x": 7}),
        alphakraken.raw_file("odd_size.raw", size="large"),
        alphakraken.raw_file("odd_status.raw", status="new_in_version_9"),
    ]
    database["raw_file"].insert_many(odd)
    found = filled.store.raw_files.latest(["thermo1"])
    reported = {item.id: item.status_details for item in found if item.unreadable}
    assert sorted(reported) == ["odd_info.raw", "odd_size.raw", "odd_status.raw"]
    assert all("can't be read" in text for text in reported.values())
    assert len(found) == len(FORMS) + 3


# -- the kraken command and the assets ------------------------------------------------------------


@pytest.fixture
def kraken(tmp_path, mongodb_uri):
    path = write_config(tmp_path / "here", mongodb_uri)
    runner = click.testing.CliRunner()
    return lambda *arguments: runner.invoke(main, ["--config", str(path), *arguments])


def test_the_commands_work_on_its_documents(filled, database, kraken):
    database["metrics"].insert_many(
        [
            {"raw_file": "latest.raw", "created_at_": alphakraken.MADE, "proteins": 5000.0},
            {
                "raw_file": "latest.raw",
                "settings_name": "old",
                "settings_version": 2,
                "type": "alphadia",
                "created_at_": alphakraken.MADE,
                "proteins": 6000.0,
            },
        ]
    )
    database["kraken_status"].insert_one(
        {"_id": "thermo1", "status": "ok", "free_space_gb": 123, "updated_at_": alphakraken.MADE}
    )
    found = json.loads(kraken("status", "--json").stdout)
    assert found["instruments"][0]["files"] == {"done": len(FORMS)}
    assert found["instruments"][0]["free_space_gb"] == 123
    rows = json.loads(kraken("files", "--json").stdout)
    assert {row["id"] for row in rows} == set(FORMS)
    assert kraken("files").exit_code == 0
    for name in FORMS:
        assert kraken("show", name).exit_code == 0
        shown = json.loads(kraken("show", name, "--json").stdout)
        assert shown["file_info"][name]["md5"] == "5d41402abc4b2a76b9719d911017c592"
    text = kraken("show", "latest.raw", "--all").stdout
    assert "n/a v1" in text
    assert "old v2" in text
    assert "proteins                             6000.0" in text


def test_the_assets_work_on_its_documents(filled, config, store):
    with dg.DagsterInstance.ephemeral() as instance:
        engines = {"local": LocalEngine(type="local", slots=len(FORMS))}
        bench = Bench(config.model_copy(update={"engines": engines}), store, instance)
        settings = custom_settings(bench.services, "s", WRITES)
        store.catalog.assign("OLD1", settings, now=NOW)
        instance.add_dynamic_partitions("thermo1_raw_files", list(FORMS))
        for name in FORMS:
            assert bench.execute("thermo1_ingest", name).success
        for key in ("raw_file", "backup", "quant_job"):
            assert set(bench.materialised("thermo1", key)) == set(FORMS)

        def done() -> bool:
            for request in bench.tick("cluster_jobs").run_requests or ():
                assert bench.run(request).success
            return {bench.status(name) for name in FORMS} == {Status.DONE}

        wait_until(done, "every file is done")
        for key in ("quant_result", "metrics"):
            assert set(bench.materialised("thermo1", key)) == set(FORMS)


def test_files_that_it_left_on_their_way_go_on(filled, database):
    custom_settings(filled, "s", WRITES)
    for status in ("copying_done", "computing_msqc", "queued_for_quanting", "quanting"):
        name = f"{status}.raw"
        database["raw_file"].insert_one(alphakraken.raw_file(name, status=status, project_id=None))
        on_disk(filled, name)
    tick_until_idle(filled)
    counted = filled.store.raw_files.count_by_status("thermo1")
    assert counted == {Status.DONE: len(FORMS) + 4}
    assert len(filled.store.jobs.of("quanting.raw")) == 1


def test_a_file_that_it_has_moved_aside_is_not_taken_for_a_new_one(database, services):
    database["raw_file"].insert_one(
        alphakraken.raw_file("x.raw", instrument_file_status="moved", project_id=None)
    )
    (services.instrument_folder("thermo1") / "x.raw").write_bytes(b"another acquisition")
    (new,) = look_at(services, "thermo1").registered
    assert new.id.endswith("-x.raw")
    assert new.instrument_file_status is InstrumentFileStatus.INITIAL


# -- projects and settings ------------------------------------------------------------------------


def test_settings_and_assignments_of_every_version_apply(database, services):
    latest = alphakraken.settings("latest", software_type="msqc", version=3)
    plain = alphakraken.settings(
        "plain",
        **dict.fromkeys(("version", "software_type", "metrics_type", "job_engine", "slurm_mem")),
    )
    oldest = {"_id": "oldest", "software": "alphadia-1.5", "project": "OLD3", "status": "active"}
    second = {"_id": "second", "software": "alphadia-1.4", "project": "OLD3", "status": "inactive"}
    database["settings"].insert_many([latest, plain, oldest, second])
    database["project"].insert_one({"_id": "OLD3", "name": "named by its settings"})
    database["project"].insert_many(
        [
            {"_id": "OLD1", "name": "assigned by lines", "status": "active"},
            {"_id": "OLD2", "name": "named by the project", "settings": plain["_id"]},
        ]
    )
    database["project_settings"].insert_many(
        [
            {"_id": ObjectId(), "project": "OLD1", "settings": latest["_id"], "scope": "*"},
            {"_id": ObjectId(), "project": "OLD1", "settings": plain["_id"], "scope": "thermo"},
        ]
    )
    found = preview(services, "x_OLD1.raw", "thermo1")
    applied = [(it.assigned.settings.title, it.engine) for it in found.settings if it.applies]
    assert applied == [("latest version 3", "local"), ("plain version 1", "local")]
    (first,) = preview(services, "x_OLD3.raw", "thermo1").settings
    assert (first.assigned.settings.name, first.applies) == ("oldest", True)
    (only,) = preview(services, "x_OLD2.raw", "thermo1").settings
    assert (only.assigned.settings.name, only.applies) == ("plain", True)
    assert only.assigned.settings.software_type == "alphadia"
    services.store.catalog.settle("OLD2")
    assert len(preview(services, "x_OLD2.raw", "thermo1").settings) == 1
    assert services.store.catalog.settings("oldest", 1).software_type == "alphadia"
    all_settings, unreadable = services.store.catalog.all_settings()
    assert ([item.name for item in all_settings], unreadable) == (
        ["latest", "oldest", "plain", "rawqc", "second"],
        [],
    )


def test_its_first_settings_which_had_no_version_keep_nobody_from_working(mongodb_uri):
    with pymongo.MongoClient(mongodb_uri) as client:
        settings = client.get_default_database()["settings"]
        settings.insert_many(
            [{"_id": name, "software": "a", "project": "OLD3"} for name in ("one", "two")]
        )
    store = connect(mongodb_uri)
    store.prepare()
    titles = [item.settings.title for item in store.catalog.assigned("OLD3")]
    assert titles == ["one version 1", "two version 1"]
    store.close()


def test_further_settings_stand_beside_those_that_a_project_names_itself(database, services):
    database["settings"].insert_one(plain := alphakraken.settings("plain", job_engine=None))
    database["project"].insert_one({"_id": "OLD2", "name": "n", "settings": plain["_id"]})
    settings = custom_settings(services, "qc", WRITES, software_type="msqc")
    catalog.assign(services, "OLD2", settings)
    assigned = [item.settings.title for item in services.store.catalog.assigned("OLD2")]
    assert assigned == ["plain version 1", "qc version 1"]
    new_version(services, "plain", {"slurm_mem": "1G"})
    catalog.upgrade(services, "OLD2", "plain")
    catalog.unassign(services, "OLD2", "qc")
    assert [item.settings.title for item in services.store.catalog.assigned("OLD2")] == [
        "plain version 2"
    ]


def test_a_new_version_of_its_settings_is_made_and_numbered(database, services):
    database["settings"].insert_one(alphakraken.settings("s", job_engine=None, number=41))
    before, after = new_version(services, "s", {"slurm_mem": "128G"})
    assert (before.version, after.version, after.number) == (1, 2, 42)


# -- what Kraken writes ---------------------------------------------------------------------------


@pytest.fixture
def written(services):
    """Two files with results, one of them failed, and everything else that Kraken writes."""
    custom_settings(services, "good", WRITES)
    custom_settings(services, "bad", "exit 3", software_type="skyline")
    backed_up(services, "thermo1", "x.raw")
    backed_up(services, "bruker1", "y.d")
    tick_until_idle(services)
    look_at(services, "thermo1")
    return services


@pytest.mark.parametrize("collection", alphakraken.MODELS)
def test_what_kraken_writes_can_be_read_by_alphakraken_and_saved_again(
    written, database, mongodb_uri, collection
):
    documents = list(database[collection].find())
    assert documents
    with alphakraken.connected(mongodb_uri):
        objects = list(alphakraken.MODELS[collection].objects())
        assert len(objects) == len(documents)
        for item in objects:
            item.validate()


def test_alphakraken_finds_the_metrics_and_the_digests(written, mongodb_uri):
    with alphakraken.connected(mongodb_uri):
        raw_file = alphakraken.MODELS["raw_file"].objects.get(id="y.d")
        ours = written.store.raw_files.get("y.d")
        assert (raw_file.status, raw_file.size) == (ours.status.value, ours.size)
        assert raw_file.created_at.replace(tzinfo=UTC) == ours.created_at
        assert {name: fact[1] for name, fact in raw_file.file_info.items()} == {
            name: fact.md5 for name, fact in ours.file_info.items()
        }
        results = alphakraken.MODELS["metrics"].objects(raw_file="y.d")
        by_settings = {item.settings_name: item for item in results}
        (rawqc,) = [it for it in written.store.metrics.of("y.d") if it["settings_name"] == "rawqc"]
        assert by_settings["rawqc"].ms1_scans == rawqc["ms1_scans"]
        assert by_settings["rawqc"].raw_file.id == "y.d"
