"""Ctrl-C: whenever it comes, one sentence that says what is there and what to do next."""

import signal
import subprocess
import sys

import pytest

from kraken_dagster.cli import INTERRUPTED
from kraken_dagster.config.loader import load_config
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.helpers import (
    backed_up,
    mark_stores,
    tick_until_idle,
    wait_until,
    write_config,
)

pytestmark = pytest.mark.timeout(900)  # a guard against hanging; the wait has its own
# The signal comes when this module is asked for.
_INTERRUPTED_AT = """
import signal, sys

class At:
    def find_spec(self, name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, At())
"""
_PROGRAM = "from kraken_dagster.cli import run; run()"  # as that which is installed


@pytest.mark.parametrize(
    "module", ["kraken_dagster.cli.main", "kraken_dagster.cli.operations.status"]
)
def test_while_it_is_loaded(module: str) -> None:
    program = _INTERRUPTED_AT.format(module=module) + _PROGRAM
    done = subprocess.run([sys.executable, "-c", program, "status"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"\n{INTERRUPTED}\n")


def test_in_mid_work_the_file_is_given_back_and_the_same_command_goes_on(
    tmp_path, mongodb_uri, store, clock
):
    path = write_config(tmp_path, mongodb_uri)
    config = load_config(path, environment={})
    engines = {"local": LocalJobs(config.home / "jobs")}
    services = Services(config=config, store=store, engines=engines, now=clock)
    mark_stores(services)
    backed_up(services, "thermo1", "a.raw", size_bytes=1_000_000)
    tick_until_idle(services)
    command = [sys.executable, "-c", _PROGRAM, "--config", str(path), "verify", "--all"]
    slow = [*command, "--mb-per-s", "0.02"]  # for most of a minute
    process = subprocess.Popen(slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        at_work = "it is at work on the file"
        wait_until(lambda: store.raw_files.get("a.raw").lease, at_work, timeout_s=300)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, out, err) == (1, "", f"\n{INTERRUPTED}\n")
    assert store.raw_files.get("a.raw").lease is None
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.partition(";")[0]) == (0, "1 verified")
