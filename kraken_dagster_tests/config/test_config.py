"""instruments.yaml that can be used: what is read, inherited, and taken from the environment."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.loader import config_path, load_config
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.files.vendors import Vendor

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = """
locations: {instruments: data/instruments, backup: data/backup, output: data/output}
instruments:
  thermo1: {type: thermo}
"""


@pytest.fixture
def load(tmp_path):
    """Writes a configuration and reads it."""

    def load(text: str, **environment: str) -> KrakenConfig:
        path = tmp_path / "instruments.yaml"
        path.write_text(text)
        return load_config(path, environment=environment)

    return load


def test_the_shipped_example_is_read_and_means_what_its_comments_say():
    config = load_config(ROOT / "instruments.yaml", environment={})
    assert {name: entry.type for name, entry in config.instruments.items()} == {
        "astral1": Vendor.THERMO,
        "timstof1": Vendor.BRUKER,
        "zenotof1": Vendor.SCIEX,
    }
    assert config.mongodb.uri is None
    assert config.simulation is None
    assert config.instrument("zenotof1").skip_processing is True
    assert config.instrument("astral1").sensors == "stopped"
    assert config.locations.backup.path == ROOT / "data" / "backup"
    assert config.home == ROOT / ".kraken"


def test_the_shipped_example_takes_its_folders_from_the_environment():
    environment = {"KRAKEN_HOME": "/srv/kraken", "KRAKEN_DATA": "/mnt"}
    config = load_config(ROOT / "instruments.yaml", environment=environment)
    assert config.home == Path("/srv/kraken")
    assert config.locations.backup.path == Path("/mnt/backup")


def test_the_least_that_is_needed_gets_the_documented_defaults(load):
    config = load(MINIMAL)
    instrument = config.instrument("thermo1")
    assert (instrument.engine, instrument.sensors, instrument.copy_slots) == ("local", "stopped", 2)
    assert instrument.output_exists_mode is OutputExistsMode.RAISE
    assert instrument.debug_max_file_age_in_hours == -1
    assert config.engines["local"].slots == 2
    assert config.timing.size_check.total_seconds() == 3600


def test_relative_paths_count_from_the_file_wherever_kraken_was_started(
    load, tmp_path, monkeypatch
):
    monkeypatch.chdir("/")
    config = load(MINIMAL + "  other: {type: bruker, path: ../elsewhere/./x}\nhome: here")
    assert config.locations.backup.path == tmp_path / "data" / "backup"
    assert config.instrument("thermo1").path == tmp_path / "data" / "instruments" / "thermo1"
    assert config.instrument("other").path == tmp_path.parent / "elsewhere" / "x"
    assert config.home == tmp_path / "here"


def test_a_location_may_stand_elsewhere_on_the_cluster(load, tmp_path):
    config = load(MINIMAL.replace("backup: data/backup", "backup: {path: b, cluster: /fs/pool}"))
    assert config.locations.backup.path == tmp_path / "b"
    assert config.locations.backup.cluster_path == "/fs/pool"
    assert config.locations.output.cluster_path == str(tmp_path / "data" / "output")


INHERITED = """
locations: {instruments: i, backup: b, output: o}
defaults: {copy_slots: 5, lease_s: 60}
options: {output_exists_mode: add, consider_old_files_acquired: true}
instruments:
  plain: {type: thermo}
  own: {type: thermo, copy_slots: 1, output_exists_mode: overwrite}
"""


def test_an_instrument_wins_over_options_and_defaults(load):
    config = load(INHERITED)
    plain, own = config.instrument("plain"), config.instrument("own")
    assert (plain.copy_slots, plain.output_exists_mode) == (5, OutputExistsMode.ADD)
    assert (own.copy_slots, own.output_exists_mode) == (1, OutputExistsMode.OVERWRITE)
    assert plain.consider_old_files_acquired is own.consider_old_files_acquired is True
    assert plain.lease_s == own.lease_s == 60


def test_the_environment_and_its_defaults_are_put_into_texts(load):
    text = MINIMAL + (
        "mongodb: {uri: 'mongodb://kraken:${PASSWORD}@${HOST:-localhost}:${PORT:-27017}/krakendb'}"
        "\nengines: {local: {slots: '${SLOTS:-7}'}}"
        "\ndefaults: {skip_processing: '${SKIP:-false}'}"
    )
    config = load(text, PASSWORD="secret", HOST="db7")
    assert config.mongodb.uri == "mongodb://kraken:secret@db7:27017/krakendb"
    assert config.engines["local"].slots == 7
    assert config.instrument("thermo1").skip_processing is False


def test_an_empty_default_is_one_and_an_empty_variable_is_a_value(load):
    text = MINIMAL + "options: {backup_overwrite_file_id: 'a${NOTHING:-}b${EMPTY:-x}c'}"
    assert load(text, EMPTY="").options.backup_overwrite_file_id == "abc"


@pytest.mark.parametrize(
    "value",
    [
        "a: b",
        "a\noptions: {move_files: false}",
        "${OTHER}",
        "'\"#&*!|>%@`[]{}",
        "null",
        "yes",
        "2026-01-01",
    ],
)
def test_a_value_of_the_environment_stays_one_text_whatever_is_in_it(load, value):
    text = MINIMAL + "options: {backup_overwrite_file_id: '${VALUE}'}"
    config = load(text, VALUE=value, OTHER="never put in")
    assert config.options.backup_overwrite_file_id == value
    assert config.options.move_files is True


def test_a_section_whose_keys_are_all_commented_out_is_an_empty_one(load):
    config = load(MINIMAL + "mongodb:\n  # uri: mongodb://x\noptions:\n")
    assert config.mongodb.uri is None


def test_anchors_are_read(load):
    config = load(
        "locations: {instruments: i, backup: b, output: o}\n"
        "instruments: {one: &all {type: bruker, copy_slots: 3}, two: *all}"
    )
    assert config.instrument("two").copy_slots == 3


def test_a_code_location_may_serve_some_instruments_only(load):
    config = load(INHERITED, KRAKEN_INSTRUMENTS=" own ,", KRAKEN_LOCATION="host_2")
    assert list(config.instruments) == ["own"]
    assert (config.location, config.suffix, config.owns_shared) == ("host_2", "_host_2", False)
    assert list(config.whole.instruments) == ["plain", "own"]
    assert list(load(INHERITED, KRAKEN_INSTRUMENTS="").instruments) == ["plain", "own"]


def test_the_path_is_that_of_the_environment_else_that_beside_the_workspace(tmp_path, monkeypatch):
    assert config_path({"KRAKEN_CONFIG": "/etc/kraken.yaml"}) == Path("/etc/kraken.yaml")
    monkeypatch.chdir(tmp_path)
    assert config_path({}) == ROOT / "instruments.yaml"
    (tmp_path / "instruments.yaml").write_text(MINIMAL)
    assert config_path({}) == tmp_path / "instruments.yaml"


def test_a_simulations_clock_hastens_every_wait(load):
    timing = load(MINIMAL + "simulation: {speed: 60}").timing
    assert (timing.size_check.total_seconds(), timing.main_file_timeout.total_seconds()) == (
        60,
        120,
    )


def models(model: type[BaseModel], found: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """The model and every model that its fields speak of."""
    found.add(model)
    todo = [field.annotation for field in model.model_fields.values()]
    while todo:
        kind = todo.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            models(kind, found)
        todo.extend(get_args(kind))
    return found


def test_every_key_has_a_description_and_unknown_keys_are_errors():
    found = models(KrakenConfig, set())
    assert len(found) >= 8
    for model in found:
        assert model.model_config["extra"] == "forbid"
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.description.endswith("."), f"{model.__name__}.{name}"
