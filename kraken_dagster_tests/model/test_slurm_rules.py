"""What Slurm is told and what it answers: rules that need no cluster.

The answers of squeue and sacct are those of a real cluster (22.05). Job scripts are run by bash.
"""

import os
import shlex
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kraken_dagster.engines.job_script import full_command, rendered, with_exports
from kraken_dagster.engines.slurm_output import parse_sacct, parse_squeue, report_of, submitted_id
from kraken_dagster.model.errors import ClusterReplyUnreadable, SettingsRefused
from kraken_dagster.model.jobs.job import JobSpec, resources_for_another_try
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.jobs.resources import (
    Resources,
    amount_bytes,
    elapsed_seconds,
    more_memory,
    more_time,
)
from kraken_dagster.model.settings import Settings
from kraken_dagster.quant.command import JobPaths, job_command, job_environment
from kraken_dagster_tests.support.helpers import NOW, job, wait_until

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
RUN_BY_BASH = settings(PATIENT, max_examples=25)
START, END = datetime(2026, 11, 23, 23, 59, 58, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
TIMES = "2026-11-23T23:59:58", "2026-11-24T00:00:00"
HOSTILE = [
    "",
    " two  words ",
    'it\'s "quoted"',
    "$(touch pwned) `touch pwned` $HOME ${PATH}",
    "; touch pwned; #",
    "&& touch pwned || true & > pwned",
    "new\nline\r\n\ttab",
    "'\ntouch pwned\n'",
    "EOF\n#SBATCH --wrap=pwned",
    "back\\slash\\n %s %d ~ * ? [a] {a,b} !",
    "-rf",
    "@command@ @exports@ @name@ @setup@",
    "\\1 \\g<0>",
    "ünïcode 質量分析",
    os.fsdecode(b"\xff\xfe"),
    "--var-mod UniMod:35,15.994915,M",
    "K*,R*",
]


# --- what squeue and sacct say


def squeue_row(
    job_id: str = "4711",
    state: str = "COMPLETED",
    status: str = "0",
    *,
    reason: str = "None",
    times: tuple[str, str] = TIMES,
    node: str = "node1",
) -> str:
    """A line as squeue fills it up to the widths that it was asked for."""
    widths = {24: job_id, 25: state, 12: status, 64: reason, 26: times[0], 27: times[1], 128: node}
    return "".join(f"{text:<{width}}|" for width, text in widths.items())


def squeue(*rows: str) -> dict[str, JobReport]:
    return parse_squeue("\n".join(rows) + "\n")


def sacct(*rows: str) -> dict[str, JobReport]:
    return parse_sacct("\n".join(rows) + "\n")


def test_every_column_of_squeue_is_read() -> None:
    row = squeue_row("33", "FAILED", "1792", reason="NonZeroExitCode")
    detail = "FAILED (NonZeroExitCode)"
    assert squeue(row) == {"33": JobReport(JobState.FAILED, 7, START, END, detail, "node1")}


def test_every_column_of_sacct_is_read_and_the_most_memory_of_a_step() -> None:
    begin, end = TIMES
    found = sacct(
        f"33|FAILED|7:0|{begin}|{end}|node1|",
        f"33.batch|FAILED|7:0|{begin}|{end}|node1|3256K",
        f"33.extern|COMPLETED|0:0|{begin}|{end}|node1|",
        f"33.0|COMPLETED|0:0|{begin}|{end}|node1|1.50G",
        f"33.1|FAILED|2:0|{begin}|{end}|node1|900M",
    )
    peak = 3 * 1024**3 // 2
    assert found == {"33": JobReport(JobState.FAILED, 7, START, END, "FAILED", "node1", peak)}


def test_jobs_are_told_apart_each_with_its_steps() -> None:
    rest = f"{TIMES[0]}|{TIMES[1]}|node1"
    found = sacct(
        f"1|COMPLETED|0:0|{rest}|",
        f"1.batch|COMPLETED|0:0|{rest}|10K",
        f"11|FAILED|1:0|{rest}|",
        f"11.batch|FAILED|1:0|{rest}|20K",
        f"111.batch|FAILED|1:0|{rest}|30K",  # a step whose job was not listed
        f"12|COMPLETED|0:0|{rest}|",
    )
    assert {name: report.peak_memory_bytes for name, report in found.items()} == {
        "1": 10240,
        "11": 20480,
        "12": None,
    }


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("COMPLETED", "0", 0),
        ("FAILED", "256", 1),
        ("FAILED", str(255 << 8), 255),
        ("FAILED", "9", 128 + 9),
        ("FAILED", "139", 128 + 11),  # 11, and a core was dumped
        ("TIMEOUT", "15", None),
        ("OUT_OF_MEMORY", "125", None),
        ("CANCELLED", "15", None),
        ("NODE_FAIL", "0", None),
        ("FAILED", "4021", 128 + 53),  # as squeue has it of a job whose log can't be opened
        ("FAILED", "125", None),  # Slurm's own mark, no signal
    ],
)
def test_a_wait_status_is_an_exit_code(state: str, status: str, expected: int | None) -> None:
    assert squeue(squeue_row(state=state, status=status))["4711"].exit_code == expected


@pytest.mark.parametrize(
    ("state", "exit_code", "expected"),
    [
        ("COMPLETED", "0:0", 0),
        ("FAILED", "7:0", 7),
        ("FAILED", "0:9", 128 + 9),
        ("FAILED", "0:125", None),
        ("TIMEOUT", "0:0", None),
        ("OUT_OF_MEMORY", "0:125", None),
        ("CANCELLED by 1001", "0:0", None),
        ("COMPLETED", "", 0),
    ],
)
def test_what_sacct_says_is_an_exit_code(state: str, exit_code: str, expected: int | None) -> None:
    found = sacct(f"5|{state}|{exit_code}|{TIMES[0]}|{TIMES[1]}|node1|")
    assert found["5"].exit_code == expected


@pytest.mark.parametrize("nothing", ["N/A", "Unknown", "None", "NONE", "(null)", ""])
def test_a_time_and_a_node_that_are_not_there_are_none(nothing: str) -> None:
    for report in (
        squeue(squeue_row("5", times=(nothing, nothing), node=nothing))["5"],
        sacct(f"5|COMPLETED|0:0|{nothing}|{nothing}|{nothing}|")["5"],
    ):
        assert (report.started_at, report.ended_at, report.node) == (None, None, None)
        assert report.state is JobState.SUCCEEDED


def test_a_job_that_never_got_a_node_has_none() -> None:
    found = sacct(f"42|CANCELLED by 1001|0:0|{TIMES[0]}|{TIMES[1]}|None assigned|")["42"]
    assert (found.state, found.node, found.detail) == (
        JobState.CANCELLED,
        None,
        "CANCELLED by 1001",
    )


def test_a_running_job_has_a_start_a_node_and_nothing_else() -> None:
    # The end that squeue shows of it is the one that its time limit would bring.
    for found in (
        squeue(squeue_row("5", "RUNNING")),
        sacct(f"5|RUNNING|0:0|{TIMES[0]}|Unknown|node1|"),
    ):
        assert found == {"5": JobReport(JobState.RUNNING, started_at=START, node="node1")}


def test_a_waiting_job_has_not_even_those() -> None:
    # The start that squeue shows of it is the one that is planned.
    row = squeue_row("5", "PENDING", reason="Resources", node="node[1-2]")
    assert squeue(row) == {"5": JobReport(JobState.WAITING)}
    assert sacct("5|PENDING|0:0|Unknown|Unknown|None assigned|") == {
        "5": JobReport(JobState.WAITING)
    }


@pytest.mark.parametrize(
    "reason",
    [
        "PartitionTimeLimit",
        "InvalidAccount",
        "DependencyNeverSatisfied",
        "ReqNodeNotAvail, UnavailableNodes:node[1-3]",
    ],
)
def test_a_reason_that_waiting_does_not_cure_is_told(reason: str) -> None:
    found = squeue(squeue_row("5", "PENDING", reason=reason))["5"]
    assert found == JobReport(JobState.WAITING, detail=reason)


@pytest.mark.parametrize("reason", ["Priority", "Resources", "BeginTime", "None", "Dependency"])
def test_a_reason_that_waiting_cures_is_not(reason: str) -> None:
    found = squeue(squeue_row("5", "PENDING", reason=reason))["5"]
    assert found.detail is None


@pytest.mark.parametrize("reply", ["", "\n", "  \n\n"])
def test_jobs_that_are_purged_are_not_in_the_answer(reply: str) -> None:
    assert parse_squeue(reply) == parse_sacct(reply) == {}


def test_tasks_of_an_array_are_jobs_of_their_own() -> None:
    rows = squeue_row("564_[1-3%1]", "PENDING"), squeue_row("564_4"), squeue_row("565")
    assert list(squeue(*rows)) == ["564_[1-3%1]", "564_4", "565"]


def test_a_job_of_several_parts_is_open_until_all_have_ended() -> None:
    rows = [squeue_row("7_[3-9%2]", "PENDING"), squeue_row("7_1"), squeue_row("8+0")]
    found = squeue(*rows, squeue_row("7_2", "EXPEDITING"), squeue_row("8+1", "FAILED", "256"))
    waits, bad = report_of(found, "7"), report_of(found, "8")
    assert waits is not None
    assert bad is not None
    assert (waits.state, bad.state, bad.exit_code) == (JobState.WAITING, JobState.FAILED, 1)
    assert report_of(found, "77") is None
    times = "2026-11-24T00:00:00|2026-11-24T01:00:00|node1"
    rows = [f"7_1|COMPLETED|0:0|{times}|", f"7_1.batch|COMPLETED|0:0|{times}|10K"]
    rows += [f"7_2|COMPLETED|0:0|{times}|", f"7_2.batch|COMPLETED|0:0|{times}|20K"]
    done = report_of(sacct(*rows), "7")
    assert done is not None
    assert (done.state, done.exit_code, done.peak_memory_bytes) == (JobState.SUCCEEDED, 0, 20480)


@pytest.mark.parametrize("state", ["EXPEDITING", "S", "RE+", "", "running"])
def test_a_job_in_a_state_that_is_not_known_is_listed_and_open(state: str) -> None:
    found = squeue(squeue_row("7", state, reason="Why"))["7"]
    assert (found.state, found.listed, found.ended) == (JobState.UNKNOWN, True, False)
    assert found.detail == f"{state or 'no state'} (Why)"
    assert not found.is_missing
    accounted = sacct(f"7|{state}|0:0|Unknown|Unknown|n1|")["7"]
    assert (accounted.state, accounted.detail) == (JobState.UNKNOWN, state or "no state")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("COMPLETED,COMPLETING", JobState.RUNNING),
        ("CANCELLED+COMPLETING", JobState.RUNNING),
        ("PENDING,REQUEUE_HOLD", JobState.WAITING),
        ("FAILED,EXPEDITING", JobState.UNKNOWN),
        ("RUNNING,EXPEDITING", JobState.RUNNING),
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("COMPLETING+", JobState.RUNNING),
        ("POWER_UP+", JobState.WAITING),
    ],
)
def test_of_several_words_an_open_one_counts_before_one_that_has_ended(
    state: str, expected: JobState
) -> None:
    assert squeue(squeue_row("7", state))["7"].state is expected


def test_of_two_lines_about_a_job_the_one_that_is_open_counts() -> None:
    rows = squeue_row("7", "REVOKED"), squeue_row("7", "RUNNING")
    for order in (rows, rows[::-1]):
        assert squeue(*order)["7"].state is JobState.RUNNING


@pytest.mark.parametrize(
    ("text", "expected"),
    [("08:42", 522), ("00:00.123", 0), ("59:59", 3599), ("1:02:03.9", 3723), ("61:00:00", 219600)],
)
def test_a_time_may_have_no_hours(text: str, expected: int) -> None:
    assert elapsed_seconds(text) == expected


@pytest.mark.parametrize(
    "line",
    [
        "Welcome to the cluster!",
        "Welcome | to | the | cluster | with | seven | columns",
        squeue_row().partition("|")[2],
        squeue_row() + "more|",
        squeue_row("job-1"),
        squeue_row("-1"),
    ],
)
def test_a_line_that_can_not_be_read_is_quoted(line: str) -> None:
    for parse in (parse_squeue, parse_sacct):
        with pytest.raises(ClusterReplyUnreadable) as caught:
            parse(f"{squeue_row()}\n{line}\n")
        assert caught.value.found == repr(line[:500])


@PATIENT
@given(st.text())
def test_any_answer_is_read_or_refused(reply: str) -> None:
    for parse in (parse_squeue, parse_sacct):
        try:
            found = parse(reply)
        except ClusterReplyUnreadable:
            continue
        assert all(isinstance(report, JobReport) for report in found.values())


@pytest.mark.parametrize(
    "reply",
    [
        "4711\n",
        "4711",
        "4711;cluster\n",
        "Welcome!\nYou have 3 new messages.\n4711\n",
        "1234\n4711;cluster\n\n",
        "Welcome!\r\n4711\r\n",
        "4711\nGoodbye!",
        "Project 12 has 3 hours left.\n 4711;cluster \n4711;cluster\nJob 13 was before it.\n",
    ],
)
def test_the_id_of_a_submitted_job_is_the_one_line_that_looks_like_it(reply: str) -> None:
    assert submitted_id(reply) == "4711"


@pytest.mark.parametrize(
    "reply",
    [
        *("", "\n", "Submitted batch job 4711", "-4711", "4711_1", "٤٧١١", ";x"),
        "42\n4711\n",
        "42;here\n4711;cluster\n",
    ],
)
def test_an_answer_without_an_id_or_with_several_is_quoted(reply: str) -> None:
    with pytest.raises(ClusterReplyUnreadable) as caught:
        submitted_id(reply)
    assert caught.value.found == repr(reply)


# --- what a job asks for


def test_each_option_is_an_argument_of_its_own() -> None:
    asked = Resources(
        partition="gpu,cpu-2.a_b",
        nodes=1,
        cpus=16,
        mem="64G",
        time="1-00:00:00",
        directives=("--account=a b; c", "--exclusive", "--constraint=[a|b]&c"),
    )
    assert asked.options() == [
        "--partition=gpu,cpu-2.a_b",
        "--nodes=1",
        "--cpus-per-task=16",
        "--mem=64G",
        "--time=1-00:00:00",
        "--account=a b; c",
        "--exclusive",
        "--constraint=[a|b]&c",
    ]
    assert Resources().options() == []


@pytest.mark.parametrize("good", ["1K", "20M", "64G", "2T"])
def test_memory_that_slurm_takes(good: str) -> None:
    assert Resources(mem=good).options() == [f"--mem={good}"]


@pytest.mark.parametrize("good", ["00:30:00", "2:00:00", "48:00:00", "7-12:00:00"])
def test_time_that_slurm_takes(good: str) -> None:
    assert Resources(time=good).options() == [f"--time={good}"]


BAD = ["", " ", "x\n", "1\n--wrap=x", "$(id)", "`id`", "1;id", "a b", "'", "1 #", "\0", "ä", "1,,2"]


@pytest.mark.parametrize("bad", [*BAD, "64", "64g", "64GB", "-1G", "6 G", "64G\n", "1.5G", "٣G"])
def test_memory_that_slurm_does_not_take_is_refused(bad: str) -> None:
    with pytest.raises(SettingsRefused, match="<number>"):
        Resources(mem=bad).options()


@pytest.mark.parametrize(
    "bad", [*BAD, "60", "1:00", "1-00", "01:00:00\n", "1:0:0", "-1:00:00", "1d", "infinite"]
)
def test_time_that_slurm_does_not_take_is_refused(bad: str) -> None:
    with pytest.raises(SettingsRefused, match="D-HH:MM:SS"):
        Resources(time=bad).options()


@pytest.mark.parametrize("bad", [*BAD, ",a", "a,", "a/b", "a=b", "a\nb", "a\r"])
def test_a_partition_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(SettingsRefused, match="partition"):
        Resources(partition=bad).options()


@pytest.mark.parametrize("bad", [0, -1])
def test_numbers_that_are_none_are_refused(bad: int) -> None:
    for asked in (Resources(nodes=bad), Resources(cpus=bad)):
        with pytest.raises(SettingsRefused, match="a number"):
            asked.options()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "account=a",
        "-A a",
        "-Aa",
        "---account=a",
        "--account a",
        "--account=a\n--wrap=id",
        "--account=a\r",
        "--account=\0",
        "\n--account=a",
        " --account=a",
        "--account=a\n",
        "--Account=a",
        "--acc=a",  # sbatch takes abbreviations
        "--wrap=id",
        "--wra=id",
        "--w=id",
        "--export=ALL",
        "--expor=ALL",
        "--export-file=x",
        "--job-name=x",
        "--output=/x",
        "--error=/x",
        "--input=/x",
        "--chdir=/x",
        "--uid=0",
        "--gid=0",
        "--array=1-9",
        "--requeue",
        "--parsable",
        "--wait",
        "--test-only",
        "--dependency=singleton",
        "--begin=now+1hour",
        "--clusters=all",
        "--get-user-env",
        "--propagate=ALL",
        "--bb=x",
        "--bbf=x",
        "--container=/x",
        "--help",
        "--mem=1G",
        "--time=1:00:00",
        "--partition=x",
        "--nodes=2",
        "--ntasks=2",
        "--",
        "--account; id",
        "$(id)",
        "#SBATCH --account=a",
        "/tmp/script.sh",
    ],
)
def test_a_directive_that_is_not_allowed_is_refused(bad: str) -> None:
    with pytest.raises(SettingsRefused, match="make a new version of the settings") as caught:
        Resources(directives=("--exclusive", bad)).options()
    assert caught.value.found == repr(bad)


@PATIENT
@given(st.text())
@example("exclusive\n")
@example("qos=\u2028x")
def test_whatever_is_allowed_is_one_line_with_one_option(text: str) -> None:
    try:
        options = Resources(directives=(f"--{text}",)).options()
    except SettingsRefused:
        return
    assert options == [f"--{text}"]
    assert not set("\n\r\0") & set(text)


def test_settings_come_before_the_engine_which_fills_in_what_they_leave_open() -> None:
    wanted = Resources(cpus=8, mem="64G", directives=("--qos=fast",))
    engine = Resources(partition="all", nodes=1, cpus=4, mem="1G", directives=("--account=x",))
    assert wanted.over(engine) == Resources(
        partition="all",
        nodes=1,
        cpus=8,
        mem="64G",
        directives=("--account=x", "--qos=fast"),
    )


@pytest.mark.parametrize(
    ("asked", "limit", "expected"),
    [
        ("64G", "256G", "128G"),
        ("64G", "100G", "100G"),
        ("64G", "1T", "128G"),
        ("512G", "4T", "1T"),
        ("512M", "1G", "1G"),
        ("1536M", "8G", "3G"),
        ("1025K", "1G", "2050K"),
        ("64G", "64G", None),
        ("64G", "65536M", None),
        ("64G", "32G", None),
        ("64G", None, None),
        ("64G", "much", None),
        (None, "32G", "32G"),
        (None, None, None),
    ],
)
def test_twice_the_memory_up_to_a_limit(
    asked: str | None, limit: str | None, expected: str | None
) -> None:
    assert more_memory(asked, limit) == expected


@pytest.mark.parametrize(
    ("asked", "limit", "expected"),
    [
        ("02:00:00", "1-00:00:00", "04:00:00"),
        ("12:30:30", "7-00:00:00", "1-01:01:00"),
        ("2:00:00", "03:00:00", "03:00:00"),
        ("1-00:00:00", "7-00:00:00", "2-00:00:00"),
        ("24:00:00", "1-00:00:00", None),
        ("02:00:00", "01:00:00", None),
        ("02:00:00", None, None),
        ("02:00:00", "long", None),
        (None, "02:00:00", "02:00:00"),
        (None, None, None),
    ],
)
def test_twice_the_time_up_to_a_limit(
    asked: str | None, limit: str | None, expected: str | None
) -> None:
    assert more_time(asked, limit) == expected


AMOUNTS = st.builds(lambda n, unit: f"{n}{unit}", st.integers(1, 10**6), st.sampled_from("KMGT"))
SPANS = st.builds(
    lambda d, h, m, s: f"{d}-{h:02}:{m:02}:{s:02}" if d else f"{h:02}:{m:02}:{s:02}",
    st.integers(0, 400),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(1, 59),
)


@PATIENT
@given(AMOUNTS, AMOUNTS)
def test_more_memory_is_more_within_the_limit_and_sbatch_takes_it(asked: str, limit: str) -> None:
    before, most = amount_bytes(asked), amount_bytes(limit)
    assert before is not None
    assert most is not None
    more = more_memory(asked, limit)
    assert (more is None) == (before >= most)
    if more is not None:
        assert amount_bytes(more) == min(2 * before, most)
        assert Resources(mem=more).options() == [f"--mem={more}"]


@PATIENT
@given(SPANS, SPANS)
def test_more_time_is_more_within_the_limit_and_sbatch_takes_it(asked: str, limit: str) -> None:
    before, most = elapsed_seconds(asked), elapsed_seconds(limit)
    assert before is not None
    assert most is not None
    more = more_time(asked, limit)
    assert (more is None) == (before >= most)
    if more is not None:
        assert elapsed_seconds(more) == min(2 * before, most)
        assert Resources(time=more).options() == [f"--time={more}"]


# --- another try


ASKED = Resources(partition="p", cpus=4, mem="64G", time="02:00:00", directives=("--qos=x",))


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        (JobState.OUT_OF_MEMORY, {"mem": "100G"}),
        (JobState.TIMEOUT, {"time": "03:00:00"}),
        (JobState.NODE_FAILURE, {}),
        (JobState.PREEMPTED, {}),
    ],
)
def test_what_ran_out_is_doubled_and_the_rest_is_asked_for_as_before(
    state: JobState, changes: dict[str, str]
) -> None:
    ended = job(state=state, resources=ASKED, max_mem="100G", max_time="03:00:00")
    expected = Resources(**{**vars(ASKED), **changes})
    assert resources_for_another_try(ended) == expected


@pytest.mark.parametrize(
    "state",
    sorted(
        set(JobState)
        - {JobState.OUT_OF_MEMORY, JobState.TIMEOUT, JobState.NODE_FAILURE, JobState.PREEMPTED}
    ),
)
def test_other_ends_are_final(state: JobState) -> None:
    ended = job(state=state, resources=ASKED, max_mem="1T", max_time="3-00:00:00")
    assert resources_for_another_try(ended) is None


@pytest.mark.parametrize("state", [JobState.OUT_OF_MEMORY, JobState.TIMEOUT])
def test_where_nothing_more_may_be_asked_for_the_end_is_final(state: JobState) -> None:
    assert resources_for_another_try(job(state=state, resources=ASKED)) is None
    at_most = {"max_mem": "64G", "max_time": "02:00:00"}
    assert resources_for_another_try(job(state=state, resources=ASKED, **at_most)) is None


@pytest.mark.parametrize("state", [JobState.OUT_OF_MEMORY, JobState.NODE_FAILURE])
def test_there_are_three_more_tries_at_most(state: JobState) -> None:
    tries, resources = [job("job-r1", state=state, resources=ASKED, max_mem="999T")], ASKED
    while (again := resources_for_another_try(tries[-1])) is not None:
        resources = again
        following = tries[-1].another_try(resources, now=NOW)
        tries.append(following.model_copy(update={"state": state, "node": "node1"}))
    # `-r1` is a part of the first one's own name.
    assert [item.id for item in tries] == ["job-r1", "job-r1-r1", "job-r1-r2", "job-r1-r3"]
    assert [item.resubmission for item in tries] == [0, 1, 2, 3]
    expected = "512G" if state is JobState.OUT_OF_MEMORY else "64G"
    assert tries[-1].resources.mem == expected


def test_another_try_is_a_new_intention_of_the_same_job() -> None:
    first = job(
        state=JobState.OUT_OF_MEMORY,
        resources=ASKED,
        working_copy=["/b/x.wiff"],
        log_name="kraken.log",
        environment={"A": "b"},
        max_mem="1T",
        tried_at=NOW,
        missing_since=NOW,
        cluster_job_id="4711",
        exit_code=1,
        log_tail="killed",
        started_at=NOW,
        ended_at=NOW,
        peak_memory_bytes=1,
        node="node1",
        collected_at=NOW,
    )
    second = first.another_try(Resources(mem="128G"), now=END)
    assert second.spec() == JobSpec(
        name="job-1-r1",
        command=first.spec().command,
        environment={"A": "b"},
        output_path=first.output_path,
        resources=Resources(mem="128G"),
        working_copy=("/b/x.wiff",),
        log_name="kraken.log",
    )
    assert second.state is JobState.INTENDED
    assert second.detail == "try 2, after out_of_memory on node1"
    assert (second.max_mem, second.created_at) == ("1T", END)
    for name in ("tried_at", "missing_since", "cluster_job_id", "exit_code", "log_tail"):
        assert getattr(second, name) is None
    for name in ("started_at", "ended_at", "peak_memory_bytes", "node", "collected_at"):
        assert getattr(second, name) is None


# --- the job's script


def spec(output: Path, *command: str, name: str = "job-1", **environment: str) -> JobSpec:
    return JobSpec(name, command, {"OUTPUT_PATH": str(output), **environment}, str(output))


def by_bash(script: bytes, folder: Path) -> "subprocess.CompletedProcess[bytes]":
    """Runs a job's script as Slurm does, with nothing of our own environment."""
    return subprocess.run(
        ["/bin/bash"],
        input=script,
        cwd=folder,
        env={"PATH": os.defpath, "SLURM_JOB_ID": "4711"},
        capture_output=True,
        timeout=60,
    )


def cells(text: bytes) -> list[str]:
    return [os.fsdecode(cell) for cell in text.split(b"\0")[:-1]]


# Both end what they print by NUL, which is the one byte that no value holds.
ARGUMENTS = ("/bin/sh", "-c", 'printf "%s\\0" "$@" > arguments; env -0 > environment', "sh")


def test_values_arrive_as_they_are_and_none_is_run(tmp_path: Path) -> None:
    values = {f"VALUE_{number}": value for number, value in enumerate(HOSTILE)}
    output = tmp_path / "out $(touch pwned) 'x' @command@\nüö"
    output.mkdir()
    script = rendered(spec(output, *ARGUMENTS, *HOSTILE, name="job @setup@", **values))
    assert b"\r\n" not in script  # sbatch takes none that has it anywhere
    done = by_bash(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert cells((output / "arguments").read_bytes()) == HOSTILE
    found = dict(cell.split("=", 1) for cell in cells((output / "environment").read_bytes()))
    assert {name: found[name] for name in values} == values
    assert found["OUTPUT_PATH"] == str(output)
    assert (output / "kraken.job_id").read_text() == "4711 job @setup@\n"
    assert (output / "kraken.exit_code").read_text() == "0 4711 job @setup@\n"
    assert list(tmp_path.iterdir()) == [output]
    assert len(list(output.iterdir())) == 4


@RUN_BY_BASH
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=5))
@example(["'@command@'\n'"])
@example(["\r\n", "a\r\n\r\nb", "\r\r\n'\r"])
def test_any_text_whatever_arrives_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    output = tmp_path_factory.mktemp("output")
    values = {f"VALUE_{number}": text for number, text in enumerate(texts)}
    script = rendered(spec(output, *ARGUMENTS, *texts, "end", **values))
    assert b"\r\n" not in script
    by_bash(script, output)
    assert cells((output / "arguments").read_bytes()) == [*texts, "end"]
    found = dict(cell.split("=", 1) for cell in cells((output / "environment").read_bytes()))
    assert {name: found[name] for name in values} == values


def test_setup_comes_first_and_may_use_the_job_s_values(tmp_path: Path) -> None:
    setup = 'export WHERE="on $RAW_FILE_ID @command@"\ncd /'
    command = ("/bin/sh", "-c", 'echo "$WHERE $PWD"; exit 3')
    done = by_bash(rendered(spec(tmp_path, *command, RAW_FILE_ID="x.raw"), setup=setup), tmp_path)
    assert done.returncode == 3
    assert done.stdout.decode().splitlines() == ["slurm_job_id: 4711", "on x.raw @command@ /"]


def test_the_script_leaves_the_exit_code_of_this_run_alone(tmp_path: Path) -> None:
    left = tmp_path / "kraken.exit_code"
    left.write_text("0 4710 another\n")
    command = ("/bin/sh", "-c", "test ! -e kraken.exit_code && exit 7")
    assert by_bash(rendered(spec(tmp_path, *command)), tmp_path).returncode == 7
    assert left.read_text() == "7 4711 job-1\n"
    assert by_bash(rendered(spec(tmp_path, "/nowhere/program")), tmp_path).returncode == 127
    assert left.read_text() == "127 4711 job-1\n"


def test_a_script_that_is_told_to_end_tells_the_command_and_waits_for_it(tmp_path: Path) -> None:
    wait = "trap 'sleep 0.2; echo told; exit 5' TERM; : > begun; while :; do sleep 0.05; done"
    (tmp_path / "script").write_bytes(rendered(spec(tmp_path, "/bin/sh", "-c", wait)))
    started = subprocess.Popen(
        ["/bin/bash", "script"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    wait_until((tmp_path / "begun").exists, "the command runs")
    started.send_signal(signal.SIGTERM)  # as Slurm does: to the script alone
    output, _ = started.communicate(timeout=60)
    assert (started.returncode, output.splitlines()[-1]) == (5, "told")
    assert (tmp_path / "kraken.exit_code").read_text().split() == ["5", "job-1"]


def test_a_command_with_working_copies_names_them_and_then_the_command() -> None:
    wanted = JobSpec("n", ("program", "a b"), {}, "/o", working_copy=("/b/x.wiff", "/b/x.scan"))
    shell, option, script, name, *arguments = full_command(wanted)
    assert (shell, option, name) == ("/bin/bash", "-c", "kraken-working-copy")
    assert arguments == ["2", "/b/x.wiff", "/b/x.scan", "program", "a b"]
    assert subprocess.run([shell, "-n", option, script]).returncode == 0
    assert full_command(JobSpec("n", ("program",), {}, "/o")) == ["program"]


# --- a site's own script


def _lines(script: str) -> list[str]:
    """Those that say something; where empty ones are is no matter."""
    return [line for line in script.split("\n") if line]


EXPORTS = """export OUTPUT_PATH=/o
export VALUE='a b'
export SLURM_EXPORT_ENV=ALL
printf "%s %s\\n" "${SLURM_JOB_ID:-}" n > "$OUTPUT_PATH/kraken.job_id"
"""


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        ("#!/bin/bash\n#SBATCH --mem=1G\n", "echo hi\n"),
        ("#!/bin/bash\n\n# note\n   \n#SBATCH --mem=1G\n\n", "set -e\n#SBATCH --too=late\n"),
        ("#!/bin/bash\n   # a note\n\t#\n#SBATCH --mem=1G\n", "  echo hi\n"),
        ("#!/bin/bash\n#SBATCH --mem=1G\n", ""),
        ("#!/bin/bash\n", ""),
        ("#!/bin/bash\n# form\x0cfeed, \u2028, \x85 and \x1c\n#SBATCH --mem=1G\n", "true\n"),
        ("#!/bin/bash\r\n#SBATCH --mem=1G\r\n", "echo hi\r\n"),
        ("", "echo hi\n"),
    ],
)
def test_directives_stay_at_the_head_and_the_values_follow(head: str, rest: str) -> None:
    wanted = JobSpec("n", (), {"OUTPUT_PATH": "/o", "VALUE": "a b"}, "/o")
    made = with_exports(head + rest, wanted).decode()
    assert _lines(made) == _lines(head + EXPORTS + rest)
    assert made.endswith("\n")


@pytest.mark.parametrize("script", ["#!/bin/bash\n#SBATCH --mem=1G", "#!/bin/bash"])
def test_a_script_without_any_command_gets_the_values_below(script: str) -> None:
    wanted = JobSpec("n", (), {"OUTPUT_PATH": "/o", "VALUE": "a b"}, "/o")
    assert with_exports(script, wanted).decode() == f"{script}\n{EXPORTS}"


def test_a_site_s_script_finds_the_values(tmp_path: Path) -> None:
    values = {f"VALUE_{number}": value for number, value in enumerate(HOSTILE)}
    site = "#!/bin/bash\n#SBATCH --mem=1G\n# touch pwned\x0btouch pwned\nenv -0 > environment\n"
    done = by_bash(with_exports(site, spec(tmp_path, **values)), tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    found = dict(cell.split("=", 1) for cell in cells((tmp_path / "environment").read_bytes()))
    assert {name: found[name] for name in values} == values
    assert (tmp_path / "kraken.job_id").read_text() == "4711 job-1\n"
    assert sorted(os.listdir(tmp_path)) == ["environment", "kraken.job_id"]


# --- AlphaDIA


PATHS = JobPaths(
    raw_file="/backup/x y.raw",
    relative_raw_file="x y.raw",
    output="/output/x y",
    relative_output="x y",
    settings="/settings/dia",
    software_base="/software",
    conda="/opt/conda/bin/conda",
)


def alphadia(**fields: object) -> Settings:
    standard = {"name": "dia", "software_type": "alphadia", "software": "alphadia-1.10.2"}
    return Settings.model_validate({**standard, **fields})


def command_of(**fields: object) -> list[str]:
    return job_command(alphadia(**fields), PATHS, raw_file_id="x y.raw", project_id="P1")


def test_alphadia_is_started_in_its_environment_with_the_files_of_the_settings() -> None:
    given_files = {
        "speclib_file_name": "a b.speclib",
        "fasta_file_name": "human.fasta",
        "config_file_name": "sub/config.yaml",
    }
    assert command_of(num_threads=8, **given_files) == [
        *("/opt/conda/bin/conda", "run", "--no-capture-output"),
        *("--name", "alphadia-1.10.2", "alphadia"),
        *("--file", "/backup/x y.raw", "--output", "/output/x y"),
        *("--library", "/settings/dia/a b.speclib"),
        *("--fasta", "/settings/dia/human.fasta"),
        *("--config", "/settings/dia/sub/config.yaml"),
        *("--config-dict", '{"general": {"thread_count": 8}}'),
    ]


def test_what_alphadia_s_settings_leave_open_is_no_argument() -> None:
    command = command_of()
    assert not {"--library", "--fasta", "--config", "", None} & set(command)
    assert command[-2:] == ["--config-dict", '{"general": {"thread_count": 1}}']


def test_further_arguments_of_alphadia_come_last_with_their_values_filled_in() -> None:
    command = command_of(config_params="--quant-dir 'OUTPUT_PATH/q u' --x RAW_FILE_ID;id")
    assert command[-4:] == ["--quant-dir", "/output/x y/q u", "--x", "x y.raw;id"]


@pytest.mark.parametrize("environment", ["", "-n", "a b", "a;b", "$(id)", "../env", "a\n", "/env"])
def test_an_environment_that_conda_can_not_have_is_refused(environment: str) -> None:
    with pytest.raises(SettingsRefused, match="conda environment"):
        command_of(software=environment)


def test_alphadia_finds_its_variables_and_no_command_of_another_program() -> None:
    command = command_of()
    found = job_environment(
        alphadia(fasta_file_name="h.fasta"), PATHS, command, raw_file_id="x y.raw", project_id="P1"
    )
    assert (found["SOFTWARE_TYPE"], found["SOFTWARE"]) == ("alphadia", "alphadia-1.10.2")
    assert (found["CUSTOM_COMMAND"], found["FASTA_FILE_NAME"]) == ("", "h.fasta")
    assert (found["RAW_FILE_PATH"], found["SETTINGS_PATH"]) == (PATHS.raw_file, PATHS.settings)


def test_the_command_of_a_program_is_told_as_a_shell_would_read_it() -> None:
    params = "--f RAW_FILE_PATH --var-mod UniMod:35,15.994915,M --cut K*,R* '' \"it's\""
    diann = Settings(name="d", software_type="diann", software="diann", config_params=params)
    command = job_command(diann, PATHS, raw_file_id="x y.raw", project_id="P1")
    assert command == [
        *("/software/diann", "--f", "/backup/x y.raw", "--var-mod", "UniMod:35,15.994915,M"),
        *("--cut", "K*,R*", "", "it's"),
    ]
    reported = job_environment(diann, PATHS, command, raw_file_id="x y.raw", project_id="P1")
    assert shlex.split(reported["CUSTOM_COMMAND"]) == command
