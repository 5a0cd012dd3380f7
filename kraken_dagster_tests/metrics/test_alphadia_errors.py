"""Why an AlphaDIA search failed, read from files in whatever state they were left behind."""

import errno
import json
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kraken_dagster.metrics import alphadia_errors
from kraken_dagster.metrics.alphadia_errors import (
    COULD_NOT_DETERMINE_ERROR,
    EVENTS_BYTES,
    LINE_BYTES,
    LOG_BYTES,
    MAX_CODES,
    MAX_STEMS,
    NO_LOG_FILE,
    UNKNOWN_ERROR,
    error_codes,
    log_error,
)
from kraken_dagster.model.errors import OutputUnreadable

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CODES = [*alphadia_errors._NAMES, *(code for code, _ in alphadia_errors._TEXTS)]


def exception(code: Any) -> bytes:
    return json.dumps({"name": "exception", "error_code": code}).encode() + b"\n"


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_events(folder: Path, *lines: bytes, stem: str = "r") -> Path:
    return write(folder, f"quant/{stem}/events.jsonl", b"".join(lines))


def write_sparse(folder: Path, name: str, size: int, end: bytes) -> None:
    """A file that ends with `end`, behind zeros that take no room."""
    path = write(folder, name, b"")
    with path.open("wb") as file:
        file.seek(size)
        file.write(end)


@contextmanager
def little_memory(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", alphadia_errors._NAMES)
def test_each_name_is_reported_as_itself(name: str) -> None:
    assert log_error(f"0:01:02.3 ERROR: {name}: No psm files accumulated\n'x'\n") == name
    assert log_error(f"ERROR {name}") == name
    assert log_error(f"ERROR {name}S") == log_error(f"ERROR X_{name}") == UNKNOWN_ERROR


@pytest.mark.parametrize(("code", "text"), alphadia_errors._TEXTS)
def test_each_text_has_its_code(code: str, text: str) -> None:
    line = text if text.startswith("ERROR") else f"ERROR: ValueError {text}, sorry"
    assert log_error(f"INFO: begun\n0:01:02.3 {line}\nINFO: done\n") == code


def test_a_text_of_several_lines_of_any_system() -> None:
    assert log_error("ERROR: TOO_FEW_PSM\r\nINFO: 1\rINFO: 2\r\n") == "TOO_FEW_PSM"
    assert log_error("ERROR: odd\rERROR: RunHeaderEx") == "_RUN_HEADER_EX"
    assert log_error("ERROR: TOO_FEW\x85_PSM") == UNKNOWN_ERROR


@PATIENT
@given(st.text())
def test_any_text_gives_a_code(text: str) -> None:
    assert log_error(text) in {UNKNOWN_ERROR, COULD_NOT_DETERMINE_ERROR, *CODES}


@PATIENT
@given(st.text(alphabet="ab \n"), st.sampled_from(alphadia_errors._NAMES), st.text("ab \n"))
def test_what_stands_around_the_error_does_not_matter(before: str, name: str, after: str) -> None:
    assert log_error(f"{before}\nERROR: {name}\n{after}") == name


@PATIENT
@given(content=st.binary())
def test_any_events_and_any_log_give_sane_codes(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("result")
    write_events(folder, content)
    write(folder, "log.txt", content)
    assert all(code.isprintable() and 0 < len(code) <= 64 for code in error_codes(folder))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@PATIENT
@given(lines=st.lists(json_values), code=json_values)
def test_any_json_gives_sane_codes(
    lines: list[Any], code: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("result")
    write_events(folder, *(json.dumps(line).encode() + b"\n" for line in lines), exception(code))
    (found,) = error_codes(folder)
    assert found.isprintable()
    assert 0 < len(found) <= 64
    if not isinstance(code, str):
        assert found == NO_LOG_FILE


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (" A \n", "A"),
        ("A\x00B\x1b[31m\u202eC\ud800", "AB[31mC"),
        ("x" * 65, "x" * 64),
        pytest.param("x" * 500_000, "x" * 64, id="500,000 characters"),
        ("\n\t ", NO_LOG_FILE),
        ("\x00", NO_LOG_FILE),
        ("", NO_LOG_FILE),
        (None, NO_LOG_FILE),
        (7, NO_LOG_FILE),
        (["A"], NO_LOG_FILE),
        ({"A": 1}, NO_LOG_FILE),
    ],
)
def test_a_code_is_made_fit_to_be_shown(tmp_path: Path, code: object, found: str) -> None:
    write_events(tmp_path, exception(code))
    assert error_codes(tmp_path) == [found]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nothing",
        b"[]",
        b"3",
        b"null",
        b'"exception"',
        b'{"name": "exception", "error_code": "CUT',
        b'{"name": ["exception"], "error_code": "X"}',
        b"\xff\xfe",
        b"\x00" * 100,
        b"[" * 100_000,
        b"1" * 10_000,
        b'{"name": "exception", "error_code": "X", "value": "' + b"x" * LINE_BYTES + b'"}',
        b"x" * (3 * LINE_BYTES),
        b"x" * LINE_BYTES,
        b"x" * (LINE_BYTES - 1),
    ],
    ids=lambda line: repr(line[:40]),
)
def test_a_bad_line_costs_only_itself(tmp_path: Path, line: bytes) -> None:
    write_events(tmp_path, exception("A"), line + b"\n", exception("B"), line)
    assert error_codes(tmp_path) == ["A", "B"]


def test_a_value_that_is_no_utf_8_leaves_its_code_readable(tmp_path: Path) -> None:
    write_events(tmp_path, b'{"name": "exception", "value": "\xe4", "error_code": "A"}')
    assert error_codes(tmp_path) == ["A"]


def test_several_raw_files_come_by_name(tmp_path: Path) -> None:
    write_events(tmp_path, exception("B1"), exception("B2"), stem="b")
    write_events(tmp_path, exception("A"), stem="a")
    write_events(tmp_path, stem="0")
    assert error_codes(tmp_path) == ["A", "B1", "B2"]


def test_only_so_many_codes_and_raw_files_are_read(tmp_path: Path) -> None:
    write_events(tmp_path, exception("A") * (MAX_CODES + 1))
    assert error_codes(tmp_path) == ["A"] * MAX_CODES
    for number in range(MAX_STEMS):
        (tmp_path / "quant" / f"{number:03}").mkdir()
    assert error_codes(tmp_path) == [NO_LOG_FILE]


def test_of_huge_files_only_the_end_is_read(tmp_path: Path) -> None:
    huge = 20 * 1024**3
    write_sparse(tmp_path, "log.txt", huge, b"\nERROR: TOO_FEW_PSM\n" + b"x" * 1000)
    with little_memory(10 * LOG_BYTES):
        assert error_codes(tmp_path) == ["TOO_FEW_PSM"]
        write_sparse(tmp_path, "quant/r/events.jsonl", huge, b"\n" + exception("A"))
        assert error_codes(tmp_path) == ["A"]


def test_an_event_that_the_end_begins_within_is_left_out(tmp_path: Path) -> None:
    inner = exception("WITHIN")
    filler = b"x" * 999 + b"\n"
    many = filler * (EVENTS_BYTES // len(filler) - 1)
    rest = EVENTS_BYTES - len(inner) - len(many) - len(exception("A"))
    write_events(tmp_path, b"a" * 50, inner, b"y" * (rest - 1) + b"\n", many, exception("A"))
    assert error_codes(tmp_path) == ["A"]


def test_an_error_far_from_the_end_of_a_log_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, "log.txt", b"ERROR: TOO_FEW_PSM\n" + b"INFO\n" * (LOG_BYTES // 5))
    assert error_codes(tmp_path) == [COULD_NOT_DETERMINE_ERROR]


def test_a_log_that_is_no_utf_8(tmp_path: Path) -> None:
    write(tmp_path, "log.txt", b"\xff\xfe\nERROR \xe4: TOO_FEW_PSM \x80\n\xc3")
    assert error_codes(tmp_path) == ["TOO_FEW_PSM"]


def test_no_folder_has_no_log(tmp_path: Path) -> None:
    assert error_codes(tmp_path / "nowhere") == [NO_LOG_FILE]
    assert error_codes(write(tmp_path, "file", b"")) == [NO_LOG_FILE]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_there(tmp_path: Path, make: Any) -> None:
    (tmp_path / "quant/r").mkdir(parents=True)
    make(tmp_path / "quant/r/events.jsonl")
    make(tmp_path / "log.txt")
    write(tmp_path, "quant/a_file", b"")
    open_files = len(os.listdir("/proc/self/fd"))
    assert error_codes(tmp_path) == [NO_LOG_FILE]
    assert len(os.listdir("/proc/self/fd")) == open_files


@pytest.mark.parametrize("name", ["os.open", "_seek_last"])
def test_what_may_not_or_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    write_events(tmp_path, exception("A"))
    write(tmp_path, "log.txt", b"ERROR: TOO_FEW_PSM")
    with monkeypatch.context() as patch:
        patch.setattr(f"kraken_dagster.metrics.alphadia_errors.{name}", fail)
        assert error_codes(tmp_path) == [COULD_NOT_DETERMINE_ERROR]


def test_a_share_in_trouble_says_nothing_of_why_a_search_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    write_events(tmp_path, exception("A"))
    with monkeypatch.context() as patch:
        patch.setattr("kraken_dagster.metrics.alphadia_errors.os.open", fail)
        with pytest.raises(OutputUnreadable):
            error_codes(tmp_path)


@pytest.mark.parametrize("link", ["quant", "quant/r", "quant/r/events.jsonl", "log.txt"])
def test_no_link_leads_out_of_the_folder(tmp_path: Path, link: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "result"
    write_events(outside, exception("SECRET"))
    write(outside, "log.txt", b"ERROR: TOO_FEW_PSM")
    (folder / link).parent.mkdir(parents=True)
    (folder / link).symlink_to(outside / link)
    assert error_codes(folder) == [NO_LOG_FILE]


def test_links_within_the_folder_and_to_it_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    write(folder, "events/r.jsonl", exception("A"))
    (folder / "quant/r").mkdir(parents=True)
    (folder / "quant/r/events.jsonl").symlink_to("../../events/r.jsonl")
    (folder / "quant/loop").symlink_to("loop")
    (tmp_path / "link").symlink_to(folder)
    assert error_codes(folder) == error_codes(tmp_path / "link") == ["A"]
