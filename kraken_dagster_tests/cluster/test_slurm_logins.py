"""The real Slurm cluster, and a user whose login has another shell, greets, and sets variables."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_dagster.model.jobs.report import JobState
from kraken_dagster_tests.backup.copying.copying_cases import unavailable
from kraken_dagster_tests.cluster.slurm_cluster import Cluster
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM, PROFILES, forget_logins
from kraken_dagster_tests.cluster.test_slurm_engine import PATIENCE_S, Bench, go_on
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = NEEDS_SLURM

VARIABLES = {
    "SQUEUE_PARTITION": "short",
    "SQUEUE_USERS": "root",
    "SACCT_LOCAL": "1",
    "SLURM_TIME_FORMAT": "relative",
    "SBATCH_WAIT": "1",
    "SBATCH_ARRAY_INX": "1-3",
    "SBATCH_OUTPUT": "/dev/null",
    "SBATCH_JOB_NAME": "theirs",
    "SBATCH_EXPORT": "ALL",
    "SBATCH_PARTITION": "high",
}
SETS = {
    "bash": "export {}='{}'",
    "tcsh": "setenv {} '{}'",
    "fish": "set -gx {} '{}'",
    "zsh": "export {}='{}'",
}


@pytest.fixture(params=sorted(SETS))
def shell(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """The cluster's other user with this login shell, and a profile that does all of that."""
    program = shutil.which(request.param) or unavailable(f"no {request.param}: install it")
    user = pwd.getpwnam(cluster.other_user)
    profile = Path(user.pw_dir) / PROFILES[request.param]
    profile.parent.mkdir(parents=True, exist_ok=True)
    sets = "\n".join(SETS[request.param].format(*item) for item in VARIABLES.items())
    profile.write_text(f"echo Welcome to HPC, 42 jobs run\necho 42\n{sets}\n")
    subprocess.run(["usermod", "--shell", program, user.pw_name], check=True)
    cluster.kill_sshd_sessions()  # a connection keeps the shell that it began with
    yield request.param
    forget_logins(cluster)


@pytest.fixture
def bench(cluster: Cluster, cluster_folder: Path, shell: str) -> Bench:
    bench = Bench(cluster, cluster_folder / "of other user")
    bench.folder.mkdir()
    shutil.chown(bench.folder, cluster.other_user)
    bench.jobs = bench.engine(user=cluster.other_user)
    return bench


def test_a_job_is_submitted_once_is_found_and_ends(bench: Bench, cluster: Cluster) -> None:
    job_id, output = bench.running()
    facts = bench.facts(job_id)
    assert facts["JobName"] == output.name
    assert facts["Partition"] == "high"
    assert "ArrayJobId" not in facts
    assert bench.state(job_id).state is JobState.RUNNING
    assert bench.state(job_id).started_at is not None
    assert bench.jobs.find(output.name) == job_id
    go_on(output)
    assert bench.result(job_id).state is JobState.SUCCEEDED
    assert (output / "kraken.job_id").read_text() == f"{job_id} {output.name}\n"
    log = output / "log.txt"
    wait_until(log.exists, "the log", timeout_s=PATIENCE_S)
    assert log.read_text() == f"slurm_job_id: {job_id}\n"
    assert os.stat(output).st_uid == pwd.getpwnam(cluster.other_user).pw_uid


def test_a_job_can_be_tried_and_cancelled(bench: Bench) -> None:
    tried = bench.jobs.try_submission(bench.shell("exit 0"))
    assert (tried.exit_code, tried.stdout) == (0, "")
    assert "to start at" in tried.stderr
    assert "Welcome to HPC, 42 jobs run" in bench.jobs.greeting()
    job_id, _ = bench.running()
    bench.jobs.cancel(job_id)
    assert bench.result(job_id).state is JobState.CANCELLED
