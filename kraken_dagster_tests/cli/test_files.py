"""`kraken files`, `metrics` and `show`: which files are meant, and what people and programs get."""

import csv
import io
import json
import os
import pty
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import click.testing
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len

from kraken_dagster.cli.files.choose import moment
from kraken_dagster.cli.main import main
from kraken_dagster.config.loader import load_config
from kraken_dagster.model.raw_file import Status
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster_tests.support.helpers import NOW, database_uri, job, record, write_config

pytestmark = pytest.mark.timeout(900)
Kraken = Callable[..., click.testing.Result]
LONG = "20260301_OA1_Evo12_21min_MaTh_SA_H032_E32_D10_HeLa_200ng_rerun_of_a_rerun_01.raw"
WIDE = "検査" * 40 + ".raw"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[Path]:
    """Files with results of two settings, one that failed, and names that are hard to show."""
    uri = database_uri(server_uri, "cli_files")
    path = write_config(tmp_path_factory.mktemp("files"), uri)
    with closing(connect(uri)) as store:
        store.prepare()
        services = Services(config=load_config(path, environment={}), store=store, engines={})
        for day, name in enumerate(("a_hela.raw", "b_hela.raw", "c.raw")):
            _add(services, name, days=day, status=Status.DONE, project_id=f"P{day}")
            _result(services, name, "dia", {"proteins": 5000 + day, "fwhm_rt": 3.25, "note": "x"})
        _result(services, "c.raw", "other", {"peptides": 0.1 + 0.2, "odd": float("inf")})
        _add(services, LONG, days=10, status=Status.ERROR, status_details="The disk is full. " * 9)
        _add(services, WIDE, days=11, status=Status.MONITORING_ACQUISITION)
        yield path


def _add(services: Services, name: str, *, days: int, **fields: Any) -> None:
    at = NOW - timedelta(days=days)
    services.store.raw_files.register(record(name, created_at=at, **fields), reason="discovered")


def _result(services: Services, name: str, settings: str, metrics: dict[str, Any]) -> None:
    of = job(f"{name}-{settings}", raw_file=name, settings_name=settings, settings_version=2)
    services.store.jobs.intend(of)
    services.store.metrics.add(of, metrics, provenance={}, now=NOW)


@pytest.fixture(scope="module")
def kraken(path: Path) -> Kraken:
    runner = click.testing.CliRunner()
    return lambda *arguments: runner.invoke(main, ["--config", str(path), *arguments])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--project", "P1"), ["b_hela.raw"]),
        (("--since", f"{NOW - timedelta(days=1):%Y-%m-%d}"), ["a_hela.raw", "b_hela.raw"]),
        (("--filter", "hela & !a_"), ["b_hela.raw"]),
        (("--filter", "proteins=[5001,]"), ["b_hela.raw", "c.raw"]),
        (("--settings", "other"), ["c.raw"]),
        (("--settings", "dia:2", "--limit", "2"), ["a_hela.raw", "b_hela.raw"]),
        (("--settings", "dia:1"), []),
        (("--project", "P1", "--status", "error"), []),
    ],
)
def test_files_and_metrics_mean_the_same_files(
    kraken: Kraken, options: tuple[str, ...], expected: list[str]
) -> None:
    found = kraken("files", "--json", *options)
    assert [item["id"] for item in json.loads(found.stdout)] == expected, found.output
    rows = kraken("metrics", "--json", *options)
    assert [item["raw_file"] for item in json.loads(rows.stdout)] == expected, rows.output


def test_metrics_are_only_those_of_the_settings_that_are_named(kraken: Kraken) -> None:
    (row,) = json.loads(kraken("metrics", "--settings", "other", "--json").stdout)
    assert (row["peptides"], row["settings"]) == (0.1 + 0.2, "other v2")
    assert "proteins" not in row


def test_metrics_come_exact_as_csv_and_parquet(kraken: Kraken, tmp_path: Path) -> None:
    text = kraken("metrics", "--csv", "--metric", "pep*", "--metric", "proteins").stdout
    rows = {item["raw_file"]: item for item in csv.DictReader(io.StringIO(text))}
    assert (rows["c.raw"]["peptides"], rows["c.raw"]["proteins"]) == (str(0.1 + 0.2), "5002.0")
    assert "fwhm_rt" not in rows["c.raw"]
    target = tmp_path / "metrics.parquet"
    assert kraken("metrics", "--parquet", "--output", str(target)).exit_code == 0
    table = pq.read_table(target).to_pylist()
    assert {item["raw_file"]: item["fwhm_rt"] for item in table}["a_hela.raw"] == 3.25


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("files", "--since", "Monday"), "expected a date like 2026-11-20 or a span like 12h"),
        (("files", "--filter", "nothing=3"), "there is no column 'nothing'"),
        (("files", "--filter", "(a"), "no regular expression"),
        (("files", "--settings", "dia:new"), "expected NAME or NAME:VERSION"),
        (("metrics", "--metric", "irt_*"), "no chosen file has such a metric"),
    ],
)
def test_what_is_not_understood_is_wrong_use(
    kraken: Kraken, arguments: tuple[str, ...], reported: str
) -> None:
    result = kraken(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reported in result.stderr


def test_a_span_counts_back_from_now() -> None:
    now = utc_now()
    assert moment("90min", now) == now - timedelta(minutes=90)
    assert moment("2w", now) == now - timedelta(days=14)
    assert moment("2026-03-01T12:00+02:00", now).isoformat() == "2026-03-01T10:00:00+00:00"


def test_tables_fit_a_terminal_of_80_columns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _in_a_terminal(monkeypatch, path, ["files"], ["metrics"], columns=80)
    assert max(cell_len(line) for line in lines) <= 80
    text = "\n".join(lines)
    begin, end = LONG[:9], LONG[-6:]
    assert re.search(rf"{begin}\S*…\S*{end} +thermo1 +error ", text)
    assert "The disk is full." in text
    assert re.search(r"a_hela\.raw +\S+ \S+ +5,000 ", text)
    wide = "\n".join(_in_a_terminal(monkeypatch, path, ["files", "--wide"], columns=400))
    assert LONG in wide


def _in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, path: Path, *commands: list[str], columns: int
) -> list[str]:
    """What commands print into a terminal of this width, without colours."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, slave = pty.openpty()
    chunks: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(master, 65536):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as patch, open(slave, "w", encoding="utf-8") as terminal:
        patch.setattr(sys, "stdout", terminal)
        for command in commands:
            main(["--config", str(path), *command], standalone_mode=False)
    reader.join()
    os.close(master)
    content = b"".join(chunks)
    assert b"\x1b[" in content  # a status has its colour
    text = re.sub(r"\x1b\[[0-9;]*m", "", content.decode())
    return text.replace("\r", "").splitlines()


def test_show_is_in_an_order_for_people_with_units(kraken: Kraken) -> None:
    text = kraken("show", "c.raw").stdout
    order = [text.index(word) for word in ("status", "acquired", "size", "backup", "metrics")]
    assert order == sorted(order)
    assert re.search(r"proteins +5,002\n", text)
    assert "collision_flag" not in text
    assert "collision_flag" in kraken("show", "c.raw", "--all").stdout


def test_completion_knows_commands_and_the_configured_instruments(
    path: Path, kraken: Kraken, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "_KRAKEN_COMPLETE" in kraken("completion", "bash").stdout
    monkeypatch.setenv("_KRAKEN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"kraken --config {path} files --instrument th")
    monkeypatch.setenv("COMP_CWORD", "5")
    found = click.testing.CliRunner().invoke(main, [], prog_name="kraken")
    assert found.stdout.splitlines() == ["plain,thermo1"]
