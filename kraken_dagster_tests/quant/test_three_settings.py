"""A project with three settings, from simulated acquisitions through Dagster to results: on this
machine, and on a real Slurm cluster.

The programs are shell scripts that write tables in the form of real ones; the one in the place of
conda and AlphaDIA says so in its log.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.projects import Project
from kraken_dagster.model.raw_file import Status
from kraken_dagster.model.settings import Settings
from kraken_dagster.operations.retry import retry
from kraken_dagster.projects import projects as catalog
from kraken_dagster.projects.settings import add_settings
from kraken_dagster.simulation.clock import LabClock
from kraken_dagster.simulation.instruments import Acquisition, SimulatedInstrument
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM
from kraken_dagster_tests.support.dagster_bench import Bench, hastened
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
NAME = "20260301_Astral1_P123_HeLa_001.raw"
OTHER = "20260301_timsTOF1_P123_HeLa_001.d"
CONDA = """#!/bin/sh
# Stands in for `conda run ... alphadia --file RAW --output FOLDER ...`. Nothing is searched.
while [ "$#" -gt 0 ]; do
  case $1 in --file) raw=$2 ;; --output) out=$2 ;; esac
  shift
done
echo '0:00:00.0 PROGRESS: version: 1.7.2 (a stand-in)' >> "$out/log.txt"
printf 'run\\tproteins\\tprecursors\\n%s\\t7000\\t80000\\n' "$(basename "$raw")" > "$out/stat.tsv"
printf 'run\\tduration_optimization\\nr\\t1.5\\n' > "$out/internal.tsv"
printf 'charge\\tproba\\tsequence\\n2\\t0.1\\tPEPTIDEK\\n3\\t0.3\\tAAK\\n' > "$out/precursors.tsv"
"""
QC = """#!/bin/sh
echo 'qc 3.2.1'
if [ -e "$(dirname "$0")/broken" ]; then echo 'the pump is broken'; exit 7; fi
printf 'ms1_scans\\tms2_scans\\n%s\\t5\\n' "$(wc -c < "$1")" > "$2/msqc_results.tsv"
"""
REPORT = """#!/bin/sh
echo report > "$2/report.txt"
"""
SETTINGS = (
    Settings(
        name="search",
        software_type="alphadia",
        software="alphadia-1.7.2",
        metrics_type="alphadia",
        fasta_file_name="human.fasta",
    ),
    Settings(name="qc", software_type="msqc", software="qc", metrics_type="msqc"),
    Settings(name="report", software="report", config_params="RAW_FILE_PATH OUTPUT_PATH"),
)


@pytest.fixture(params=["local", pytest.param("cluster", marks=NEEDS_SLURM)])
def bench(
    request: pytest.FixtureRequest, config: KrakenConfig, store: Store, tmp_path: Path
) -> Iterator[Bench]:
    """The instruments of the tests, and the three settings of a project for one of them."""
    given = config.model_dump(exclude_unset=True)
    root = tmp_path
    if request.param == "cluster":
        root = request.getfixturevalue("cluster_folder")
        cluster = request.getfixturevalue("cluster")
        conda = str(root / "software" / "conda")
        given["engines"] = {"cluster": cluster.entry(mem="20M", cpus=1, conda=conda)}
    else:
        given["engines"] = {"local": {"slots": 4, "conda": str(root / "software" / "conda")}}
    owner = root.stat()
    for name in ("backup", "output", "settings", "software"):
        (root / name).mkdir(exist_ok=True)
        os.chown(root / name, owner.st_uid, owner.st_gid)
        given["locations"][name] = str(root / name)
    made = hastened(KrakenConfig.model_validate(given), engine=request.param)
    with dg.DagsterInstance.ephemeral() as instance:
        bench = Bench(made, store, instance)
        _install(bench, root)
        yield bench


def _install(bench: Bench, root: Path) -> None:
    for name, text in (("conda", CONDA), ("qc", QC), ("report", REPORT)):
        program = root / "software" / name
        program.write_text(text)
        program.chmod(0o755)
    (root / "settings" / "search").mkdir()
    (root / "settings" / "search" / "human.fasta").write_text(">sp|P1\nPEPTIDEK\n")
    services = bench.services
    catalog.add_project(services, Project(id="P123", name="Plasma"))
    for item in SETTINGS:
        added = add_settings(services, item.content)
        catalog.assign(services, "P123", added, excluded=["bruker1", "sciex1"])


def _acquire(bench: Bench, instrument_id: str, name: str) -> None:
    vendor: Any = bench.config.instrument(instrument_id).type.value
    folder = bench.services.instrument_folder(instrument_id)
    plan = Acquisition(name, vendor, minutes=1, size_bytes=50_000)
    SimulatedInstrument(folder, vendor, LabClock(1e6)).acquire(plan)


def _run_until(bench: Bench, name: str, status: Status) -> None:
    """Ticks of all sensors, and the runs that they request."""

    def ended() -> bool:
        for sensor in ("thermo1_watcher", "bruker1_watcher", "cluster_jobs"):
            for request in bench.tick(sensor).run_requests or ():
                bench.run(request)
        known = bench.store.raw_files.known("thermo1", [name]) or bench.store.raw_files.known(
            "bruker1", [name]
        )
        return bool(known) and known[name][0].status is status

    wait_until(ended, f"{name} is {status}", timeout_s=120, every_s=0.2)


def _results(bench: Bench) -> dict[str, dict[str, Any]]:
    return {item["settings_name"]: item for item in bench.store.metrics.of(NAME)}


def test_one_of_three_fails_the_others_are_kept_and_a_rerun_of_it_completes_the_file(bench: Bench):
    software = bench.config.locations.software
    assert software is not None
    (software.path / "broken").touch()
    _acquire(bench, "thermo1", NAME)
    _acquire(bench, "bruker1", OTHER)
    _run_until(bench, NAME, Status.QUANTING_FAILED)
    _run_until(bench, OTHER, Status.DONE_NOT_QUANTED)
    assert bench.file(OTHER).status_details == "No settings configured."
    details = bench.file(NAME).status_details or ""
    assert details.startswith("error while processing: [qc] failed with exit code 7")
    assert "the pump is broken" in details
    assert sorted(_results(bench)) == ["report", "search"]
    assert _results(bench)["search"]["proteins"] == 7000
    shown = bench.materialised("thermo1", "metrics")[NAME]
    assert shown["search: proteins"] == 7000

    (software.path / "broken").unlink()
    retry(bench.services, NAME, asked_by="a person")
    _run_until(bench, NAME, Status.DONE)
    jobs = bench.store.jobs.of(NAME)
    assert sorted((item.settings_name, item.attempt) for item in jobs) == [
        ("qc", 1),
        ("qc", 2),
        ("report", 1),
        ("search", 1),
    ]
    results = _results(bench)
    assert results["qc"]["ms1_scans"] == 50_000
    assert len(bench.store.metrics.of(NAME)) == 3
    _assert_provenance(bench, results)


def _assert_provenance(bench: Bench, results: dict[str, dict[str, Any]]) -> None:
    reported = {name: item["provenance"] for name, item in results.items()}
    engine = bench.config.instrument("thermo1").engine
    assert {item["engine"] for item in reported.values()} == {engine}
    assert reported["search"]["software_version"] == "1.7.2"
    assert reported["qc"]["software_version"] == "3.2.1"
    assert reported["search"]["command"][0] == str(bench.config.engines[engine].conda)
    (fasta,) = reported["search"]["inputs"]
    assert (fasta["role"], fasta["path"], fasta["changed"]) == ("fasta", "human.fasta", False)
    if engine == "cluster":
        assert None not in {item["node"] for item in reported.values()}
    shown = bench.materialised("thermo1", "metrics")[NAME]
    assert shown["qc provenance"]["cluster_job_id"] == reported["qc"]["cluster_job_id"]
    assert shown["qc provenance"]["raw_file"] == reported["qc"]["raw_file"]
