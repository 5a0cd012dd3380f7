"""instruments.yaml that can't be used: told with file, line and key, and all at once."""

import re

import pytest

from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import ConfigError

GOOD = """\
home: h
locations:
  instruments: i
  backup: b
  output: o
engines:
  local:
    slots: 2
instruments:
  thermo1:
    type: thermo
  bruker1:
    type: bruker
"""
_PATTERN = "instruments.thermo1.skip_processing_pattern"
SHARED_FOLDER = "must not share a folder with locations"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "instruments.yaml"


@pytest.fixture
def reported(path):
    """Writes a configuration, and returns what is said of it."""

    def reported(text: str, **environment: str) -> str:
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ConfigError) as caught:
            load_config(path, environment=environment)
        assert str(path) in str(caught.value)
        assert "Next: " in str(caught.value)
        return str(caught.value)

    return reported


def changed(line: int, text: str) -> str:
    """The good configuration with another line there."""
    lines = GOOD.splitlines()
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("line", "text", "told_line", "key", "expected"),
    [
        (1, "hme: h", 1, "hme", "no such key"),
        (4, "  bakup: b", 4, "locations.bakup", "no such key"),
        (4, "  bakup: b", 2, "locations.backup", "expected, and not there"),
        (8, "    slots: many", 8, "engines.local.slots", "valid integer.*found 'many'"),
        (8, "    slots: 0", 8, "engines.local.slots", "greater than or equal to 1, found 0"),
        (8, "    type: cloud", 8, "engines.local.type", "'local', 'slurm', found 'cloud'"),
        (8, "    type: slurm", 7, "engines.local.host", "expected, and not there"),
        (11, "    type: waters", 11, "instruments.thermo1.type", "'sciex', found 'waters'"),
        (11, "    type: [thermo]", 11, "instruments.thermo1.type", "found \\['thermo'\\]"),
        (11, "    copy_slots: 2", 10, "instruments.thermo1.type", "expected, and not there"),
        (11, "    watch_interval_s: 0", 11, "instruments.thermo1.watch_interval_s", "found 0"),
        (13, "    type: bruker\n    lease_s: .nan", 14, "instruments.bruker1.lease_s", "found nan"),
        (13, "    type: bruker\n    lease_s: .inf", 14, "instruments.bruker1.lease_s", "found inf"),
        (11, "    type: thermo\n    skip_processing_pattern: '([)'", 12, _PATTERN, "unterminated"),
        (11, "    type: thermo\n    skip_processing_pattern: '.*'", 12, _PATTERN, "not every name"),
        (11, "    type: thermo\n    skip_processing_pattern: (a+)+b", 12, _PATTERN, "at most 3"),
        (11, "    type: thermo\n    skip_processing_pattern: (x|y)*z", 12, _PATTERN, "at most 3"),
        (11, "    type: thermo\n    skip_processing_pattern: .*.*.*.*x", 12, _PATTERN, "at most 3"),
        (9, "other:", 1, "instruments", "expected, and not there"),
        (9, "instruments: []\nx:", 9, "instruments", "keys and values below it.*found \\[\\]"),
        (10, "  Thermo1:", 10, "instruments.Thermo1", "match pattern"),
        (10, "  thermo-1:", 10, "instruments.thermo-1", "match pattern"),
        (10, "  'thermo1 ':", 10, "instruments.thermo1 ", "match pattern"),
        (10, '  "thermo1\\n":', 10, "instruments.thermo1\n", "match pattern"),
        (10, "  ../thermo1:", 10, "instruments.../thermo1", "match pattern"),
        (4, "  backup: i/thermo1/b", 10, "instruments.thermo1.path", SHARED_FOLDER),
        (4, "  backup: i/thermo1", 10, "instruments.thermo1.path", SHARED_FOLDER),
        (4, "  backup: i", 10, "instruments.thermo1.path", SHARED_FOLDER),
        (5, "  output: i/x/../bruker1/o", 12, "instruments.bruker1.path", SHARED_FOLDER),
        (
            13,
            "    type: bruker\n    path: i/./thermo1",
            14,
            "instruments.bruker1.path",
            "'thermo1'",
        ),
        (
            13,
            "    type: bruker\n    path: i/thermo1/b",
            14,
            "instruments.bruker1.path",
            "apart from that of 'thermo1', .*/i/thermo1; found .*/i/thermo1/b",
        ),
        (13, "    type: bruker\n    path: i", 14, "instruments.bruker1.path", "apart from that"),
        (13, "    type: bruker\n    engine: x", 14, "instruments.bruker1.engine", "found 'x'"),
        (1, "home: h\nhome: g", 2, "home", "expected each key once"),
        (12, "  thermo1:", 12, "instruments.thermo1", "expected each key once"),
        (4, "  backup: ${NOWHERE}/b", 4, "locations.backup", "variable NOWHERE to be set"),
        (1, "home: 5", 1, "home", "found 5"),
        (1, "home: 2026-99-99", 1, "home", "not a value, found '2026-99-99'"),
        (1, "home: !!python/object:os.system x", 1, "home", "not a value, found 'x'"),
        (1, "home: !!int x", 1, "home", "not a value, found 'x'"),
        (1, "<<: {a: b}", 1, "<<", "no such key"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_key(
    reported, path, *, line, text, told_line, key, expected
):
    found = reported(changed(line, text))
    head = re.escape(f"{path}, line {told_line}, key {key!r}: ")
    assert re.search(f"^{head}.*{expected}", found, re.MULTILINE), found


@pytest.mark.parametrize(
    "text", ["home: [h", "home: h: h", "\thome: h", "home: '\x07'", "a: b\n---\nc: d", "\udcff: b"]
)
def test_what_is_no_yaml_is_told(reported, text):
    assert "not valid YAML" in reported(changed(1, text))


@pytest.mark.parametrize(
    ("line", "text", "where"),
    [
        (12, "   bruker1:", "(line 12, column 4)"),
        (11, "\ttype: thermo", "(line 11, column 1)"),
        (11, "    type: thermo: x", "(line 11, column 17)"),
    ],
)
def test_where_yaml_breaks_is_told_by_line_and_with_the_usual_causes(reported, line, text, where):
    found = reported(changed(line, text))
    assert where in found
    assert "same column" in found
    assert "unicode string" not in found


def test_a_forgotten_colon_is_told_in_words(reported):
    found = reported(changed(11, "    type thermo"))
    assert "expected keys and values below it (`key: value`), found 'type thermo'" in found


@pytest.mark.parametrize("text", ["", "# nothing", "[]", "just words", "5"])
def test_what_is_no_mapping_is_told_with_the_sections_that_are_expected(reported, text):
    assert "`locations` and `instruments`" in reported(text)


def test_several_problems_are_told_at_once(reported):
    text = GOOD.replace("type: thermo", "type: waters").replace("slots: 2", "slots: 0")
    found = reported(text.replace("home:", "hme:"))
    assert re.findall(r"line (\d+), key", found) == ["8", "11", "1"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:hunter2@db.example/kraken",
        "me:hunter2@db.example",
        "mongodb://",
        "mongodb://me:hunter2@db.example:port",
        "mongodb://me:hunter2/@db.example",
        "mongodb+srv://",
    ],
)
def test_an_address_that_is_none_of_mongodb_is_told_without_the_password(reported, path, uri):
    found = reported(changed(1, f"mongodb: {{uri: '{uri}'}}"))
    assert f"{path}, line 1, key 'mongodb.uri': expected mongodb://[user:password@]host" in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://me:hunter2@a.example,b.example:27018/kraken?replicaSet=r&tlsCAFile=/nowhere",
        "mongodb+srv://me:hunter2@nowhere.example/kraken",
    ],
)
def test_an_address_of_mongodb_is_taken_and_nobody_is_asked(path, uri):
    path.write_text(changed(1, f"mongodb: {{uri: '{uri}'}}"))
    assert load_config(path, environment={}).mongodb.uri == uri


def test_several_problems_between_keys_are_told_at_once(reported):
    found = reported(
        GOOD.replace("backup: b", "backup: i/thermo1").replace("output: o", "output: i")
    )
    assert len(re.findall(SHARED_FOLDER, found)) == 3


def test_a_file_that_is_not_there_is_told(path):
    with pytest.raises(
        ConfigError, match=r"No such file.*--config or by KRAKEN_CONFIG; `kraken init"
    ):
        load_config(path, environment={})


def test_instruments_that_the_environment_names_and_that_are_not_there_are_told(reported):
    found = reported(GOOD, KRAKEN_INSTRUMENTS="thermo1,thermo2")
    assert "Expected some of ['bruker1', 'thermo1']. Found ['thermo2']" in found
    assert "correct KRAKEN_INSTRUMENTS" in found


def test_a_code_location_for_some_instruments_needs_a_name_that_is_one(reported):
    found = reported(GOOD, KRAKEN_INSTRUMENTS="thermo1")
    assert "this code location has no name" in found
    assert "set KRAKEN_LOCATION" in found
    assert "Found 'host-2'" in reported(GOOD, KRAKEN_LOCATION="host-2")


def test_the_good_configuration_of_these_tests_is_one(path):
    path.write_text(GOOD)
    assert list(load_config(path, environment={}).instruments) == ["thermo1", "bruker1"]


def test_a_password_that_stands_in_the_wrong_place_is_not_shown(tmp_path):
    path = tmp_path / "instruments.yaml"
    path.write_text("mongodb: mongodb://user:secret@host/\nlocations: {}\ninstruments: {}\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert "line 1" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("classes: {hela: {pattern: hela, instruments: [thermo9]}}", "qc.classes.hela.instruments"),
        ("metrics: {proteins: {bounds: {thermo9: {lower: 1}}}}", "qc.metrics.proteins.bounds"),
    ],
)
def test_quality_control_names_only_instruments_that_are_there(reported, rule, key):
    found = reported(f"{GOOD}qc: {{{rule}}}\n")
    assert key in found
    assert "thermo9" in found
