"""What people ask often is answered without what is slow to import."""

import json
import subprocess
import sys
from contextlib import closing

import pytest

from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import record, write_config

SLOW = {"dagster", "dagster_webserver", "httpx", "numpy", "pandas", "paramiko", "pyarrow"}
# A fault in an argument would end the command before it has imported anything.
RUN = """
import sys
from kraken_dagster.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert ended.code in (0, 1), ended.code
print(" ".join({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["status"], ["files"], ["show", "x.raw"]])
def test_an_answer_from_mongodb_imports_nothing_slow(tmp_path, mongodb_uri, words):
    path = write_config(tmp_path, mongodb_uri)
    with closing(connect(mongodb_uri)) as store:
        store.prepare()
        store.raw_files.register(record("x.raw"), reason="discovered")
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--config", str(path), *words, "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert SLOW.isdisjoint(done.stderr.split()), done.stderr
