"""`kraken sensors`: what Dagit's switches do, in a terminal; and logs that no terminal reads."""

import subprocess
import sys
from pathlib import Path

import pytest

from kraken_dagster.config.loader import load_config
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.operations.sensors import switchboard
from kraken_dagster_tests.support.helpers import write_config

pytestmark = pytest.mark.timeout(900)


def test_the_sensors_of_an_instrument_are_switched_and_no_others(
    tmp_path: Path, mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("KRAKEN_CONFIG", "none")  # what is set here is given back afterwards
    path = write_config(tmp_path, mongodb_uri)
    config = load_config(path, environment={})
    with switchboard(config, path) as board:
        before = {item.name: item for item in board.sensors()}
        assert {"thermo1_watcher", "thermo1_archiver", "cluster_jobs", "alerts"} <= before.keys()
        assert before["cluster_jobs"].instrument is None
        assert all(item.description for item in before.values())
        own = board.sensors("thermo1")
        assert {item.name for item in own} == {"thermo1_watcher", "thermo1_archiver"}
        for on in (True, False):
            for item in own:
                board.switch(item, on=on)
            now = {item.name: item.is_on for item in board.sensors()}
            assert {name: now[name] for name in ("thermo1_watcher", "thermo1_archiver")} == {
                "thermo1_watcher": on,
                "thermo1_archiver": on,
            }
            others = now.keys() - {item.name for item in own}
            assert {name: now[name] for name in others} == {
                name: before[name].is_on for name in others
            }
        with pytest.raises(ConfigError, match="nobody1"):
            board.sensors("nobody1")


def test_a_program_of_dagsters_writes_no_colours_into_a_file(tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_text(
        "import sys\nfrom dagster._utils.log import configure_loggers\nimport logging\n"
        "configure_loggers(formatter='colored', log_level='INFO')\n"
        "logging.getLogger('dagster').error('told %s', sys.argv[1:])\n"
    )
    module = "kraken_dagster.operations.without_colours"
    for command in ([sys.executable, "-m", module, str(script)], [sys.executable, str(script)]):
        done = subprocess.run([*command, "run"], capture_output=True, text=True, check=True)
        told = done.stdout + done.stderr
        assert "told ['run']" in told
        assert ("\x1b[" in told) is (module not in command)
