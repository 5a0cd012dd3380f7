"""Runs behaviour as data: python -m kraken_dagster_tests.conformance FILE [FILE ...]

A file is a list of cases `{"group", "name", "input", "expected"}`. A line is printed for each case
that fails, and last `N passed, M failed`; the exit code is 1 if any failed. Paths in a case are
relative to the folder of its file. A group without a function here counts as failed.
"""

import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_dagster.alerts.rules.pump_pressure import rise
from kraken_dagster.alerts.rules.queue_stop import queue_end
from kraken_dagster.alerts.snapshot import FileName, Pressure
from kraken_dagster.engines import slurm_output as slurm
from kraken_dagster.fs.digests import digest
from kraken_dagster.metrics import alphadia_errors
from kraken_dagster.model import eligibility as processing
from kraken_dagster.model import offsite, settings
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.model.files import acquisition, vendors
from kraken_dagster.model.files import folder as discovery
from kraken_dagster.model.files.acquisition import FolderEntry, Timing, Watch
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.jobs import job as quant
from kraken_dagster.model.jobs import resources
from kraken_dagster.model.raw_file import FileFact
from kraken_dagster.model.retention import rules as retention
from kraken_dagster.quant import command as commands
from kraken_dagster.web.table.columns import Table
from kraken_dagster.web.table.selection import select
from kraken_dagster_tests.support.whole_results import whole_metrics

_LAST_WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)  # when watching begins, and all files are there
_ORIGIN = _LAST_WRITTEN - timedelta(days=30)  # from which a case counts when a file was made
_MONTH = "1970_01"
_RELATIVE_TOLERANCE = 1e-12  # sums of floats differ in the last digit with their order


def _project_id(case: Mapping[str, Any], _folder: Path) -> Any:
    return processing.project_id_of(case["raw_file_name"], case["project_ids"])


def _special_characters(case: Mapping[str, Any], _folder: Path) -> Any:
    return processing.count_special_characters(case["raw_file_name"])


def _overwrite_requested(case: Mapping[str, Any], _folder: Path) -> Any:
    return processing.overwrite_requested(
        case["variable"], raw_file_id=case["raw_file_id"], instrument_id=case["instrument_id"]
    )


def _settings_scope(case: Mapping[str, Any], _folder: Path) -> Any:
    entries = [
        processing.ScopedSettings(
            settings=entry["settings"],
            software_type=entry["type"],
            scope=entry["scope"],
            excluded=frozenset(entry.get("excluded") or ()),
            raw_file_id_filter=entry.get("filter"),
        )
        for entry in case["entries"]
    ]
    chosen = processing.settings_in_scope(
        entries,
        instrument_id=case["instrument_id"],
        vendor=case["instrument_type"],
        raw_file_id=case["raw_file_id"],
    )
    return [entry.settings for entry in chosen]


def _decide_processing(case: Mapping[str, Any], _folder: Path) -> Any:
    name = case.get("original_name", case["rid"])
    vendor = next(item for item, rules in vendors.RULES.items() if rules.matches(name))
    decision = processing.decide_processing(
        vendor=vendor,
        raw_file_id=case["rid"],
        original_name=name,
        size_bytes=case.get("size", 1),
        acquisition_errors=case.get("errors", ()),
        skip_processing=case.get("skip", False),
        has_settings=bool(case.get("settings", True)),
    )
    if decision.process:
        return {"process": True}
    return {"process": False, "status": decision.status, "details": decision.details}


def _collision(case: Mapping[str, Any], _folder: Path) -> Any:
    return discovery.is_collision(
        main_file_exists=case["main_file_exists"],
        current_size=case["current_size"],
        sizes_in_db=case["sizes_in_db"],
    )


def _age_criterion(case: Mapping[str, Any], _folder: Path) -> Any:
    age = timedelta(hours=case["age_hours"])
    return processing.meets_age_criterion(age, max_age_hours=float(case["max_age_hours"]))


def _acquisition(case: Mapping[str, Any], _folder: Path) -> Any:
    """Plays the looks as a watcher would: it knows when it first saw each name."""
    vendor, name = Vendor(case["instrument_type"]), case["raw_file"]
    first_seen: dict[str, datetime] = {}
    watch: Watch | None = None
    for step in case["steps"]:
        now = _LAST_WRITTEN + timedelta(minutes=step["t_min"])
        seen = _folder_scan(vendor, step["files"], case.get("ctimes", {}), first_seen, now)
        if watch is None:
            found = seen.get(name)
            there = found is not None and found.main_size_bytes is not None
            watch = Watch.begin(now, main_file_seen=there, seen=found)
            continue
        verdict = acquisition.observe(
            watch,
            name,
            vendor=vendor,
            folder=seen,
            first_seen=first_seen,
            now=now,
            timing=Timing(),
            consider_old=case.get("consider_old", False),
        )
        if verdict.over:
            return {"done_at_min": step["t_min"], "errors": list(verdict.errors)}
        watch = verdict.watch
    return {"done_at_min": None, "errors": None}


def _folder_scan(
    vendor: Vendor,
    files: Mapping[str, int],
    ctimes: Mapping[str, float],
    first_seen: dict[str, datetime],
    now: datetime,
) -> dict[str, FolderEntry]:
    rules = vendors.RULES[vendor]
    entries: dict[str, discovery.Entry] = {}
    for path, size in files.items():
        top, _, below = path.partition("/")
        kind = discovery.Kind.FOLDER if below else discovery.Kind.FILE
        created = _ORIGIN.timestamp() + ctimes.get(top, 0.0)
        is_main = below in rules.main_files
        if not below or top not in entries or is_main:
            entries[top] = discovery.Entry(
                name=top,
                kind=kind,
                size=size,
                mtime=created,
                ctime=created,
                main_size=size if is_main else None,
                main_mtime=created if is_main else None,
                main_ctime=created if is_main else None,
            )
    standing, _ = discovery.sort_out(vendor, list(entries.values()))
    for name in standing:
        first_seen.setdefault(name, now)
    return standing


def _file_mapping(case: Mapping[str, Any], _folder: Path) -> Any:
    vendor = Vendor(case["instrument_type"])
    names = case["raw_file_id"], case["original_name"], case["files"]

    def copy() -> Any:
        mapping = vendors.backup_mapping(vendor, *names)
        return {f"instr/{a}": f"pool/{_MONTH}/{b}" for a, b in mapping.items()}

    def move() -> Any:
        mapping = vendors.move_mapping(vendor, *names)
        return {f"instr/{a}": f"instr/{b}" for a, b in mapping.items()}

    return {"copy": _or_raised(copy), "move": _or_raised(move)}


def _md5(case: Mapping[str, Any], _folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(case["bytes_utf8"].encode())
        return digest(path).md5


def _output_path(case: Mapping[str, Any], _folder: Path) -> Any:
    return processing.output_path(
        case["raw_file_id"],
        project_id=case["project_id"],
        created_at=datetime.fromisoformat(case["created_at"]).replace(tzinfo=UTC),
        software_type=case["software_type"],
    )


def _run_suffix(case: Mapping[str, Any], _folder: Path) -> Any:
    """The suffix tried when the first n of the existing folders are there, for each n."""
    base = case["existing"][0]
    existing = [
        base + name.removeprefix("+") if name != base else base for name in case["existing"]
    ]
    return [
        quant.next_run_folder(base, set(existing[: count + 1])).removeprefix(base)
        for count in range(len(existing))
    ]


def _custom_command(case: Mapping[str, Any], _folder: Path) -> Any:
    chosen = settings.Settings(
        name="n",
        software=case["software"],
        config_params=case["config_params"],
        num_threads=case["threads"],
    )
    paths = commands.JobPaths(
        raw_file=case["raw"],
        relative_raw_file=case["rel_raw"],
        output=case["out"],
        relative_output=case["rel_out"],
        settings=case["settings_path"],
        software_base=case["software_base"],
    )
    command = commands.job_command(
        chosen, paths, raw_file_id=case["raw_file_id"], project_id=case["project"]
    )
    return " ".join(command)


def _status_details(case: Mapping[str, Any], _folder: Path) -> Any:
    return quant.failed_details([(name, error) for name, error in case["errors"]])


def _purge_check(case: Mapping[str, Any], _folder: Path) -> Any:
    recorded = case["file_info"]
    return retention.may_purge(
        instrument=_read_back(case["instrument"]),
        backup=_read_back(case["pool"]),
        recorded=None if recorded is None else FileFact.from_record(recorded),
        hash_check=case["hash_check"],
    )


def _remover_selection(case: Mapping[str, Any], _folder: Path) -> Any:
    if not case["path_exists"]:
        return []
    candidates = [
        retention.Weighed(f"file{number}", problem=size)
        if isinstance(size, str)
        else retention.Weighed(f"file{number}", size=size)
        for number, size in enumerate(case["candidates_gb_oldest_first"])
    ]
    goal = retention.Goal(free=case["free_gb"], wanted=case["min_free_gb"])
    return [item.raw_file_id for item in retention.select(goal, candidates)]


def _table_filter(case: Mapping[str, Any], _folder: Path) -> Any:
    table, given = Table(), case["table"]
    for row, file_id in enumerate(given["index"]):
        table.put(file_id, {name: cells[row] for name, cells in given.items() if name != "index"})
    found = select(table, case["filter"])
    rows = [file_id for file_id, shown in zip(table.ids, found.mask, strict=True) if shown]
    return {"rows": rows, "n_warnings": len(found.warnings)}


def _read_back(text: str | None) -> retention.ReadBack | None:
    if text is None:
        return None
    content = text.encode()
    return retention.ReadBack(len(content), hashlib.md5(content).hexdigest())


def _metrics(case: Mapping[str, Any], folder: Path) -> Any:
    return whole_metrics(case["metrics_type"], folder / case["folder"])


def _slurm_state(case: Mapping[str, Any], _folder: Path) -> Any:
    return slurm.job_state(case["state"]).value


def _slurm_elapsed(case: Mapping[str, Any], _folder: Path) -> Any:
    return resources.elapsed_seconds(case["elapsed"])


def _slurm_id_from_log(case: Mapping[str, Any], _folder: Path) -> Any:
    return slurm.job_id_in_log(case["log.txt"])


def _business_errors(case: Mapping[str, Any], _folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in case["output_files"].items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return alphadia_errors.error_codes(Path(folder))


def _alphadia_log_error(case: Mapping[str, Any], _folder: Path) -> Any:
    return alphadia_errors.log_error(case["log.txt"])


def _queue_stop(case: Mapping[str, Any], _folder: Path) -> Any:
    now = _LAST_WRITTEN
    newest = [
        FileName(name, now - timedelta(minutes=age))
        for name, age in case["newest_first_name_and_age_min"]
    ]
    end = queue_end(
        newest,
        case["users"],
        pauses=case["multiplier"],
        longest_gradient=timedelta(hours=case["max_gradient_h"]),
        now=now,
    )
    if end is None:
        return []
    return [{"id": f"inst1:{end.file}", "kind": end.kind, "user": f"U_{end.user.upper()}"}]


def _pump_pressure(case: Mapping[str, Any], _folder: Path) -> Any:
    newest = [
        Pressure(f"file{number}", bar, gradient)
        for number, (bar, gradient) in enumerate(case["newest_first_pressure_gradient"], start=1)
    ]
    found = rise(newest, window=case["window"], bar=case["threshold_bar"])
    if found is None:
        return {"alert": False, "changes": []}
    younger, older = found.younger, found.older
    return {
        "alert": True,
        "changes": [[found.bar, younger.bar, older.bar, younger.file, older.file]],
    }


def _s3_etag(case: Mapping[str, Any], _folder: Path) -> Any:
    if "digests" in case:
        count, _, rest = case["digests"].partition(" x ")
        byte, _, length = rest.partition("*")
        digests = [bytes.fromhex(byte) * int(length)] * int(count)
    else:
        digests = [hashlib.md5(part.encode()).digest() for part in case["parts_utf8"]]
    return offsite.recorded_etag(offsite.etag_of(digests), part_mb=case["chunk_mb"])


def _s3_bucket(case: Mapping[str, Any], _folder: Path) -> Any:
    try:
        return offsite.bucket_name(case["prefix"], case["project_id"])
    except ConfigError as error:  # AlphaKraken's class is one of Airflow's
        return {"raises": "AirflowFailException", "message": f"{error.what}."}


def _s3_path(case: Mapping[str, Any], _folder: Path) -> Any:
    return list(offsite.split_path(case["path"]))


def _s3_key_prefix(case: Mapping[str, Any], _folder: Path) -> Any:
    name = case["raw_file_id"]
    rules = next(item for item in vendors.RULES.values() if item.matches(name))
    return offsite.key_prefix(
        name,
        instrument_id=case["instrument_id"],
        year_month=datetime.fromisoformat(case["created_at"]).strftime("%Y_%m"),
        has_project=case["has_project"],
        is_grouped=rules.has_companions,
    )


GROUPS: Mapping[str, Callable[[Mapping[str, Any], Path], Any]] = {
    "project_id": _project_id,
    "settings_scope": _settings_scope,
    "special_characters": _special_characters,
    "overwrite_requested": _overwrite_requested,
    "decide_processing": _decide_processing,
    "collision": _collision,
    "age_criterion": _age_criterion,
    "acquisition": _acquisition,
    "file_mapping": _file_mapping,
    "md5": _md5,
    "output_path": _output_path,
    "run_suffix": _run_suffix,
    "custom_command": _custom_command,
    "status_details": _status_details,
    "purge_check": _purge_check,
    "remover_selection": _remover_selection,
    "metrics": _metrics,
    "slurm_state": _slurm_state,
    "slurm_elapsed": _slurm_elapsed,
    "slurm_id_from_log": _slurm_id_from_log,
    "business_errors": _business_errors,
    "alphadia_log_error": _alphadia_log_error,
    "table_filter": _table_filter,
    "queue_stop": _queue_stop,
    "pump_pressure": _pump_pressure,
    "s3_etag": _s3_etag,
    "s3_bucket": _s3_bucket,
    "s3_path": _s3_path,
    "s3_key_prefix": _s3_key_prefix,
}


class Raised(dict[str, str]):
    """`{"raises": NAME}`, where NAME may be any class that the exception is one of."""

    def __init__(self, error: Exception) -> None:
        super().__init__(raises=type(error).__name__)
        self.names = {cls.__name__ for cls in type(error).__mro__}


def _or_raised(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:  # noqa: BLE001 - what is raised is the result here
        return Raised(error)


def same(expected: Any, found: Any) -> bool:
    if isinstance(found, Raised):
        return isinstance(expected, dict) and expected.get("raises") in found.names
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(
            same(expected[key], found[key]) for key in expected
        )
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(same, expected, found))
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return math.isclose(expected, found, rel_tol=_RELATIVE_TOLERANCE)
    return bool(expected == found)


def run_case(case: Mapping[str, Any], folder: Path) -> tuple[bool, Any]:
    """Whether the case passes, and what was got."""
    function = GROUPS.get(case["group"])
    if function is None:
        return False, f"unknown group {case['group']!r}"
    found = _or_raised(lambda: function(case["input"], folder))
    return same(case["expected"], found), found


def main(argv: list[str] | None = None) -> int:
    paths = [Path(name) for name in (sys.argv[1:] if argv is None else argv)]
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    passed = failed = 0
    for path in paths:
        for case in json.loads(path.read_text(encoding="utf-8")):
            good, found = run_case(case, path.parent)
            passed, failed = passed + good, failed + (not good)
            if not good:
                expected = case["expected"]
                print(f"{case['group']}: {case['name']}: expected {expected!r}, got {found!r}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
