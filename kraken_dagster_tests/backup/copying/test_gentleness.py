"""Copies that leave an instrument to what needs it more: by the hour, and by their I/O priority."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kraken_dagster.backup.pace import limit_of_the_hour
from kraken_dagster.config.loader import load_config
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs import io_priority as priorities
from kraken_dagster.fs.io_priority import get_priority, io_priority
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster_tests.backup.copying.copying_cases import content, make
from kraken_dagster_tests.backup.copying.test_copying_rate import FakeTime

_DAY_AND_NIGHT = """
copy_mb_per_s: 100
copy_timezone: Europe/Berlin
copy_hours:
- {begin: "08:00", end: "18:00", mb_per_s: 20}
- {begin: "22:30", end: "06:00", mb_per_s: null}
"""
_CONFIG = """
home: h
locations: {instruments: i, backup: b, output: o}
instruments: {thermo1: {type: thermo}}
defaults:
"""


def configured(folder: Path, defaults: str) -> KrakenConfig:
    path = folder / "instruments.yaml"
    path.write_text(_CONFIG + "".join(f"  {line}\n" for line in defaults.strip().splitlines()))
    return load_config(path, environment={})


@pytest.mark.parametrize(
    ("at", "expected"),
    [  # in UTC, an hour behind Berlin in winter and two in summer
        (datetime(2026, 1, 10, 6, 59, tzinfo=UTC), 100),
        (datetime(2026, 1, 10, 7, 0, tzinfo=UTC), 20),
        (datetime(2026, 1, 10, 16, 59, tzinfo=UTC), 20),
        (datetime(2026, 1, 10, 17, 0, tzinfo=UTC), 100),
        (datetime(2026, 1, 10, 21, 29, tzinfo=UTC), 100),
        (datetime(2026, 1, 10, 21, 30, tzinfo=UTC), None),
        (datetime(2026, 1, 10, 23, 0, tzinfo=UTC), None),
        (datetime(2026, 1, 11, 4, 59, tzinfo=UTC), None),
        (datetime(2026, 1, 11, 5, 0, tzinfo=UTC), 100),
        (datetime(2026, 7, 10, 6, 0, tzinfo=UTC), 20),
        (datetime(2026, 7, 10, 16, 0, tzinfo=UTC), 100),
    ],
)
def test_each_hour_has_its_limit_past_midnight_too(tmp_path: Path, at: datetime, expected) -> None:
    entry = configured(tmp_path, _DAY_AND_NIGHT).instrument("thermo1")
    assert limit_of_the_hour(entry, at) == expected


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (
            [
                'begin: "08:00", end: "18:00", mb_per_s: 2',
                'begin: "17:00", end: "20:00", mb_per_s: 3',
            ],
            "expected hours that don't overlap; 08:00 to 18:00 and 17:00 to 20:00 do",
        ),
        (
            [
                'begin: "22:00", end: "06:00", mb_per_s: 2',
                'begin: "05:00", end: "07:00", mb_per_s: 3',
            ],
            "expected hours that don't overlap; 22:00 to 06:00 and 05:00 to 07:00 do",
        ),
        (
            [
                'begin: "22:00", end: "06:00", mb_per_s: 2',
                'begin: "23:00", end: "05:00", mb_per_s: 3',
            ],
            "expected hours that don't overlap",
        ),
        (['begin: "08:00", end: "08:00", mb_per_s: 2'], "expected two different times"),
        (['begin: "8:00", end: "18:00", mb_per_s: 2'], "copy_hours.0.begin"),
        (['begin: "08:00", end: "24:00", mb_per_s: 2'], "copy_hours.0.end"),
        (['begin: "08:00", end: "18:00", mb_per_s: 0'], "copy_hours.0.mb_per_s"),
        (['begin: "08:00", end: "18:00"'], "copy_hours.0.mb_per_s"),
    ],
)
def test_hours_that_can_not_be_are_refused_in_words(tmp_path: Path, hours, words) -> None:
    lines = "copy_hours:\n" + "".join(f"- {{{item}}}\n" for item in hours)
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, lines)
    assert words in str(caught.value)


def test_hours_may_follow_one_another(tmp_path: Path) -> None:
    found = configured(
        tmp_path,
        'copy_hours:\n- {begin: "20:00", end: "06:00", mb_per_s: 9}\n'
        '- {begin: "06:00", end: "20:00", mb_per_s: 1}\n',
    )
    assert len(found.instrument("thermo1").copy_hours) == 2


@pytest.mark.parametrize(
    ("text", "expected"), [("yes", "yes"), ("no", "no"), ("limited", "limited"), ('"no"', "no")]
)
def test_yes_and_no_are_words_although_yaml_has_others_for_them(tmp_path, text, expected) -> None:
    found = configured(tmp_path, f"copy_while_acquiring: {text}\n").instrument("thermo1")
    assert found.copy_while_acquiring == expected


@pytest.mark.parametrize("text", ["8", "-1", "no", "realtime", "1.5"])
def test_no_other_priority_is_taken(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="copy_ionice"):
        configured(tmp_path, f"copy_ionice: {text}\n")


@pytest.mark.parametrize(("before", "after"), [(20.0, 2.0), (2.0, 20.0), (2.0, None)])
def test_a_copy_that_runs_follows_the_clock_into_other_hours(
    tmp_path: Path, before: float, after: float | None
) -> None:
    """The clock is moved while the copy waits; nothing is begun anew for it."""
    case, time = make(tmp_path, Vendor.THERMO), FakeTime()
    size = (case.source / case.name).stat().st_size
    options = SimpleNamespace(
        copy_hours=[
            SimpleNamespace(
                times=(clock_time(8), clock_time(18)),
                mb_per_s=after and after / 1e3,
            )
        ],
        copy_zone=UTC,
        copy_mb_per_s=before / 1e3,
    )
    begin = datetime(2026, 1, 10, 7, 59, 58, tzinfo=UTC)

    def rate() -> float | None:
        return limit_of_the_hour(options, begin + timedelta(seconds=time.now))

    limit = RateLimit(rate, clock=time.clock, sleep=time.sleep)
    result = case.run(rate_limit=limit, threads=1)
    assert (result.copied, content(case.final)) == (1, content(case.source / case.name))
    until_then = 2 * before * 1e3  # bytes of the two seconds before eight o'clock
    rest = 0.0 if after is None else (size - until_then) / after / 1e3
    assert time.now == pytest.approx(2 + rest, abs=1)  # naps are of a second at most


_CHILD = """
import json, os, sys, threading
from pathlib import Path
from kraken_dagster.fs.copying.overlapped import CopySizes
from kraken_dagster.fs.io_priority import get_priority
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster_tests.backup.copying.copying_cases import Copying
case = Copying(Vendor.THERMO, Path(sys.argv[1]), Path(sys.argv[2]))
wanted = json.loads(sys.argv[3])
seen, told, asked = {}, threading.Event(), []
real = {name: getattr(os, name) for name in ("readv", "preadv", "write")}
def noted(name):
    def call(*arguments):
        seen.setdefault(threading.get_ident(), set()).add(get_priority())
        return real[name](*arguments)
    return call
def bystander():
    told.wait()
    asked.append(get_priority())
other = threading.Thread(target=bystander)
other.start()
before = get_priority()
for name in real:
    setattr(os, name, noted(name))
case.run(ionice=wanted)
for name in real:
    setattr(os, name, real[name])
told.set()
other.join()
print(json.dumps({
    "threads": len(seen),
    "copying": sorted({value for values in seen.values() for value in values}),
    "before": before, "after": get_priority(), "bystander": asked[0],
    "of the process": get_priority(),
}))
"""


@pytest.mark.parametrize(
    ("wanted", "number"), [("idle", 3 << 13), (7, 2 << 13 | 7), (0, 2 << 13), (None, None)]
)
def test_only_the_copying_threads_have_the_priority_and_the_kernel_says_so(
    tmp_path: Path, wanted, number
) -> None:
    """In a child of its own, of a file that is copied by four threads."""
    case = make(tmp_path, Vendor.THERMO)
    with (case.source / case.name).open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    command = [sys.executable, "-c", _CHILD, case.source, case.target, json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["threads"] >= 3
    assert found["copying"] == [found["before"] if number is None else number]
    assert found["after"] == found["bystander"] == found["before"]
    assert (case.target / case.name).stat().st_size == 17 * 1024 * 1024


def test_the_priority_is_given_back_when_a_copy_fails() -> None:
    before = get_priority()
    assert before is not None
    seen: list[int | None] = []

    def fails() -> None:
        with io_priority("idle"):
            seen.append(get_priority())
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fails()
    assert (seen, get_priority()) == ([3 << 13], before)


@pytest.mark.parametrize("answer", [lambda *_: -1, lambda *_: None])
def test_where_the_kernel_refuses_the_copy_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., int | None]
) -> None:
    monkeypatch.setattr(priorities, "_call", answer)
    case = make(tmp_path, Vendor.THERMO)
    assert case.run(ionice="idle").copied == 1
    assert os.path.getsize(case.final) == 300_000
