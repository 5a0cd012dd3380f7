"""The Slurm cluster is what other tests take it for, and its faults are real ones."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kraken_dagster_tests.cluster.slurm_cluster import Cluster
from kraken_dagster_tests.cluster.slurm_fixtures import NEEDS_SLURM
from kraken_dagster_tests.support.helpers import wait_until

pytestmark = NEEDS_SLURM
SLEEP = "#!/bin/sh\nsleep 600\n"


def _submit(cluster: Cluster, options: str = "", script: str = SLEEP, user: str = "") -> str:
    """The id of a job that was submitted through ssh."""
    line = f"cd / && sbatch --parsable --output=/dev/null {options}"
    done = cluster.ssh(line, user=user or cluster.user, stdin=script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _sacct(cluster: Cluster, job_id: str) -> str:
    return cluster.ssh(f"sacct -X -n -P -j {job_id} --format=State").stdout.strip()


@contextmanager
def _session(cluster: Cluster, command: str) -> Iterator["subprocess.Popen[str]"]:
    """A connection that has begun to run a command, which says `on`."""
    where = ["-i", str(cluster.key_file), "-p", str(cluster.port), f"{cluster.user}@{cluster.host}"]
    options = ["-o", f"UserKnownHostsFile={cluster.known_hosts}", "-o", "BatchMode=yes"]
    process = subprocess.Popen(
        ["ssh", "-F", "/dev/null", *options, *where, f"echo on; {command}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "on\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_both_users_run_jobs_through_ssh_and_each_sees_whose_they_are(
    cluster: Cluster, cluster_folder: Path
) -> None:
    script = f"#!/bin/sh\nid -un > {cluster_folder}/user\nexit 7\n"
    ours = _submit(cluster, script=script)
    theirs = _submit(cluster, user=cluster.other_user)
    assert cluster.wait_for(ours, "FAILED") == "FAILED"
    cluster.wait_for(theirs, "RUNNING")
    assert (cluster_folder / "user").read_text() == f"{cluster.user}\n"
    listed = cluster.ssh("squeue -h -t all -o '%i %u'").stdout.splitlines()
    assert {f"{ours} {cluster.user}", f"{theirs} {cluster.other_user}"} <= set(listed)
    assert cluster.ssh(f"scancel {theirs}").returncode != 0
    assert cluster.state(theirs) == "RUNNING"
    if cluster.has_accounting:
        wait_until(lambda: _sacct(cluster, ours) == "FAILED", "sacct knows", timeout_s=60)


def test_jobs_are_counted_by_their_names(cluster: Cluster) -> None:
    name = f"counted-{os.urandom(4).hex()}"
    assert cluster.jobs_by_name(name) == []
    first = _submit(cluster, f"--job-name={name}", "#!/bin/sh\n")
    cluster.wait_for(first, "COMPLETED")
    second = _submit(cluster, f"--job-name={name}", user=cluster.other_user)
    _submit(cluster, f"--job-name={name}-other")
    assert cluster.jobs_by_name(name) == [first, second]


def test_what_asks_for_jobs_is_counted_by_user(cluster: Cluster) -> None:
    job = _submit(cluster)
    before = cluster.job_info_rpcs(cluster.user), cluster.job_info_rpcs(cluster.other_user)
    asked = (f"-j {job}", f"-j {job},{job}9", "-t all", "--me -n name", "-n name")
    for options in asked:
        cluster.ssh(f"squeue -h {options}")
    cluster.run_as(cluster.other_user, "squeue")
    cluster.ssh("sinfo; sdiag; scontrol show partition")
    after = cluster.job_info_rpcs(cluster.user), cluster.job_info_rpcs(cluster.other_user)
    assert (after[0] - before[0], after[1] - before[1]) == (len(asked), 1)


def test_connections_are_cut_and_what_they_run_goes_on(
    cluster: Cluster, cluster_folder: Path
) -> None:
    begun, done = cluster_folder / "begun", cluster_folder / "done"
    command = f"until [ -e {begun} ]; do sleep 0.1; done; touch {done}"
    with _session(cluster, command) as session:
        assert cluster.kill_sshd_sessions() >= 1
        assert session.wait(timeout=60) == 255
        begun.touch()
        wait_until(done.exists, "the command has gone on", timeout_s=60)
    assert cluster.ssh("true").returncode == 0


def test_reset_undoes_everything(cluster: Cluster) -> None:
    _submit(cluster, "--array=1-3%1 --partition=low")
    _submit(cluster, "--begin=now+1hour", user=cluster.other_user)
    cluster.lose_node()
    cluster.pause_sshd()
    if cluster.has_accounting:
        cluster.stop_accounting()
    cluster.pause_controller()
    cluster.reset()
    assert cluster.ssh("squeue -h").stdout == ""
    assert "State=IDLE " in cluster.ssh(f"scontrol -o show node {cluster.node}").stdout
    assert cluster.ssh("sacct").returncode == (0 if cluster.has_accounting else 1)
