"""`kraken import-alphakraken`: every key is taken or told, and no secret is copied."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.operations.alphakraken import source

CASES = Path(__file__).resolve().parents[1] / "cases" / "alphakraken"
OLDER, LATER, ENVIRONMENT = CASES / "locations.yaml", CASES / "runners.yaml", CASES / "site.env"
MOUNTS = "/home/kraken-user/alphakraken/mounts"
SMALL = {
    "instruments": {"test1": {"type": "thermo"}},
    "locations": {"general": {"mounts_path": "/mnt/kraken"}},
}


def convert(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["import-alphakraken", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def converted(*words: object, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(convert(*words, code=code).stdout)
    return found


def note_of(done: Result, key: str) -> str:
    (line,) = [line for line in done.stderr.splitlines() if f"  {key}: " in line]
    return line


def of_values(tmp_path: Path, values: object) -> Path:
    path = tmp_path / "alphakraken.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_older_form_becomes_what_kraken_needs() -> None:
    found = converted(OLDER, "--env", ENVIRONMENT, "--mounts", MOUNTS)
    assert found["locations"] == {
        "instruments": f"{MOUNTS}/instruments",
        "backup": {"path": f"{MOUNTS}/backup", "cluster": "/fs/pool-0/backup"},
        "output": {"path": f"{MOUNTS}/output", "cluster": "/fs/pool-0/output"},
        "settings": {"path": f"{MOUNTS}/settings", "cluster": "/fs/pool-0/settings"},
        "software": {"path": f"{MOUNTS}/software", "cluster": "/fs/home/kraken-read/software"},
    }
    assert found["instruments"] == {
        "test1": {
            "type": "thermo",
            "min_free_space_gb": 100,
            "min_file_age_to_remove_in_days": 21,
            "file_move_delay_m": 60,
        },
        "test2": {"type": "bruker", "skip_processing": True},
        "test3": {
            "type": "sciex",
            "path": f"{MOUNTS}/instruments/zeno",
            "skip_processing": False,
            "min_free_space_gb": -1,
        },
    }
    assert found["engines"]["slurm"]["job_script"] == "/fs/pool-0/slurm/submit_job.sh"
    assert found["defaults"] == {"sensors": "stopped", "file_move_delay_m": 15, "engine": "slurm"}
    assert found["options"] == {"purge_proof": "local"}
    assert "offsite" not in found


def test_the_later_form_becomes_the_same() -> None:
    words = ("--cluster-host", "login1", "--cluster-host", "login2", "--cluster-user", "kraken")
    found = converted(LATER, "--env", ENVIRONMENT, *words, "--cluster-slots", 50)
    folder = "/home/kraken-user/alphakraken/production/mounts"
    assert found["locations"]["instruments"] == f"{folder}/instruments"
    assert found["locations"]["settings"] == {
        "path": f"{folder}/settings",
        "cluster": "/fs/pool-0/settings",
    }
    assert found["engines"]["slurm"] == {
        "type": "slurm",
        "host": ["login1", "login2"],
        "user": "kraken",
        "slots": 50,
        "job_script": "/fs/home/kraken-read/software/submit_slurm_job.sh",
    }
    assert found["offsite"] == {"region": "eu-central-1", "bucket_prefix": "alphakraken"}
    assert found["options"]["purge_proof"] == "local_and_offsite"


@pytest.mark.parametrize("file", [OLDER, LATER])
def test_what_is_written_passes_the_doctor_and_no_file_is_replaced(
    file: Path, tmp_path: Path
) -> None:
    columns = tmp_path / "columns_config.yaml"
    columns.write_text("columns: [{name: proteins}]\n")
    output = tmp_path / "instruments.yaml"
    words = (file, "--env", ENVIRONMENT, "--columns", columns, "--output", output)
    assert f"wrote {output}" in convert(*words).stdout
    done = CliRunner().invoke(main, ["--config", str(output), "doctor", "--offline"])
    assert done.exit_code == 0, done.output
    assert load_config(output, environment={}).page.columns == columns
    before = output.read_text()
    assert "none is overwritten" in convert(*words, code=1).stderr
    assert output.read_text() == before


@pytest.mark.parametrize("file", [OLDER, LATER])
def test_no_secret_is_copied_or_shown(file: Path) -> None:
    done = convert(file, "--env", ENVIRONMENT)
    assert "hush" not in done.output
    uri = yaml.safe_load(done.stdout)["mongodb"]["uri"]
    assert uri == "${KRAKEN_MONGODB_URI:-mongodb://kraken.example:27018/krakendb}"
    assert "set KRAKEN_OPS_ALERTS_URL" in done.stderr


def test_a_webhook_s_url_is_named_by_a_variable() -> None:
    found = converted(OLDER)["alerts"]["audiences"]
    assert found == {
        "operations": [{"type": "apprise", "url_variable": "KRAKEN_OPS_ALERTS_URL"}],
        "laboratory": [{"type": "webhook", "url_variable": "KRAKEN_BUSINESS_ALERTS_URL"}],
    }


def _keys(values: object, below: str = "") -> list[str]:
    if isinstance(values, list):
        return [key for n, it in enumerate(values) for key in _keys(it, f"{below}{n}.")]
    if not isinstance(values, dict):
        return [below.removesuffix(".")]
    return [key for name, it in values.items() for key in _keys(it, f"{below}{name}.")]


# What is told together with the key beside it, or in what is to be done by hand.
_TOGETHER = ("username", "mount_src", "mount_target", "region", "bucket_prefix", "os", "engine")


@pytest.mark.parametrize("file", [OLDER, LATER])
def test_every_key_is_told(file: Path) -> None:
    done = convert(file, "--env", ENVIRONMENT)
    told = {line.split("  ", 1)[1].strip().split(": ")[0] for line in done.stderr.splitlines()
            if "  " in line}  # fmt: skip
    for key in _keys(yaml.safe_load(file.read_text())):
        parts = key.split(".")
        above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        assert above & told or parts[-1] in _TOGETHER, key


def test_what_is_not_known_is_told_and_ends_with_1(tmp_path: Path) -> None:
    values = {
        **SMALL,
        "surprise": 1,
        "instruments": {
            "test1": {"type": "thermo", "colour": "red", "min_free_space_gb": "lots"},
            "Test-2": {"type": "thermo"},
            "test3": {"type": "agilent"},
        },
        "general": {"job_engine": {"type": "docker"}, "notifications": {"pager_token": "hush"}},
    }
    done = convert(of_values(tmp_path, values), code=1)
    for key, words in {
        "surprise": "found 1",
        "instruments.test1.colour": "found 'red'",
        "instruments.test1.min_free_space_gb": "expected a number, found 'lots'",
        "instruments.Test-2": "the instrument is left out",
        "instruments.test3.type": "expected thermo, bruker, sciex, found 'agilent'",
        "general.job_engine.type": "'docker' is no engine of Kraken's",
        "general.notifications.pager_token": "a value that may be a secret",
    }.items():
        line = note_of(done, key)
        assert line.startswith("not understood")
        assert words in line
    assert "hush" not in done.output
    assert list(yaml.safe_load(done.stdout)["instruments"]) == ["test1"]


def test_airflow_s_variables_become_options(tmp_path: Path) -> None:
    variables = tmp_path / "variables.json"
    variables.write_text(
        json.dumps(
            {
                "min_free_space_gb": "250",
                "consider_old_files_acquired": "True",
                "output_exists_mode": "sometimes",
                "backup_overwrite_file_id": "",
                "another_dag": "x",
            }
        )
    )
    done = convert(of_values(tmp_path, SMALL), "--variables", variables, code=1)
    assert yaml.safe_load(done.stdout)["options"] == {
        "min_free_space_gb": 250,
        "consider_old_files_acquired": True,
    }
    assert note_of(done, "variables.output_exists_mode").startswith("not understood")
    assert note_of(done, "variables.another_dag").startswith("not taken")


def test_a_path_cannot_leave_the_folder_of_mounts_or_name_a_variable(tmp_path: Path) -> None:
    values = {
        "instruments": {"test1": {"type": "thermo", "mount_target": "../../etc"}},
        "locations": {
            "general": {"mounts_path": "/mnt/kraken"},
            "backup": {"mount_target": "/etc", "absolute_path": "/fs/${HOME}"},
        },
    }
    done = convert(of_values(tmp_path, values), code=1)
    found = yaml.safe_load(done.stdout)
    assert found["instruments"]["test1"] == {"type": "thermo"}
    assert found["locations"]["backup"] == "/mnt/kraken/backup"
    assert "`${`" in note_of(done, "locations.backup.absolute_path")


_BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
_MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{'<<': [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty or not a mapping"),
        ("[1, 2]", "empty or not a mapping"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object/apply:os.system [true]", "not valid YAML"),
        ("a: &a [*a]", "too many values, or is nested too deeply"),
        (_BOMB, "too many values"),
        (_MERGES, "too many values"),
        ("[" * 5_000, "nested too deeply"),
        ("a: 1\na: 2", "each key once"),
        ("? [a, b]\n: 1", "each key once, as a plain word"),
        ("a: 2026-99-99", "not valid YAML"),
        (f"a: {'9' * 5_000}", "not valid YAML"),
        ("a: '" + "x" * source.LARGEST_BYTES + "'", "too large"),
        ("a: \x00", "not valid YAML"),
        ("instruments: [a]\nlocations: {general: {mounts_path: /mnt/k}}", "`instruments` can't"),
        ("instruments: {a: thermo}\nlocations: {general: {mounts_path: /mnt/k}}", "instruments.a"),
        ("runners: 5\nlocations: {general: {mounts_path: /mnt/k}}", "`runners` can't"),
        ("instruments: {}", "Nothing says where the mounts are"),
        ("locations: {general: {mounts_path: mounts}}", "Found 'mounts'"),
    ],
)
def test_a_hostile_file_ends_in_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    path, output = tmp_path / "alphakraken.yaml", tmp_path / "instruments.yaml"
    path.write_text(text)
    done = convert(path, "--output", output, code=1)
    assert words in done.stderr
    assert done.stderr.startswith("kraken: ")
    assert done.stderr.count("\n") == 1
    assert not output.exists()


def test_a_binary_file_ends_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "alphakraken.yaml"
    path.write_bytes(b"a: \xff\xfe")
    assert "not text in UTF-8" in convert(path, code=1).stderr


def test_names_are_shown_with_escapes(tmp_path: Path) -> None:
    values = {**SMALL, "a\x1b[2Jb": 1}
    done = convert(of_values(tmp_path, values), code=1)
    assert "\x1b" not in done.output
    assert "\\x1b" in done.stderr
