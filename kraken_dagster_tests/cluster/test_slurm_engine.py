"""The engine of type `slurm`, on a real cluster whose parts are stopped, cut off and killed."""

import os
import pwd
import secrets
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.engines.slurm import Slurm, slurm
from kraken_dagster.model.errors import (
    AnswerLost,
    ClusterError,
    ClusterUnreachable,
    SchedulerAway,
    SettingsRefused,
    SubmitFailed,
)
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.model.jobs.resources import Resources, amount_bytes
from kraken_dagster.model.settings import Settings
from kraken_dagster.quant.command import JobPaths, job_command, job_environment, log_name
from kraken_dagster_tests.cluster.slurm_cluster import (
    Cluster,
    Process,
    cluster_in,
    processes,
    start,
    stop,
)
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = NEEDS_SLURM

PATIENCE_S = 180.0
NOBODY = "999999999"  # the id of no job
HOSTILE = [
    "",
    " two  words ",
    'it\'s "quoted"',
    "$(touch pwned) `touch pwned` $HOME ${PATH}",
    "; touch pwned; # && touch pwned > pwned",
    "new\nline\r\n\ttab",
    "'\ntouch pwned\n'",
    "EOF\n#SBATCH --wrap=pwned",
    "back\\slash \\%j \\",
    "%j %x %A %% 100%",
    "-rf",
    "@command@ @exports@",
    "* ? [a] {a,b} ~ !",
    "ünïcode 質量分析",
    os.fsdecode(b"\xff\xfe"),
    "UniMod:35,15.994915,M",
    "K*,R*",
    "NAME=value,OTHER=value",
]
PARAMETERS = "--f RAW_FILE_PATH --var-mod UniMod:35,15.994915,M --cut K*,R* --out 'OUTPUT_PATH/a b'"
# All that a program finds, each cell ended by NUL, which is the one byte that no value holds.
RECORD = 'printf "%s\\0" "$@" > arguments; env -0 > environment'
# Writes down where its file is, and waits, all by itself, for a line from the pipe `gate`.
WAIT = """
mkfifo -m 666 gate
printf '%s' "$RAW_FILE_PATH" > begun.part && mv begun.part begun
read -r line < gate
"""


class Bench:
    """The engine, and a folder of the cluster's user that its jobs write to."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.jobs = self.engine()

    def engine(self, **changes: object) -> Slurm:
        return slurm(SlurmEngine.model_validate(self.cluster.entry(**changes)))

    def spec(
        self,
        *command: str,
        name: str = "",
        output: str = "",
        environment: Mapping[str, str] | None = None,
        **fields: object,
    ) -> JobSpec:
        name = name or f"kraken-test-{secrets.token_hex(6)}"
        output = output or f"{self.folder}/{name}"
        found = {"OUTPUT_PATH": output, "RAW_FILE_PATH": "/none", **(environment or {})}
        return JobSpec(name, command, found, output, **fields)

    def shell(self, script: str, *arguments: str, **fields: object) -> JobSpec:
        return self.spec("/bin/sh", "-c", script, "sh", *arguments, **fields)

    def submit(self, script: str, **fields: object) -> str:
        return self.jobs.submit(self.shell(script, **fields))

    def running(self, engine: Slurm | None = None, **fields: object) -> tuple[str, Path]:
        """A job whose program has begun, and waits; its id and its output folder."""
        spec = self.shell(WAIT, **fields)
        job_id = (engine or self.jobs).submit(spec)
        output = Path(spec.output_path)
        wait_until((output / "begun").exists, f"job {job_id} runs", timeout_s=PATIENCE_S)
        return job_id, output

    def state(self, job_id: str) -> JobReport:
        return self.jobs.states([job_id])[job_id]

    def result(self, job_id: str) -> JobReport:
        def ended() -> JobReport | None:
            report = self.state(job_id)
            return report if report.ended else None

        return wait_until(ended, f"the end of job {job_id}", timeout_s=PATIENCE_S)

    def found(self, name: str) -> str:
        find = partial(self.jobs.find, name)
        return wait_until(find, f"{name} is found", timeout_s=PATIENCE_S)

    def accounted(self, job_id: str, *, peak: bool = False) -> JobReport:
        """What the accounting says in the end; it lags."""

        def found() -> JobReport | None:
            report = self.jobs.usage([job_id]).get(job_id)
            complete = report and report.ended and (report.peak_memory_bytes or not peak)
            return report if complete else None

        return wait_until(found, f"sacct knows of job {job_id}", timeout_s=PATIENCE_S)

    def facts(self, job_id: str) -> dict[str, str]:
        """What the controller has noted down of a job."""
        text = self.cluster.as_root("scontrol", "-o", "show", "job", job_id)
        return dict(fact.split("=", 1) for fact in text.split() if "=" in fact)


@pytest.fixture
def bench(cluster: Cluster, cluster_folder: Path) -> Bench:
    return Bench(cluster, cluster_folder)


def go_on(output: Path) -> None:
    (output / "gate").write_text("\n")


def cells(path: Path) -> list[str]:
    return [os.fsdecode(cell) for cell in path.read_bytes().split(b"\0")[:-1]]


def variables(path: Path) -> dict[str, str]:
    return dict(cell.split("=", 1) for cell in cells(path))


def for_all(folder: Path, name: str, text: str) -> Path:
    """A file that the cluster's user can read and run."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def outcome(future: "Future[object]") -> object:
    """What a call in another thread returned, or raised."""
    return future.exception(PATIENCE_S) or future.result()


# --- what arrives in a job


def test_values_and_paths_arrive_as_they_are_and_none_is_run(
    bench: Bench, cluster_folder: Path
) -> None:
    values = {f"VALUE_{number}": value for number, value in enumerate(HOSTILE)}
    names = [value.replace("/", "_") for value in HOSTILE if value]
    parent = cluster_folder / "out"
    specs = [
        bench.shell(
            RECORD, *HOSTILE, output=f"{parent}/{name}", environment={"NAME": name, **values}
        )
        for name in names
    ]
    ids = [bench.jobs.submit(spec) for spec in specs]
    assert len(set(ids)) == len(names)
    for job_id, spec in zip(ids, specs, strict=True):
        assert bench.result(job_id).state is JobState.SUCCEEDED, spec.output_path
        output = Path(spec.output_path)
        assert cells(output / "arguments") == HOSTILE
        found = variables(output / "environment")
        assert {name: found[name] for name in spec.environment} == spec.environment
        assert found["PWD"] == spec.output_path
        assert bench.jobs.log_tail(spec) == f"slurm_job_id: {job_id}"
        left = {"arguments", "environment", "kraken.exit_code", "kraken.job_id", "log.txt"}
        assert set(os.listdir(output)) == left
        assert (output / "kraken.exit_code").read_text() == f"0 {job_id} {spec.name}\n"
    assert sorted(os.listdir(parent)) == sorted(names)
    assert not (Path(pwd.getpwnam(bench.cluster.user).pw_dir) / "pwned").exists()
    # One question for all of them.
    before = bench.cluster.job_info_rpcs(bench.cluster.user)
    assert {report.state for report in bench.jobs.states(ids).values()} == {JobState.SUCCEEDED}
    assert bench.cluster.job_info_rpcs(bench.cluster.user) - before == 1


def test_a_job_and_what_it_starts_by_srun_find_its_values_and_nothing_of_the_login(
    bench: Bench, cluster_folder: Path
) -> None:
    at_login = {"SSH_CONNECTION", "SSH_CLIENT"}
    assert at_login < {line.partition("=")[0] for line in bench.jobs.run(["env"]).stdout.split()}
    script = f"{RECORD}; srun --ntasks=1 env -0 > from_srun"
    values = {f"VALUE_{number}": value for number, value in enumerate(HOSTILE)}
    values |= {"RAW_FILE_PATH": "/backup/a b.raw"}
    spec = bench.shell(script, environment=values)
    engine = bench.engine(setup='export FROM_SETUP="of $RAW_FILE_PATH"')
    report = bench.result(engine.submit(spec))
    assert report.state is JobState.SUCCEEDED, bench.jobs.log_tail(spec)
    expected = {**spec.environment, "FROM_SETUP": "of /backup/a b.raw"}
    for name in ("environment", "from_srun"):
        found = variables(Path(spec.output_path) / name)
        assert {key: found.get(key) for key in expected} == expected
        assert not at_login & set(found)


def test_a_program_s_parameters_arrive_as_the_settings_say(
    bench: Bench, cluster_folder: Path
) -> None:
    for_all(cluster_folder, "software/diann", f"#!/bin/sh\n{RECORD}\n")
    settings = Settings(
        name="dia", software_type="diann", software="diann", config_params=PARAMETERS
    )
    paths = JobPaths(
        raw_file="/backup/it's $HOME.raw",
        relative_raw_file="it's $HOME.raw",
        output=f"{cluster_folder}/out/x",
        relative_output="x",
        settings="/settings/dia",
        software_base=f"{cluster_folder}/software",
    )
    ids = {"raw_file_id": "x.raw", "project_id": "P1"}
    command = job_command(settings, paths, **ids)
    environment = job_environment(settings, paths, command, **ids)
    spec = bench.spec(*command, output=paths.output, environment=environment)
    assert bench.result(bench.jobs.submit(spec)).state is JobState.SUCCEEDED
    assert cells(Path(paths.output) / "arguments") == [
        *("--f", paths.raw_file, "--var-mod", "UniMod:35,15.994915,M", "--cut", "K*,R*"),
        *("--out", f"{paths.output}/a b"),
    ]
    found = variables(Path(paths.output) / "environment")
    assert {name: found[name] for name in environment} == environment


def test_alphadia_is_started_by_conda_in_its_environment(
    bench: Bench, cluster_folder: Path
) -> None:
    # Neither conda nor AlphaDIA can be had for a test. Two programs of these names stand in:
    # this conda knows `run` alone, and this AlphaDIA writes a log.txt, as the real one does.
    conda = for_all(
        cluster_folder,
        "conda/bin/conda",
        "#!/bin/sh\n"
        'printf "%s\\0" "$@" > "$OUTPUT_PATH/conda"\n'
        '[ "$1 $2 $3" = "run --no-capture-output --name" ] || exit 2\n'
        'environment=$4; shift 4; program=$1; shift; cd "${0%/bin/*}/envs/$environment/bin" &&\n'
        'exec "./$program" "$@"\n',
    )
    for_all(
        cluster_folder,
        "conda/envs/alphadia-1.10/bin/alphadia",
        "#!/bin/sh\n"
        'printf "%s\\0" "$@" > "$OUTPUT_PATH/alphadia"\n'
        'echo progress; echo its own > "$OUTPUT_PATH/log.txt"; exit 3\n',
    )
    settings = Settings(
        name="dia",
        software_type="alphadia",
        software="alphadia-1.10",
        speclib_file_name="human.speclib",
        config_file_name="a b.yaml",
        num_threads=8,
    )
    paths = JobPaths(
        raw_file="/backup/a b.raw",
        relative_raw_file="a b.raw",
        output=f"{cluster_folder}/out/x",
        relative_output="x",
        settings="/settings/dia",
        software_base="",
        conda=str(conda),
    )
    ids = {"raw_file_id": "a b.raw", "project_id": "P1"}
    command = job_command(settings, paths, **ids)
    spec = bench.spec(
        *command,
        output=paths.output,
        environment=job_environment(settings, paths, command, **ids),
        log_name=log_name(settings, own_script=True),
    )
    report = bench.result(bench.jobs.submit(spec))
    assert (report.state, report.exit_code) == (JobState.FAILED, 3)
    output = Path(paths.output)
    arguments = cells(output / "alphadia")
    assert arguments == [
        *("--file", "/backup/a b.raw", "--output", paths.output),
        *("--library", "/settings/dia/human.speclib", "--config", "/settings/dia/a b.yaml"),
        *("--config-dict", '{"general": {"thread_count": 8}}'),
    ]
    started = ["run", "--no-capture-output", "--name", "alphadia-1.10", "alphadia"]
    assert cells(output / "conda") == [*started, *arguments]
    assert (output / "log.txt").read_text() == "its own\n"
    assert bench.jobs.log_tail(spec, lines=1) == "progress"
    assert (output / "kraken.log").read_text().endswith("progress\n")


def test_a_site_s_own_script_counts_with_its_directives_and_finds_the_values(
    bench: Bench, cluster_folder: Path
) -> None:
    site = for_all(
        cluster_folder,
        "site's script.sh",
        "#!/bin/bash\n"
        "#SBATCH --job-name=theirs --output=/nowhere/%j --export=ALL --requeue\n"
        "#SBATCH --mem=33M\n"
        "\n"
        "  # a note before more directives; \x0ctouch pwned\n"
        "#SBATCH --time=00:33:00 --comment=theirs\n"
        "set -u\n"
        "env -0 > environment; srun --ntasks=1 env -0 > from_srun; exit 4\n",
    )
    settings = Settings(
        name="dia",
        version=3,
        software_type="custom",
        software="program",
        config_params=PARAMETERS,
        speclib_file_name='it\'s a "library"',
        fasta_file_name="$(touch pwned)",
        num_threads=8,
    )
    output = f"{cluster_folder}/out/a b %j"
    paths = JobPaths(
        raw_file="/backup/new\nline.raw",
        relative_raw_file="new\nline.raw",
        output=output,
        relative_output="a b %j",
        settings="/settings/dia",
        software_base="/software",
    )
    ids = {"raw_file_id": "new\nline.raw", "project_id": "P,1"}
    environment = job_environment(settings, paths, job_command(settings, paths, **ids), **ids)
    assert len(environment) == 16
    spec = bench.spec(
        "/none", output=output, environment=environment, resources=Resources(time="00:22:00")
    )
    engine = bench.engine(job_script=str(site))
    job_id = engine.submit(spec)
    facts = bench.facts(job_id)
    assert (facts["MinMemoryNode"], facts["Comment"]) == ("33M", "theirs")
    # What Kraken asks for comes before what the script does.
    assert (facts["TimeLimit"], facts["JobName"]) == ("00:22:00", spec.name)
    assert facts["Requeue"] == "0"
    assert (bench.result(job_id).state, bench.result(job_id).exit_code) == (JobState.FAILED, 4)
    for name in ("environment", "from_srun"):
        found = variables(Path(output) / name)
        assert {key: found.get(key) for key in environment} == environment
        assert "SSH_CONNECTION" not in found
    assert set(os.listdir(output)) == {"environment", "from_srun", "kraken.job_id", "log.txt"}
    assert (Path(output) / "kraken.job_id").read_text() == f"{job_id} {spec.name}\n"
    # It is read anew for each job.
    site.write_text("#!/bin/bash\n#SBATCH --mem=44M\nexit 5\n")
    again = engine.submit(bench.spec("/none"))
    assert bench.facts(again)["MinMemoryNode"] == "44M"
    assert bench.result(again).exit_code == 5


def test_what_the_cluster_refuses_is_told_in_its_words_and_leaves_no_job(
    bench: Bench, cluster_folder: Path
) -> None:
    closed = cluster_folder / "closed"
    closed.mkdir(mode=0o755)
    windows = for_all(cluster_folder, "windows.sh", "#!/bin/sh\r\nexit 0\r\n")
    text = for_all(cluster_folder, "text.sh", "exit 0\n")
    asked: dict[str, tuple[Slurm, dict[str, object]]] = {
        "Invalid partition name": (bench.jobs, {"resources": Resources(partition="nowhere")}),
        "Permission denied": (bench.jobs, {"output": f"{closed}/x"}),
        "Not a directory": (bench.jobs, {"output": f"{windows}/x"}),
        "Invalid feature": (
            bench.jobs,
            {"resources": Resources(directives=("--constraint=none",))},
        ),
        "No such file": (bench.engine(job_script=f"{cluster_folder}/missing.sh"), {}),
        "Is a directory": (bench.engine(job_script=str(cluster_folder)), {}),
        "DOS line breaks": (bench.engine(job_script=str(windows)), {}),
        "does not look like a batch script": (bench.engine(job_script=str(text)), {}),
    }
    for words, (engine, fields) in asked.items():
        spec = bench.shell("touch begun", **fields)
        with pytest.raises(SubmitFailed, match=words):
            engine.submit(spec)
        assert bench.jobs.find(spec.name) is None
        assert bench.cluster.jobs_by_name(spec.name) == []
    for resources in (Resources(mem="1 G"), Resources(directives=("--wrap=id",))):
        spec = bench.shell("touch begun", resources=resources)
        with pytest.raises(SettingsRefused):
            bench.jobs.submit(spec)
        assert not Path(spec.output_path).exists()
    assert bench.result(bench.submit("exit 0")).state is JobState.SUCCEEDED


# --- how jobs end


def test_each_end_is_told_with_its_exit_code_node_and_times(bench: Bench) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=1)
    cancelled, _ = bench.running()
    too_long = bench.submit("", resources=Resources(partition="short", time="01:00:00"))
    scripts = {
        "exit 0": (JobState.SUCCEEDED, 0, "COMPLETED"),
        "exit 7": (JobState.FAILED, 7, "FAILED (NonZeroExitCode)"),
        "exit 255": (JobState.FAILED, 255, "FAILED (NonZeroExitCode)"),
        "kill -SEGV $$": (JobState.FAILED, 139, "FAILED (NonZeroExitCode)"),
        "kill -KILL $PPID": (JobState.FAILED, 137, "FAILED"),
    }
    ids = {script: bench.submit(script) for script in scripts}
    for script, expected in scripts.items():
        report = bench.result(ids[script])
        detail = str(report.detail)[: len(expected[2])]
        assert (report.state, report.exit_code, detail) == expected
        assert report.node == bench.cluster.node
        assert report.started_at is not None
        assert report.ended_at is not None
        assert begun <= report.started_at <= report.ended_at <= datetime.now(UTC)

    all_of_it = Resources(directives=("--exclusive",))
    waits = bench.submit("exit 0", resources=all_of_it)
    report = bench.state(too_long)
    assert report == JobReport(JobState.WAITING, detail="PartitionTimeLimit")
    assert bench.state(waits) == JobReport(JobState.WAITING)
    report = bench.state(cancelled)
    assert (report.state, report.node, report.ended_at) == (
        JobState.RUNNING,
        bench.cluster.node,
        None,
    )
    for job_id in (waits, cancelled, too_long):
        bench.jobs.cancel(job_id)
    for job_id, node in ((cancelled, bench.cluster.node), (waits, None), (too_long, None)):
        report = bench.result(job_id)
        assert (report.state, report.node) == (JobState.CANCELLED, node)
        assert report.exit_code != 0
        assert str(report.detail).startswith("CANCELLED")
    for job_id in (cancelled, ids["exit 7"], NOBODY):
        bench.jobs.cancel(job_id)  # it has ended: nothing happens
    assert bench.state(ids["exit 7"]).state is JobState.FAILED


def test_a_job_s_peak_memory_is_in_the_accounting(bench: Bench, cluster: Cluster) -> None:
    if not cluster.has_accounting:
        pytest.skip("a cluster without accounting")
    # tail holds what head gave it for as long as its input has no end.
    script = f"{{ head -c 60M /dev/zero; {WAIT} }} | tail -c 60M > /dev/null; exit 7"
    spec = bench.shell(script, resources=Resources(mem="200M"))
    job_id = bench.jobs.submit(spec)
    output = Path(spec.output_path)
    wait_until((output / "begun").exists, "tail has it all", timeout_s=PATIENCE_S)

    def sampled() -> bool:
        words = ("sstat", "--noheader", "--parsable2", "--format=MaxRSS", f"{job_id}.batch")
        found = cluster.as_root(*words, check=False).strip()
        return (amount_bytes(found) or 0) > 50 * 1024**2

    wait_until(sampled, "Slurm has seen what it uses", timeout_s=PATIENCE_S)
    go_on(output)
    assert bench.result(job_id).exit_code == 7
    report = bench.accounted(job_id, peak=True)
    assert 50 * 1024**2 < (report.peak_memory_bytes or 0) < 200 * 1024**2
    assert (report.state, report.exit_code) == (JobState.FAILED, 7)
    reported = bench.state(job_id)
    assert (report.node, report.started_at) == (cluster.node, reported.started_at)
    assert report.ended_at == reported.ended_at
    assert list(bench.jobs.usage([job_id, NOBODY, "$(id)"])) == [job_id]
    assert bench.jobs.usage([]) == {}


def test_a_job_whose_memory_runs_out(bench: Bench, cluster: Cluster) -> None:
    if not cluster.has_cgroups:
        pytest.skip("no cgroups of version 1: Slurm doesn't say which job had too little memory")
    spec = bench.shell("head -c 200M /dev/zero | tail", resources=Resources(mem="20M"))
    report = bench.result(bench.jobs.submit(spec))
    assert (report.state, report.exit_code) == (JobState.OUT_OF_MEMORY, None)
    assert str(report.detail).startswith("OUT_OF_MEMORY")
    assert report.node == cluster.node


def test_jobs_that_were_preempted_and_that_lost_their_node(bench: Bench, cluster: Cluster) -> None:
    low, _ = bench.running(resources=Resources(partition="low"))
    all_of_it = Resources(partition="high", directives=("--exclusive",))
    high, _ = bench.running(resources=all_of_it)
    report = bench.result(low)
    assert (report.state, report.node) == (JobState.PREEMPTED, cluster.node)
    assert str(report.detail).startswith("PREEMPTED")
    cluster.lose_node()
    report = bench.result(high)
    assert (report.state, report.exit_code, report.node) == (
        JobState.NODE_FAILURE,
        None,
        cluster.node,
    )
    assert str(report.detail).startswith("NODE_FAIL")
    waits = bench.submit("exit 0")
    cluster.restore_node()
    assert bench.result(waits).state is JobState.SUCCEEDED


# --- finding jobs again


def is_accounted(cluster: Cluster, name: str) -> bool:
    words = ("sacct", "-X", "-n", "-a", "--format=State", f"--name={name}")
    return bool({"COMPLETED", "FAILED"} & set(cluster.as_root(*words).split()))


def test_jobs_are_found_by_name_and_asked_for_also_when_the_controller_has_forgotten_them(
    bench: Bench, cluster: Cluster
) -> None:
    if not cluster.has_accounting:
        pytest.skip("a cluster without accounting")
    ours, other = bench.shell("exit 7"), bench.shell("exit 0")
    theirs, refused = (f"kraken-test-{secrets.token_hex(6)}" for _ in range(2))
    done = cluster.ssh(
        f"cd / && sbatch --parsable --output=/dev/null --job-name={theirs}",
        user=cluster.other_user,
        stdin="#!/bin/sh\n",
    )
    their_id = done.stdout.strip()
    with pytest.raises(SubmitFailed, match="not available"):
        bench.jobs.submit(bench.shell("", name=refused, resources=Resources(mem="999G")))
    our_id, other_id = bench.jobs.submit(ours), bench.jobs.submit(other)
    running, _ = bench.running()
    names = (ours.name, theirs, refused, ours.name[:-1], f"{ours.name}-r1")

    def found() -> list[str | None]:
        return [bench.jobs.find(name) for name in names]

    assert found() == [our_id, None, None, None, None]
    for job_id in (our_id, other_id):
        bench.result(job_id)
        bench.accounted(job_id)
    cluster.wait_for(their_id, "COMPLETED")
    for name in (theirs, refused):
        wait_until(partial(is_accounted, cluster, name), "sacct knows it", timeout_s=PATIENCE_S)
    assert found() == [our_id, None, None, None, None]
    before = bench.state(our_id)

    cluster.purge_from_controller(our_id)
    assert cluster.state(other_id) is None
    assert found() == [our_id, None, None, None, None]
    asked = cluster.job_info_rpcs(cluster.user)
    states = bench.jobs.states([our_id, running, NOBODY, other_id, "", "1; id", "$(id)"])
    assert cluster.job_info_rpcs(cluster.user) - asked == 1
    assert {job_id: report.state for job_id, report in states.items()} == {
        our_id: JobState.FAILED,
        running: JobState.RUNNING,
        NOBODY: JobState.UNKNOWN,
        other_id: JobState.SUCCEEDED,
    }
    reported = states[our_id]
    assert (reported.exit_code, reported.node) == (7, cluster.node)
    assert (reported.started_at, reported.ended_at) == (before.started_at, before.ended_at)
    for job_id, state in ((our_id, JobState.FAILED), (NOBODY, JobState.UNKNOWN)):
        assert bench.state(job_id).state is state
    assert bench.jobs.states([]) == {}
    bench.jobs.cancel(our_id)

    cluster.stop_accounting()
    # What nobody can be asked about is left out: it is not unknown.
    assert list(bench.jobs.states([our_id, running])) == [running]
    assert bench.jobs.states([our_id]) == bench.jobs.usage([our_id]) == {}
    with pytest.raises(SchedulerAway, match="sacct"):
        bench.jobs.find(ours.name)
    cluster.start_accounting()
    assert bench.state(our_id).state is JobState.FAILED
    assert bench.jobs.find(ours.name) == our_id


def test_a_cluster_without_accounting(
    bench: Bench, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = cluster.base.with_name(f"{cluster.base.name}-bare")
    bare = {
        "KRAKEN_SLURM_BASE": str(base),
        "KRAKEN_SLURM_PORT": str(cluster.port + 50),
        "KRAKEN_SLURM_ACCOUNTING": "0",
    }
    monkeypatch.setenv("KRAKEN_SLURM_REMOVE", "1")
    try:
        start({**os.environ, **cluster.settings, **bare, "SLURM_CONF": ""})
        folder = base / "work" / "x"
        folder.mkdir()
        shutil.chown(folder, cluster.user)
        there = Bench(cluster_in(base), folder)
        spec = there.shell("exit 7")
        assert there.jobs.find(spec.name) is None
        job_id = there.jobs.submit(spec)
        assert (there.result(job_id).state, there.result(job_id).exit_code) == (JobState.FAILED, 7)
        assert there.jobs.find(spec.name) == job_id
        assert there.state(NOBODY).state is JobState.UNKNOWN
        assert there.jobs.usage([job_id]) == {}
    finally:
        stop(base)


# --- a cluster in trouble


def test_a_controller_that_hangs_leaves_open_whether_a_job_was_submitted_and_it_is_once(
    bench: Bench, cluster: Cluster
) -> None:
    running, _ = bench.running()
    hasty = bench.engine(timeout_s=8)
    one, other = bench.shell("exit 0"), bench.shell("exit 0")
    cluster.pause_controller()
    with ThreadPoolExecutor() as threads:
        calls = [
            threads.submit(bench.jobs.submit, one),  # until sbatch gives up
            threads.submit(hasty.submit, other),  # until Kraken does
            threads.submit(bench.engine(timeout_s=2).states, [running]),
        ]
        reported, silent, asked = map(outcome, calls)
    cluster.resume_controller()
    assert isinstance(reported, SchedulerAway)
    assert "timed out" in str(reported) or "no answer in time" in str(reported)
    assert isinstance(silent, SchedulerAway)
    assert isinstance(asked, ClusterError)
    for spec in (one, other):
        job_id = bench.found(spec.name)
        assert bench.result(job_id).state is JobState.SUCCEEDED
        if cluster.has_accounting:
            bench.accounted(job_id)
        assert cluster.jobs_by_name(spec.name) == [job_id]
    assert bench.state(running).state is JobState.RUNNING


def test_a_controller_that_is_away_is_no_word_about_jobs(bench: Bench, cluster: Cluster) -> None:
    running, output = bench.running()
    spec, hasty = bench.shell("exit 0"), bench.engine(timeout_s=8)
    cluster.kill_controller()
    with ThreadPoolExecutor() as threads:
        calls: list[Future[object]] = [
            threads.submit(bench.jobs.submit, spec),
            threads.submit(hasty.states, [running, NOBODY]),
            threads.submit(hasty.find, spec.name),
            threads.submit(hasty.cancel, running),
            threads.submit(bench.jobs.check),
        ]
        outcomes = [outcome(call) for call in calls]
    assert [type(item) for item in outcomes if not isinstance(item, ClusterError)] == []
    cluster.start_controller()
    bench.jobs.check()
    assert bench.state(running).state is JobState.RUNNING
    assert bench.jobs.find(spec.name) is None
    job_id = bench.jobs.submit(spec)
    assert bench.result(job_id).state is JobState.SUCCEEDED
    go_on(output)
    assert bench.result(running).state is JobState.SUCCEEDED
    assert cluster.jobs_by_name(spec.name) == [job_id]


def has_asked(cluster: Cluster, name: str) -> bool:
    """Whether the sbatch for a job of this name is connected to the controller."""
    [port] = [
        int(line.partition("=")[2])
        for line in cluster.slurm_conf.read_text().splitlines()
        if line.startswith("SlurmctldPort=")
    ]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
    for process in processes():
        if process.name != "sbatch":
            continue
        try:
            command = (process.folder / "cmdline").read_bytes()
            files = {os.readlink(path) for path in (process.folder / "fd").iterdir()}
        except OSError:  # it has ended meanwhile
            continue
        if name.encode() in command and files & sockets:
            return True
    return False


def test_an_answer_that_is_lost_on_its_way_leaves_one_job(bench: Bench, cluster: Cluster) -> None:
    spec = bench.shell("exit 0")
    cluster.pause_controller()
    with ThreadPoolExecutor() as threads:
        call = threads.submit(bench.jobs.submit, spec)
        wait_until(lambda: has_asked(cluster, spec.name), "sbatch asks", timeout_s=PATIENCE_S)
        assert cluster.kill_sshd_sessions() >= 1
        assert isinstance(outcome(call), AnswerLost)
    cluster.resume_controller()
    job_id = bench.found(spec.name)
    assert bench.result(job_id).state is JobState.SUCCEEDED
    if cluster.has_accounting:
        bench.accounted(job_id)
    assert cluster.jobs_by_name(spec.name) == [job_id]


def test_connections_that_are_cut_and_a_head_node_that_is_away(
    bench: Bench, cluster: Cluster, cluster_folder: Path
) -> None:
    begun, gate, done = (cluster_folder / name for name in ("begun", "gate", "done"))
    script = f"touch {begun}; until [ -e {gate} ]; do sleep 0.1; done; touch {done}"
    with ThreadPoolExecutor() as threads:
        call = threads.submit(bench.jobs.run, ["sh", "-c", script])
        wait_until(begun.exists, "the command runs", timeout_s=PATIENCE_S)
        assert cluster.kill_sshd_sessions() >= 1
        assert isinstance(outcome(call), AnswerLost)
    bench.jobs.check()
    gate.touch()
    wait_until(done.exists, "the command has gone on", timeout_s=PATIENCE_S)

    spec = bench.shell("exit 0")
    cluster.stop_sshd()
    for ask in (
        lambda: bench.jobs.submit(spec),
        lambda: bench.jobs.states([NOBODY]),
        lambda: bench.jobs.find(spec.name),
        bench.jobs.check,
    ):
        with pytest.raises(ClusterUnreachable):
            ask()
    cluster.start_sshd()
    assert bench.jobs.find(spec.name) is None
    assert bench.result(bench.jobs.submit(spec)).state is JobState.SUCCEEDED


# --- working copies


CONTENT = b"scans of an instrument"
LONG_AGO = 1_700_000_000


class Sciex:
    """A raw file of two parts, and an engine whose jobs make their copies in a known folder."""

    def __init__(self, bench: Bench) -> None:
        temporary = bench.folder / "tmp"
        temporary.mkdir()
        shutil.chown(temporary, bench.cluster.user)
        uid = pwd.getpwnam(bench.cluster.user).pw_uid
        self.copies_of_all = temporary / f"kraken-{uid}-{bench.cluster.node}"
        self.engine = bench.engine(setup=f"export TMPDIR={temporary}")
        self.parts = tuple(bench.folder / name for name in ("it's x.wiff", "it's x.wiff.scan"))
        for path in self.parts:
            path.write_bytes(CONTENT)
            path.chmod(0o444)
            os.utime(path, (LONG_AGO, LONG_AGO))

    def fields(self, *more: Path) -> dict[str, object]:
        files = tuple(str(path) for path in (*self.parts, *more))
        return {"environment": {"RAW_FILE_PATH": files[0]}, "working_copy": files}

    def copies(self) -> list[str]:
        return sorted(path.name for path in self.copies_of_all.iterdir())

    def files(self, name: str) -> int:
        return len(list(self.copies_of_all.glob(f"*/{name}")))

    def assert_untouched(self) -> None:
        for path in self.parts:
            assert (path.read_bytes(), path.stat().st_mtime) == (CONTENT, LONG_AGO)


@pytest.fixture
def sciex(bench: Bench) -> Sciex:
    return Sciex(bench)


@contextmanager
def patient(cluster: Cluster) -> Iterator[None]:
    """The node waits longer than usual for what it has told to end, however slow the machine is."""
    conf = cluster.slurm_conf.read_text()
    assert "KillWait=2\n" in conf
    cluster._reconfigure(conf.replace("KillWait=2\n", "KillWait=60\n"))
    try:
        yield
    finally:
        cluster._reconfigure(conf)


def test_a_time_limit_and_working_copies_that_go_with_their_jobs_however_they_end(
    bench: Bench, sciex: Sciex, cluster: Cluster, cluster_folder: Path
) -> None:
    original = str(sciex.parts[0])
    endless = cluster_folder / "endless"
    os.mkfifo(endless)  # nobody writes into it, so that whoever copies it waits
    with patient(cluster):
        fields = sciex.fields()
        short = Resources(partition="short")
        plain, _ = bench.running(resources=short)
        limited, limited_output = bench.running(sciex.engine, **fields, resources=short)
        cancelled, _ = bench.running(sciex.engine, **fields)
        assert len(sciex.copies()) == 2
        copying = sciex.engine.submit(bench.shell("touch begun", **sciex.fields(endless)))
        wait_until(lambda: sciex.files("*.scan") == 3, "a third copies", timeout_s=PATIENCE_S)

        work = 'cat "$RAW_FILE_PATH" > content; ls -A "${RAW_FILE_PATH%/*}" > beside;'
        work = f'{RECORD}; {work} printf damaged >> "$RAW_FILE_PATH"; exit $1'
        good = bench.shell(work, "0", original, f"--f={original}", **fields)
        bad = bench.shell(work, "7", **fields)
        for spec, code in ((good, 0), (bad, 7)):
            assert bench.result(sciex.engine.submit(spec)).exit_code == code
        output = Path(good.output_path)
        copy = Path(variables(output / "environment")["RAW_FILE_PATH"])
        assert (copy.name, copy.parent.parent) == (sciex.parts[0].name, sciex.copies_of_all)
        assert cells(output / "arguments") == ["0", str(copy), f"--f={copy}"]
        assert (output / "content").read_bytes() == CONTENT
        assert (output / "beside").read_text().splitlines() == [p.name for p in sciex.parts]
        assert len(sciex.copies()) == 3  # of those that run

        for job_id in (copying, cancelled):
            bench.jobs.cancel(job_id)
            assert bench.result(job_id).state is JobState.CANCELLED
        left = [Path((limited_output / "begun").read_text()).parent.name]
        wait_until(lambda: sciex.copies() == left, "one is left", timeout_s=PATIENCE_S)

        for job_id in (plain, limited):
            cluster.as_root("scontrol", "update", f"JobId={job_id}", "EndTime=now+5")
        for job_id in (plain, limited):
            report = bench.result(job_id)
            assert (report.state, report.node) == (JobState.TIMEOUT, cluster.node)
            assert report.detail == "TIMEOUT (TimeLimit)"
            assert report.exit_code != 0
        wait_until(lambda: sciex.copies() == [], "none is left", timeout_s=PATIENCE_S)
    sciex.assert_untouched()


def processes_of(job_id: str, cluster: Cluster) -> list[Process]:
    conf = str(cluster.slurm_conf)
    return [
        process
        for process in processes()
        if process.name != "slurmstepd"
        and (found := process.environment()).get("SLURM_JOB_ID") == job_id
        and found.get("SLURM_CONF", conf) == conf
    ]


def keeps_copies(process: Process) -> bool:
    try:
        return b"kraken-working-copy" in (process.folder / "cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


def test_what_a_job_leaves_that_was_killed_at_once_the_next_one_there_removes(
    bench: Bench, sciex: Sciex, cluster: Cluster
) -> None:
    running, output = bench.running(sciex.engine, **sciex.fields())
    killed, killed_output = bench.running(sciex.engine, **sciex.fields())
    stays, goes = (Path((path / "begun").read_text()).parent for path in (output, killed_output))
    everything = processes_of(killed, cluster)
    assert len(everything) >= 3  # the job's script, the keeper of the copies, and the program
    [keeper] = [process for process in everything if keeps_copies(process)]
    # None does anything when another one has gone, and the keeper not even if Slurm wakes it.
    cluster._pause(everything)
    cluster._kill([keeper])
    cluster._kill(everything)
    report = bench.result(killed)
    assert (report.state, report.exit_code) == (JobState.FAILED, 137)
    assert sciex.copies() == sorted([stays.name, goes.name])

    spec = bench.shell(RECORD, **sciex.fields())
    assert bench.result(sciex.engine.submit(spec)).state is JobState.SUCCEEDED
    assert sciex.copies() == [stays.name]
    assert sorted(path.name for path in stays.iterdir()) == sorted(p.name for p in sciex.parts)
    go_on(output)
    assert bench.result(running).state is JobState.SUCCEEDED
    assert sciex.copies() == []
    sciex.assert_untouched()
