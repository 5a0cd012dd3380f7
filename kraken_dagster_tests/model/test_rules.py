"""Names, ids and paths: rules that hold for any text whatever, beyond the cases of `cases/`."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from kraken_dagster.model.errors import UnsafePath
from kraken_dagster.model.files.file_ids import (
    collision_flag,
    partition_key,
    raw_file_id,
    raw_file_id_of,
)
from kraken_dagster.model.files.vendors import (
    MAX_NAME_BYTES,
    RULES,
    Vendor,
    backup_mapping,
    members,
    safe_relative,
)
from kraken_dagster_tests.support.helpers import NOW

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Text with what partition keys, shells and paths trip over, more often than by chance.
NASTY = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.sampled_from(["...", "%enc:", "%2E", "\n", "..", "/", "$(x)", "'", '"', ";"]),
    )
).map("".join)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SCIEX_STEMS = ["s", "s.1", "s.1.1", "s.wiff", "s.timeseries", "t"]
SCIEX_ENDINGS = [".wiff", ".wiff2", ".wiff.scan", ".timeseries.data", ".notes", ".1.notes"]
SCIEX_NAMES = [stem + ending for stem in SCIEX_STEMS for ending in SCIEX_ENDINGS]


@PATIENT
@given(NASTY)
@example("....")
@example("%enc:")
@example("a\x85b\u2028c")
def test_a_partition_key_leads_back_to_its_raw_file_id(file_id: str) -> None:
    key = partition_key(file_id)
    assert raw_file_id_of(key) == file_id
    assert "..." not in key
    assert key.isprintable()


@PATIENT
@given(NASTY, NASTY)
@example("a\n", "%enc:a%0A")
def test_two_raw_files_never_have_one_partition_key(one: str, other: str) -> None:
    assume(one != other)
    assert partition_key(one) != partition_key(other)


@pytest.mark.parametrize("file_id", ["x.raw", "ä b'$(c);.d", "..x..raw", "%2E.raw"])
def test_a_partition_key_is_the_raw_file_id_itself_wherever_dagster_takes_it(file_id: str) -> None:
    assert partition_key(file_id) == file_id


@st.composite
def names_of_a_vendor(draw: st.DrawFn) -> tuple[Vendor, str]:
    """Any name that a file system takes, those near the limit of 255 bytes more often."""
    vendor = draw(st.sampled_from(Vendor))
    filler = draw(st.sampled_from(["x", "é", "質", "🧪"])) * draw(st.integers(0, 255))
    room = MAX_NAME_BYTES - len(RULES[vendor].extension)
    stem = (draw(NASTY).replace("/", "") + filler).encode()[:room].decode(errors="ignore")
    return vendor, (stem or "x") + RULES[vendor].extension


@PATIENT
@given(names_of_a_vendor(), MOMENTS)
def test_an_id_fits_into_a_file_system_and_keeps_flag_and_extension(
    name: tuple[Vendor, str], moment: datetime
) -> None:
    rules, flag = RULES[name[0]], collision_flag(moment)
    file_id = raw_file_id(rules, name[1], flag)
    assert len(file_id.encode()) <= MAX_NAME_BYTES
    assert file_id.startswith(flag)
    assert rules.matches(file_id)
    assert raw_file_id(rules, name[1], None) == name[1]


@PATIENT
@given(names_of_a_vendor(), MOMENTS, MOMENTS)
def test_each_collision_has_an_id_of_its_own(
    name: tuple[Vendor, str], one: datetime, other: datetime
) -> None:
    assume(one != other)
    flags = None, collision_flag(one), collision_flag(other)
    assert len({raw_file_id(RULES[name[0]], name[1], flag) for flag in flags}) == 3


@pytest.mark.parametrize("vendor", Vendor)
def test_names_that_differ_at_the_end_only_keep_ids_of_their_own(vendor: Vendor) -> None:
    endings = [letter + RULES[vendor].extension for letter in "abc"]
    names = ["x" * (MAX_NAME_BYTES - len(ending)) + ending for ending in endings]
    assert len({raw_file_id(RULES[vendor], name, collision_flag(NOW)) for name in names}) == 3


@PATIENT
@given(st.integers(1, 239), MOMENTS)
def test_a_sciex_companion_fits_into_a_file_system_too(length: int, moment: datetime) -> None:
    name = "x" * length + ".wiff"
    there = [name, f"{name}.scan", f"{name}2", "x" * length + ".timeseries.data"]
    file_id = raw_file_id(RULES[Vendor.SCIEX], name, collision_flag(moment))
    targets = backup_mapping(Vendor.SCIEX, file_id, name, there).values()
    assert len(targets) == 4
    assert max(len(target) for target in targets) <= MAX_NAME_BYTES


@PATIENT
@given(NASTY)
@example("a/../b")
@example("a/..")
@example("./a")
@example("a\0")
def test_a_path_stays_where_it_is_put_or_is_refused(path: str) -> None:
    parts = path.split("/")
    escapes = "\0" in path or any(part in ("", ".", "..") for part in parts)
    try:
        safe = safe_relative(path)
    except UnsafePath:
        assert escapes
    else:
        assert not escapes
        assert (str(safe), list(safe.parts)) == (path, parts)


@pytest.mark.parametrize("vendor", Vendor)
def test_no_id_leads_a_backup_out_of_its_folder(vendor: Vendor) -> None:
    name = f"x{RULES[vendor].extension}"
    there = [name, f"{name}/{RULES[vendor].main_file_in_folder}"]
    assert backup_mapping(vendor, name, name, there)
    for hostile in ("../" + name, "/" + name, "a/../../" + name):
        with pytest.raises(UnsafePath):
            backup_mapping(vendor, hostile, name, there)


@PATIENT
@given(st.sets(st.sampled_from(SCIEX_NAMES)))
def test_a_sciex_file_belongs_to_one_acquisition_at_most(there: set[str]) -> None:
    mains = [name for name in there if name.endswith(".wiff")]
    owned = {main: members(Vendor.SCIEX, main, there) for main in mains}
    everything = [name for names in owned.values() for name in names]
    assert len(everything) == len(set(everything))
    for main, names in owned.items():
        assert main in names
        assert all(name.startswith(main.removesuffix(".wiff") + ".") for name in names)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["s.wiff", "s.notes", "s.1.notes"], ["s.1.notes", "s.notes", "s.wiff"]),
        (["s.wiff", "s.1.wiff", "s.1.notes"], ["s.wiff"]),
        (["s.wiff", "s.1.wiff.scan"], ["s.wiff"]),
        (["s.wiff", "s2.notes", "notes", "t.s.wiff.scan"], ["s.wiff"]),
        (["s.wiff", "s.WIFF.SCAN", "s.folder/x"], ["s.WIFF.SCAN", "s.wiff"]),
    ],
)
def test_the_longest_stem_owns_a_sciex_file(there: list[str], expected: list[str]) -> None:
    assert members(Vendor.SCIEX, "s.wiff", there) == expected
