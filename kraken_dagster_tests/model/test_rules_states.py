"""Statuses, the monitor's memory, job commands and sizes: rules beyond the cases of `cases/`."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kraken_dagster.model.errors import SettingsRefused, UnsafePath
from kraken_dagster.model.files.acquisition import Timing, Verdict, Watch, observe
from kraken_dagster.model.files.known_file import KnownFile
from kraken_dagster.model.files.vendors import RULES, Vendor
from kraken_dagster.model.jobs.job import job_name
from kraken_dagster.model.printable import printable
from kraken_dagster.model.raw_file import (
    FINAL,
    FileFact,
    InstrumentFileStatus,
    Status,
    short_details,
)
from kraken_dagster.model.settings import Settings
from kraken_dagster.model.transitions import ASKED_AGAIN, may_become
from kraken_dagster.quant.command import JobPaths, job_command
from kraken_dagster_tests import conformance
from kraken_dagster_tests.conftest import SHARED
from kraken_dagster_tests.support.helpers import NOW, record

CASES = [Path(__file__).parents[1] / "cases" / "own.json", SHARED / "cases" / "cases.json"]
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Values with what shells and templates trip over, more often than by chance.
HOSTILE = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.sampled_from(["$(x)", "`x`", "'", '"', ";", "&&", "\n", " ", "\\", "RAW_FILE_ID"]),
    )
).map("".join)


def followers(status: Status) -> set[Status]:
    return {other for other in Status if may_become(status, other)}


@pytest.mark.parametrize("status", sorted(set(Status) - FINAL))
def test_what_is_not_final_goes_on_and_may_fail(status: Status) -> None:
    assert Status.ERROR in followers(status)
    assert followers(status) - {Status.ERROR, status}


@pytest.mark.parametrize("status", sorted(FINAL))
def test_what_is_final_is_only_left_when_asked_again(status: Status) -> None:
    by_itself = {status, Status.ERROR}  # a backup can be found damaged years later
    assert followers(status) - by_itself == ASKED_AGAIN[status]
    assert ASKED_AGAIN[status]


def test_every_status_can_come_about_and_every_file_can_end_without_an_error() -> None:
    reached, todo = set(), {Status.QUEUED_FOR_MONITORING}
    while todo:
        reached |= todo
        todo = {new for old in todo - FINAL for new in followers(old)} - reached
    assert reached == set(Status) - {Status.COMPUTING_MSQC}  # which only AlphaKraken has written
    good = FINAL - {Status.ERROR}
    for _ in Status:
        good |= {old for old in set(Status) - FINAL if followers(old) & good}
    assert good == set(Status) - {Status.ERROR}


def acquisition_cases() -> list[Any]:
    found = [case for path in CASES if path.exists() for case in json.loads(path.read_text())]
    chosen = [case for case in found if case["group"] == "acquisition"]
    return [pytest.param(case["input"], id=case["name"]) for case in chosen]


def through_the_store(watch: Watch) -> Watch:
    """What MongoDB would give back after a restart."""
    encoded = bson.encode(watch.to_record())
    return Watch.from_record(bson.decode(encoded, CodecOptions(tz_aware=True, tzinfo=UTC)))


def replay(case: Mapping[str, Any], remember: Callable[[Watch], Watch]) -> Sequence[Verdict]:
    """Every verdict of a case of the group `acquisition`; `remember` is asked between two looks."""
    vendor, name = Vendor(case["instrument_type"]), case["raw_file"]
    first_seen: dict[str, datetime] = {}
    verdicts: list[Verdict] = []
    for step in case["steps"]:
        now = NOW + timedelta(minutes=step["t_min"])
        folder = conformance._folder_scan(
            vendor, step["files"], case.get("ctimes", {}), first_seen, now
        )
        there = name in folder and folder[name].main_size_bytes is not None
        seen = folder.get(name)
        begun = Watch.begin(now, main_file_seen=there, seen=seen)
        last = verdicts[-1].watch if verdicts else begun
        old = case.get("consider_old", False)
        verdict = observe(
            remember(last),
            name,
            vendor=vendor,
            folder=folder,
            first_seen=first_seen,
            now=now,
            timing=Timing(),
            consider_old=old,
        )
        verdicts.append(verdict)
    return verdicts


@pytest.mark.parametrize("case", acquisition_cases())
def test_a_restart_between_two_looks_loses_nothing(case: Mapping[str, Any]) -> None:
    assert replay(case, through_the_store) == replay(case, lambda watch: watch)


PLACEHOLDERS = {
    "RAW_FILE_PATH": "raw_file",
    "RELATIVE_RAW_FILE_PATH": "relative_raw_file",
    "OUTPUT_PATH": "output",
    "RELATIVE_OUTPUT_PATH": "relative_output",
    "SETTINGS_PATH": "settings",
}


@PATIENT
@given(
    st.fixed_dictionaries(dict.fromkeys(PLACEHOLDERS.values(), HOSTILE)),
    HOSTILE,
    HOSTILE,
    st.lists(st.sampled_from([*PLACEHOLDERS, "RAW_FILE_ID", "PROJECT_ID", "NUM_THREADS"])),
    st.text("abc -='\"$;&|", max_size=6),
)
def test_a_value_stays_within_its_argument_and_is_never_read_again(
    paths: dict[str, str], file_id: str, project: str, placeholders: list[str], around: str
) -> None:
    values = {name: paths[field] for name, field in PLACEHOLDERS.items()}
    values |= {"RAW_FILE_ID": file_id, "PROJECT_ID": project, "NUM_THREADS": "3"}
    parameters = shlex.join(around + name + around for name in placeholders)
    settings = Settings(name="n", software="p", config_params=parameters, num_threads=3)
    found = job_command(
        settings, JobPaths(software_base="/sw", **paths), raw_file_id=file_id, project_id=project
    )
    assert found == ["/sw/p", *(around + values[name] + around for name in placeholders)]


@pytest.mark.parametrize("software", ["../evil", "/bin/sh", "a/../../evil", ""])
def test_a_program_lies_below_the_folder_of_programs(software: str) -> None:
    paths = JobPaths("r", "r", "o", "o", "s", "/sw")
    settings = Settings(name="n", software=software)
    with pytest.raises(UnsafePath):
        job_command(settings, paths, raw_file_id="x.raw", project_id="P")


def test_parameters_that_can_not_be_split_are_refused() -> None:
    settings = Settings(name="n", software="p", config_params="--one 'two")
    with pytest.raises(SettingsRefused, match="--one 'two"):
        job_command(
            settings, JobPaths("r", "r", "o", "o", "s", "/sw"), raw_file_id="x", project_id="P"
        )


@PATIENT
@given(HOSTILE, HOSTILE)
def test_a_job_s_name_is_plain_and_its_file_s_own(one: str, other: str) -> None:
    assume(one != other)
    settings = Settings(name="fast_1", software="p", version=2)
    elsewhere = record(one, created_at_=NOW + timedelta(milliseconds=1))
    cases = [(record(one), 1), (record(one), 2), (record(other), 1), (elsewhere, 1)]
    names = [job_name(file, settings, attempt) for file, attempt in cases]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"kraken-[A-Za-z0-9_-]{1,90}", name) for name in names)
    assert job_name(record(one), settings, 1) == names[0]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "$(x)", "a" * 65, "ä"])
def test_a_settings_name_that_is_not_plain_names_no_job(name: str) -> None:
    with pytest.raises(SettingsRefused, match="settings' name"):
        job_name(record(), Settings(name=name, software="p"), 1)


@PATIENT
@given(st.text() | st.text(min_size=600))
def test_details_fit_into_one_line_of_the_document(text: str) -> None:
    short = short_details(text)
    assert len(short) <= 512
    assert len(short.splitlines()) <= 1
    line = printable(" ".join(text.split()))
    assert len(line) > 512 or short == line


FACT = FileFact(size=70, md5="0" * 32)
HANDLED = {"acquisition": {"began_at": NOW}}


@pytest.mark.parametrize(
    ("vendor", "fields", "expected"),
    [
        (Vendor.THERMO, {"file_info": {"x.raw": FACT}, "size": 99}, 70),
        (Vendor.BRUKER, {"file_info": {"x.d/analysis.tdf_bin": FACT, "x.d/a": FACT}}, 70),
        (Vendor.SCIEX, {"file_info": {"x.wiff.scan": FACT, "i/x.wiff": FACT}, "size": 140}, 70),
        (Vendor.BRUKER, {"file_info": {"x.d/analysis.tdf": FACT}, **HANDLED}, None),
        (Vendor.THERMO, {"file_info": {"yx.raw": FACT}, **HANDLED}, None),
        (Vendor.THERMO, {"size": 99}, 99),
        (Vendor.BRUKER, {"size": 99}, None),
        (Vendor.THERMO, HANDLED, None),
        (Vendor.THERMO, {"status": Status.ERROR, **HANDLED}, None),
        (Vendor.THERMO, {"status": Status.IGNORED, **HANDLED}, -1),
        (Vendor.THERMO, {"status": Status.IGNORED, "acquisition": {"ended_size": 5}}, 5),
        (Vendor.THERMO, {"status": Status.ACQUISITION_FAILED, "acquisition": {"ended_size": 0}}, 0),
    ],
)
def test_the_size_by_which_a_file_is_known_again(
    vendor: Vendor, fields: dict[str, Any], expected: int | None
) -> None:
    name = f"x{RULES[vendor].extension}"
    known = KnownFile.of(record(name, **fields))
    assert known.main_file_size(RULES[vendor]) == expected


@pytest.mark.parametrize("status", InstrumentFileStatus)
def test_what_has_left_the_instrument_is_no_longer_known_by_its_size(
    status: InstrumentFileStatus,
) -> None:
    stays = status in (InstrumentFileStatus.INITIAL, InstrumentFileStatus.NOT_APPLICABLE)
    raw_file = record("x.raw", file_info={"x.raw": FACT}, instrument_file_status=status)
    assert KnownFile.of(raw_file).main_file_size(RULES[Vendor.THERMO]) == (70 if stays else -1)
