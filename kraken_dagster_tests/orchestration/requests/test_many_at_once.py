"""What is due on one instrument at the same tick: a run each, and from a threshold on one run."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import dagster as dg
import pytest

from kraken_dagster.catchup.defs import CATCHUP_TAGS
from kraken_dagster.config.engines import LocalEngine
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster.model.raw_file import FINAL, BackupStatus, RawFile, Status, Step
from kraken_dagster.orchestration.file_runs.run_groups import in_groups
from kraken_dagster.orchestration.partitions import (
    TAG_COPIES,
    TAG_FILES,
    TAG_INSTRUMENT,
    TAG_STEP,
    ingest_job,
    partitions_of,
)
from kraken_dagster.runtime.services import utc_now
from kraken_dagster.store.connection import Store
from kraken_dagster_tests.support.dagster_bench import (
    Bench,
    hastened,
    install_search,
    raw_file,
    require_success,
)
from kraken_dagster_tests.support.helpers import lease, record, wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
INGESTED = ("raw_file", "backup", "quant_job")
MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench(config: KrakenConfig, store: Store) -> Iterator[MakeBench]:
    instances: list[dg.DagsterInstance] = []

    def make(**defaults: object) -> Bench:
        instances.append(dg.DagsterInstance.ephemeral())
        engines = {"engines": {"local": LocalEngine(type="local", slots=20)}}
        config_ = hastened(config.model_copy(update=engines), **defaults)
        return Bench(config_, store, instances[-1])

    yield make
    for instance in instances:
        instance.dispose()


def _due(bench: Bench, count: int) -> list[str]:
    """Files whose backup is due, and for which nothing was requested yet."""
    names = [f"f{number:02d}.raw" for number in range(count)]
    for name in names:
        raw_file(bench.services.instrument_folder("thermo1"), name, f"bytes of {name}".encode())
    for _ in range(2):
        assert bench.tick("thermo1_watcher").run_requests == []
    return names


def _ticked(bench: Bench) -> list[dg.RunRequest]:
    return list(bench.tick("thermo1_watcher").run_requests or ())


def _range(request: dg.RunRequest) -> tuple[str, str]:
    found = request.partition_key_range
    assert found is not None
    return found.start, found.end


def test_fewer_than_the_threshold_have_a_run_each(make_bench: MakeBench) -> None:
    bench = make_bench(copy_slots=10, files_per_run_from=5)
    names = _due(bench, 4)
    requests = _ticked(bench)
    assert [item.partition_key for item in requests] == names
    assert all(TAG_FILES not in item.tags for item in requests)


def test_many_are_one_run_and_each_has_materialisations_and_metrics_of_its_own(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(files_per_run_from=5)
    install_search(bench.config, bench.store)
    names = _due(bench, 6)
    [ingest] = _ticked(bench)
    assert ingest.job_name == "thermo1_ingest"
    assert ingest.partition_key is None
    assert _range(ingest) == (names[0], names[-1])
    assert (ingest.tags[TAG_FILES], ingest.tags[TAG_COPIES]) == ("6", "2")
    require_success(bench.run(ingest))
    for asset in INGESTED:
        assert sorted(bench.materialised("thermo1", asset)) == names
    assert _digests(bench) == dict.fromkeys(names, True)
    _wait_for_jobs(bench, names)
    [collect] = bench.tick("cluster_jobs").run_requests
    assert (collect.job_name, _range(collect)) == ("thermo1_collect", (names[0], names[-1]))
    require_success(bench.run(collect))
    assert sorted(bench.materialised("thermo1", "metrics")) == names
    assert {bench.status(name) for name in names} == {Status.DONE}
    assert _ticked(bench) == []


def _digests(bench: Bench) -> dict[str, bool]:
    found = bench.checks("thermo1", "backup", "digests_match")
    return {name: evaluations[0].passed for name, evaluations in found.items()}


def _wait_for_jobs(bench: Bench, names: list[str]) -> None:
    """Until every file has its one job, and this has ended."""
    ids = [str(job.cluster_job_id) for name in names for job in bench.store.jobs.of(name)]
    assert len(ids) == len(names)

    def ended() -> bool:
        reports = bench.services.engines["local"].states(ids)
        return all(item.state is JobState.SUCCEEDED for item in reports.values())

    wait_until(ended, "all jobs have ended")


def test_one_broken_file_fails_no_other_and_is_told(make_bench: MakeBench) -> None:
    bench = make_bench(files_per_run_from=5)
    names = _due(bench, 6)
    folder = bench.services.backup_folder(bench.file(names[2]))
    folder.mkdir(parents=True)
    (folder / names[2]).write_bytes(b"something else")
    [request] = _ticked(bench)
    result = bench.run(request)
    assert not result.success
    told = _failures(result)
    assert "1 of 6 files failed" in told
    assert names[2] in told
    good = [name for name in names if name != names[2]]
    assert sorted(bench.materialised("thermo1", "backup")) == good
    assert all(bench.file(name).is_backed_up for name in good)
    assert {bench.status(name) for name in good} <= FINAL
    assert bench.status(names[2]) is Status.ERROR
    assert "never overwritten" in (bench.file(names[2]).status_details or "")


def _failures(result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(
        str(event.step_failure_data.error_display_string)
        for event in result.all_events
        if event.is_step_failure
    )


def test_what_was_held_by_another_run_is_left_to_it(make_bench: MakeBench) -> None:
    bench = make_bench(files_per_run_from=5)
    names = _due(bench, 6)
    [request] = _ticked(bench)
    with bench.held(names[1]):
        require_success(bench.run(request))
    assert sorted(bench.materialised("thermo1", "backup")) == [names[0], *names[2:]]


def test_a_range_that_has_other_files_by_now_begins_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(files_per_run_from=5)
    names = _due(bench, 6)
    [request] = _ticked(bench)
    bench.instance.delete_dynamic_partition("thermo1_raw_files", names[2])
    result = bench.run(request)
    assert not result.success
    assert "requested for 6 files, and 5 stand in its range" in _failures(result)
    assert {bench.status(name) for name in names} == {Status.MONITORING_DONE}
    [again] = _ticked(bench)
    assert again.tags[TAG_FILES] == "6"
    assert again.run_key != request.run_key
    require_success(bench.run(again))
    assert sorted(bench.materialised("thermo1", "backup")) == names


def test_files_that_lie_apart_are_one_run_and_none_between_them_is_in_it(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(files_per_run_from=3)
    names = _due(bench, 7)
    assert _ticked(bench) != []  # all are due; nobody takes that run up
    between = [names[1], names[4]]
    for name in between:
        assert bench.execute("thermo1_ingest", name, tags={TAG_STEP: Step.BACKUP.value}).success
    [request] = _ticked(bench)
    wanted = [name for name in names if name not in between]
    assert request.tags[TAG_FILES] == "5"
    require_success(bench.run(request))
    assert sorted(bench.materialised("thermo1", "backup")) == names
    assert {_last_run(bench, name) for name in wanted} == {_last_run(bench, names[0])}
    assert _last_run(bench, names[0]) not in {_last_run(bench, name) for name in between}
    assert sorted(partitions_of(bench.instance, "thermo1")) == names


def _last_run(bench: Bench, name: str) -> str:
    """The run that has told of the file's backup."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(["thermo1", "backup"]), asset_partitions=[name])
    [record, *_] = bench.instance.fetch_materializations(wanted, limit=1).records
    return str(record.run_id)


def test_a_run_over_many_copies_as_many_files_as_have_a_slot(make_bench: MakeBench) -> None:
    bench = make_bench(copy_slots=3, files_per_run_from=5)
    names = _due(bench, 9)
    single = bench.instance.create_run_for_job(
        bench.repository.get_job("thermo1_ingest"),
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={"dagster/partition": names[0]},
    )
    [request] = _ticked(bench)
    assert _range(request) == (names[1], names[-1])
    assert request.tags[TAG_COPIES] == "2"
    bench.queue(request, dg.DagsterRunStatus.NOT_STARTED)
    raw_file(bench.services.instrument_folder("thermo1"), "new.raw", b"new")
    for _ in range(3):
        assert _ticked(bench) == []  # all slots are taken
    bench.instance.report_run_canceled(single)
    assert len(_ticked(bench)) == 1


def test_a_catch_up_takes_no_slot_of_the_watchers(make_bench: MakeBench) -> None:
    bench = make_bench(copy_slots=1)
    names = _due(bench, 2)
    bench.instance.create_run_for_job(
        bench.repository.get_job("__ASSET_JOB"),
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={
            **bench.range_tags(names[0], names[0]),
            **CATCHUP_TAGS,
            TAG_INSTRUMENT: "thermo1",
        },
    )
    assert [item.partition_key for item in _ticked(bench)] == [names[1]]


@pytest.mark.parametrize("told", ["many", "-1", "", "9" * 5000], ids=len)
def test_a_run_whose_tag_says_nothing_stops_no_watcher(make_bench: MakeBench, told: str) -> None:
    """As a person can launch one; it fails once it begins."""
    bench = make_bench()
    [name] = _due(bench, 1)
    tags = {"dagster/partition": "another.raw", TAG_COPIES: told, TAG_INSTRUMENT: "thermo1"}
    begins = dg.DagsterRun(
        job_name=ingest_job("thermo1"), tags=tags, status=dg.DagsterRunStatus.STARTING
    )
    bench.instance.add_run(begins)
    assert [request.partition_key for request in _ticked(bench)] == [name]


def test_collecting_goes_on_beside_a_run_over_many_that_backs_up(make_bench: MakeBench) -> None:
    """A run of one file that backs up doesn't hold up its collection; that of many neither."""
    bench = make_bench(files_per_run_from=2)
    install_search(bench.config, bench.store)
    names = _due(bench, 2)
    [ingest] = _ticked(bench)
    bench.queue(ingest, dg.DagsterRunStatus.NOT_STARTED)
    require_success(bench.run(ingest))
    _wait_for_jobs(bench, names)
    # Its partitions stay where they are while that run lives, so it is a run for each.
    requests = bench.tick("cluster_jobs").run_requests
    assert sorted(str(item.partition_key) for item in requests) == names


def _record(name: str, **fields: object) -> RawFile:
    return record(name, **{"status": Status.MONITORING_DONE, "size": 1000, **fields})


def _in_groups(files: list[RawFile], many_from: int = 3) -> list[list[str]]:
    return [[item.id for item in run] for run in in_groups(files, many_from=many_from)]


def test_what_failed_before_and_what_a_run_died_at_is_kept_apart() -> None:
    dead = lease(until=utc_now() - timedelta(seconds=60))
    files = [
        _record("a"),
        _record("died", lease=dead),
        _record("b"),
        _record("failed", status=Status.ERROR),
        _record("backed up", backup_status=BackupStatus.COPYING_DONE),
        _record("c"),
    ]
    assert _in_groups(files) == [["a", "b", "c"], ["died"], ["failed"], ["backed up"]]


def test_many_that_failed_before_are_a_run_of_their_own() -> None:
    good = [_record(f"good{number}") for number in range(3)]
    failed = [_record(f"failed{number}", status=Status.ERROR) for number in range(3)]
    assert _in_groups([*good, *failed]) == [
        [item.id for item in good],
        [item.id for item in failed],
    ]


def test_zero_puts_no_files_together() -> None:
    assert _in_groups([_record("a"), _record("b")], many_from=0) == [["a"], ["b"]]


def test_a_run_has_no_more_than_can_be_copied_in_minutes() -> None:
    gigabytes = [1, 1, 1, 20, 4, 4, 4, 2]
    files = [_record(str(n), size=size * 10**9) for n, size in enumerate(gigabytes)]
    assert _in_groups(files) == [["0", "1", "2"], ["3"], ["4"], ["5"], ["6"], ["7"]]
    assert _in_groups(files, many_from=2) == [["0", "1", "2"], ["3"], ["4", "5"], ["6", "7"]]
    many = [_record(str(n)) for n in range(450)]
    assert [len(run) for run in _in_groups(many)] == [200, 200, 50]


def test_what_is_in_the_backup_is_put_together_whatever_its_size() -> None:
    files = [
        _record(str(n), size=20 * 10**9, backup_status=BackupStatus.COPYING_DONE) for n in range(5)
    ]
    assert len(_in_groups(files)) == 1
