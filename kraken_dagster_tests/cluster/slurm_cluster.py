"""A real Slurm cluster of one node, and the faults that tests inflict on it; no tests in here.

`slurm/start.sh` says what it consists of. What is done here acts on the daemons themselves, as
root, and returns once it has had its effect.
"""

import os
import pwd
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SCRIPTS = Path(__file__).parents[1] / "slurm"
DEFAULT_BASE = Path("/var/tmp/kraken-slurm")
PATIENCE_S = 120.0
# What a squeue costs the controller: one of these, depending on its options, whatever it prints.
_JOB_INFO = ("REQUEST_JOB_INFO", "REQUEST_JOB_INFO_SINGLE", "REQUEST_JOB_USER_INFO")
_OPCODE = " received opcode "  # so the controller notes down whatever it is asked
_DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sshd")


class ClusterError(Exception):
    """The cluster does not do what it was told."""


@dataclass(frozen=True)
class Process:
    pid: int
    name: str
    state: str
    parent: int

    @property
    def folder(self) -> Path:
        return Path(f"/proc/{self.pid}")

    @property
    def is_alive(self) -> bool:
        return self.state not in "ZX"

    def environment(self) -> dict[str, str]:
        """As it was when it started; empty when it is gone."""
        try:
            facts = (self.folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            return {}
        return dict(fact.split("=", 1) for fact in facts.split("\0") if "=" in fact)


@dataclass(frozen=True)
class Cluster:
    host: str
    port: int
    user: str  # Kraken logs in as this one
    other_user: str  # the jobs of this one are none of Kraken's business
    key_file: Path  # of both
    known_hosts: Path
    base: Path
    has_accounting: bool
    has_cgroups: bool  # without them no job is OUT_OF_MEMORY
    node: str
    settings: dict[str, str] = field(repr=False)

    def entry(self, **more: object) -> dict[str, object]:
        """Its entry below `engines` in instruments.yaml, with further fields."""
        return {
            "type": "slurm",
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "key_file": self.key_file,
            "known_hosts": self.known_hosts,
            **more,
        }

    # -- what there is ------------------------------------------------------------------------

    @property
    def slurm_conf(self) -> Path:
        return self.base / "etc" / "slurm.conf"

    def log_tail(self, daemon: str) -> str:
        """The end of what a daemon has written."""
        paths = [self.base / "log" / f"{daemon}.{ending}" for ending in ("log", "out")]
        texts = [path.read_text(errors="replace") for path in paths if path.exists()]
        lines = [line for text in texts for line in text.splitlines() if _OPCODE not in line]
        return "\n".join(lines[-40:])

    def as_root(self, *argv: str, check: bool = True) -> str:
        """What one of Slurm's programs prints to root."""
        done = subprocess.run(
            argv, env=self._environment(), capture_output=True, text=True, timeout=PATIENCE_S
        )
        if check and done.returncode:
            raise ClusterError(f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def run_as(self, user: str, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Runs a program as a user of the cluster, without ssh."""
        entry = pwd.getpwnam(user)
        environment = {
            "HOME": entry.pw_dir,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "SLURM_CONF": str(self.slurm_conf),
        }
        return subprocess.run(
            argv,
            cwd="/",
            env=environment,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def ssh(
        self, command: str, *, user: str | None = None, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command line on the cluster, by OpenSSH's client."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
        }
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        where = ["-i", str(self.key_file), "-p", str(self.port), f"{user or self.user}@{self.host}"]
        return subprocess.run(
            ["ssh", "-F", "/dev/null", *flags, *where, command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def state(self, job_id: str) -> str | None:
        """A job's state, as the controller has it; None when it has none."""
        # Asked for all, as squeue fails when the one job that it is asked for is unknown.
        lines = self.as_root("squeue", "-h", "-r", "-t", "all", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines).get(job_id)

    def wait_for(self, job_id: str, *states: str) -> str:
        """Waits until the controller has a job in one of these states."""
        what = f"job {job_id} is {' or '.join(states)}"

        def found() -> str | None:
            state = self.state(job_id)
            return state if state in states else None

        return self._wait(found, what, "slurmctld", "slurmd") or ""

    def jobs_by_name(self, name: str) -> list[str]:
        """The ids of all jobs that ever had this name, of all users, in order.

        From the accounting, and from the controller, as a new job isn't in the accounting yet.
        """
        ids = self.as_root("squeue", "-h", "-t", "all", "-n", name, "-o", "%A").split()
        if self.has_accounting:  # it answers for today alone when it is not told since when
            options = ["-n", "-X", "-P", "-a", "-S", "now-7days", f"--name={name}"]
            ids += self.as_root("sacct", *options, "--format=JobIDRaw").split()
        return sorted(set(ids), key=int)

    def job_info_rpcs(self, user: str) -> int:
        """How often the controller was asked for jobs by this user: once by every squeue.

        `sdiag` counts by user, and by kind, but not by both; the controller's log tells both.
        """
        uid = pwd.getpwnam(user).pw_uid
        log = (self.base / "log" / "slurmctld.log").read_text(errors="replace")
        return len(
            re.findall(rf"{_OPCODE}(?:{'|'.join(_JOB_INFO)}) .* uid {uid}$", log, re.MULTILINE)
        )

    # -- faults -------------------------------------------------------------------------------

    def pause_controller(self) -> None:
        """The controller accepts connections and says nothing, as one that hangs."""
        self._pause([self._running("slurmctld")])

    def resume_controller(self) -> None:
        """Undoes it. What was asked meanwhile is done then."""
        self._resume([self._running("slurmctld")])
        self._start("controller")

    def kill_controller(self) -> None:
        """Nothing listens at the controller's port. It saves its jobs before it ends."""
        self._stop("slurmctld")

    def start_controller(self) -> None:
        self._start("controller")

    def stop_accounting(self) -> None:
        """Ends slurmdbd; the controller keeps what it has to tell it."""
        self._stop("slurmdbd")

    def start_accounting(self) -> None:
        """Starts it; returns when the controller has told it everything."""
        self._start("accounting")
        if self._daemon("slurmctld"):
            self._wait(
                lambda: "DBD Agent queue size: 0" in self.as_root("sdiag"),
                "slurmdbd knows what the controller knows",
                "slurmctld",
                "slurmdbd",
            )

    def kill_sshd_sessions(self) -> int:
        """Cuts all connections of ssh. What runs at their other ends goes on.

        Returns:
            How many there were.
        """
        listener = self._running("sshd")
        sessions = self._sessions()
        self._kill(sessions)
        return sum(process.parent == listener.pid for process in sessions)

    def stop_sshd(self) -> None:
        """Cuts all connections of ssh; new ones are refused."""
        listener = self._running("sshd")
        self._pause([listener])  # so that no connection comes between
        self._kill(self._sessions())
        self._kill([listener])

    def start_sshd(self) -> None:
        self._start("ssh")

    def pause_sshd(self) -> None:
        """The connections of ssh stay, and nothing comes through them; new ones hang."""
        self._pause([self._running("sshd")])
        self._pause(self._sessions())

    def resume_sshd(self) -> None:
        self._resume([*self._sessions(), self._running("sshd")])
        self._start("ssh")

    def lose_node(self) -> None:
        """The node goes down, with everything that runs on it: NODE_FAIL, or another try."""
        if slurmd := self._daemon("slurmd"):
            self._kill([slurmd])
        # The keepers of the jobs first: else they tell the controller of jobs that were killed.
        for only in ("slurmstepd", ""):
            self._wait(lambda only=only: self._none_left(only), "nothing of jobs runs", "slurmd")
        self.as_root(
            "scontrol", "update", f"NodeName={self.node}", "State=DOWN", "Reason=lost by a test"
        )
        self._wait(
            lambda: self._node_state().startswith("DOWN") and not self._jobs("R,CG"),
            "the node is down, and no job on it",
            "slurmctld",
        )

    def restore_node(self) -> None:
        self._start("node")

    def purge_from_controller(self, job_id: str) -> None:
        """The controller forgets this job, and all others that have ended."""
        conf = self.slurm_conf.read_text()
        usual = self._min_job_age()
        try:
            self._reconfigure(conf.replace(usual, "MinJobAge=2\n"))
            self._wait(
                lambda: self.state(job_id) is None,
                f"the controller has forgotten job {job_id}",
                "slurmctld",
            )
        finally:
            self._reconfigure(conf)

    def end_now(self, job_id: str) -> None:
        """Has a job run into its time limit.

        The controller takes no time that is over, and looks for such jobs every 30 s.
        """
        self.as_root("scontrol", "update", f"JobId={job_id}", "EndTime=now+5")
        self.wait_for(job_id, "TIMEOUT")

    def reset(self) -> None:
        """Undoes all faults, and cancels all jobs."""
        daemons = [self._daemon(name) for name in self._daemons()]
        self._resume([process for process in (*daemons, *self._sessions()) if process])
        if None in daemons or self._min_job_age() not in self.slurm_conf.read_text():
            self._start()
        self._wait(self._cancel, "no job is left", "slurmctld", "slurmd")
        if self._node_state() != "IDLE":
            self._start("node")
        self._wait(lambda: self._node_state() == "IDLE", "the node is idle", "slurmctld", "slurmd")
        # Once more: a controller that was suspended may have been told of a job that came last.
        self._wait(self._cancel, "no job is left", "slurmctld", "slurmd")

    # -- how ----------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        return os.environ | self.settings

    def _start(self, *parts: str) -> None:
        start(self._environment(), *parts)

    def _stop(self, name: str) -> None:
        process = self._running(name)
        self._resume([process])
        os.kill(process.pid, signal.SIGTERM)
        # Not its pid file: that goes before the daemon does.
        self._wait(lambda: not is_alive(process.pid), f"{name} has ended", name)

    def _daemons(self) -> list[str]:
        accounting = ("mariadbd", "slurmdbd")
        return [name for name in _DAEMONS if self.has_accounting or name not in accounting]

    def _daemon(self, name: str) -> Process | None:
        """The daemon of this name, if it runs."""
        return daemon(self.base, name)

    def _running(self, name: str) -> Process:
        if process := self._daemon(name):
            return process
        raise ClusterError(f"{name} does not run. Its log ends:\n{self.log_tail(name)}")

    def _sessions(self) -> list[Process]:
        """The processes of the connections of ssh, but not what runs at their ends."""
        found: list[Process] = []
        parents = {listener.pid} if (listener := self._daemon("sshd")) else set()
        everything = list(processes())
        while parents:
            below = [process for process in everything if process.parent in parents]
            below = [process for process in below if process.name.startswith("sshd")]
            found += below
            parents = {process.pid for process in below}
        return [process for process in found if process.is_alive]

    def _of_jobs(self) -> list[Process]:
        """What runs on the node for jobs: by what Slurm puts into the environment of both."""
        found = []
        for process in processes():
            environment = process.environment() if process.is_alive else {}
            of_this = environment.get("SLURM_CONF") == str(self.slurm_conf)
            if of_this and (process.name == "slurmstepd" or "SLURM_JOB_ID" in environment):
                found.append(process)
        return found

    def _none_left(self, only: str) -> bool:
        """Whether nothing of jobs ran, or nothing of this name; kills what did."""
        found = [process for process in self._of_jobs() if only in ("", process.name)]
        self._kill(found)
        return not found

    def _pause(self, these: list[Process]) -> None:
        self._signal(these, signal.SIGSTOP, lambda state: state in "TZX")

    def _resume(self, these: list[Process]) -> None:
        self._signal(these, signal.SIGCONT, lambda state: state != "T")

    def _kill(self, these: list[Process]) -> None:
        self._signal(these, signal.SIGKILL, lambda state: state in "ZX")

    def _signal(
        self, these: list[Process], number: signal.Signals, done: Callable[[str], bool]
    ) -> None:
        for process in these:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
        for process in these:
            self._wait(
                lambda pid=process.pid: done(now.state if (now := look_at(pid)) else "X"),
                f"{process.name} ({process.pid}) has had {number.name}",
                process.name,
            )

    def _jobs(self, states: str) -> list[str]:
        return self.as_root("squeue", "-h", "-t", states, "-o", "%A").split()

    def _cancel(self) -> bool:
        """Whether there is no job that has not ended; cancels those that there are."""
        jobs = self.as_root("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.as_root("scancel", *sorted(set(jobs)), check=False)  # some may have ended
        return not jobs

    def _node_state(self) -> str:
        # Not by sinfo: that may call a node mixed for good whose last job has just ended.
        (state,) = (
            fact.removeprefix("State=")
            for fact in self.as_root("scontrol", "-o", "show", "node", self.node).split()
            if fact.startswith("State=")
        )
        return state

    def _min_job_age(self) -> str:
        return f"MinJobAge={self.settings['KRAKEN_SLURM_MIN_JOB_AGE']}\n"

    def _reconfigure(self, conf: str) -> None:
        part = self.slurm_conf.with_name("slurm.conf.part")
        part.write_text(conf)
        part.replace(self.slurm_conf)
        self.as_root("scontrol", "reconfigure")

    def _wait(self, condition: Callable[[], T], what: str, *daemons: str) -> T:
        end = time.monotonic() + PATIENCE_S
        while True:
            problem = ""
            try:
                if found := condition():
                    return found
            except ClusterError as error:  # a busy machine's controller answers the next time
                problem = str(error)
            if time.monotonic() > end:
                logs = [f"--- {name}:\n{self.log_tail(name)}" for name in daemons]
                raise ClusterError("\n".join([f"waited in vain until {what}", problem, *logs]))
            time.sleep(0.05)


def look_at(pid: int) -> Process | None:
    """What the kernel says of a process."""
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    except OSError:
        return None
    state, parent = after.split()[:2]
    return Process(pid, before.partition(" (")[2], state, int(parent))


def is_alive(pid: int) -> bool:
    process = look_at(pid)
    return process is not None and process.is_alive


def processes() -> Iterator[Process]:
    """All of the machine."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (process := look_at(int(path.name))):
            yield process


def daemon(base: Path, name: str) -> Process | None:
    """The daemon of this name that runs for the cluster in `base`."""
    try:
        process = look_at(int((base / "run" / f"{name}.pid").read_text()))
    except (OSError, ValueError):
        return None
    return process if process and process.name == name and process.is_alive else None


def missing_packages() -> str:
    """The Debian packages without which there is no cluster; empty when all are there."""
    done = subprocess.run(
        ["bash", SCRIPTS / "install.sh", "--missing"], capture_output=True, text=True, check=True
    )
    return " ".join(done.stdout.split())


def settings_of(base: Path) -> dict[str, str]:
    """What the cluster in `base` was started with."""
    lines = (base / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def start(environment: dict[str, str], *parts: str) -> None:
    """Runs `start.sh`, with its settings in the environment."""
    done = subprocess.run(
        ["bash", SCRIPTS / "start.sh", *parts],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ClusterError(f"start.sh ended with {done.returncode}:\n{done.stderr}")


def stop(base: Path) -> None:
    """Runs `stop.sh`."""
    environment = os.environ | {"KRAKEN_SLURM_BASE": str(base)}
    subprocess.run(["bash", SCRIPTS / "stop.sh"], env=environment, check=True)


def cluster_in(base: Path) -> Cluster:
    """The cluster that `start.sh` has started."""
    settings = settings_of(base)
    return Cluster(
        host=settings["KRAKEN_SLURM_HOST"],
        port=int(settings["KRAKEN_SLURM_PORT"]),
        user=settings["KRAKEN_SLURM_USER"],
        other_user=settings["KRAKEN_SLURM_OTHER_USER"],
        key_file=Path(settings["KRAKEN_SLURM_KEY"]),
        known_hosts=Path(settings["KRAKEN_SLURM_KNOWN_HOSTS"]),
        base=base,
        has_accounting=settings["KRAKEN_SLURM_ACCOUNTING"] == "1",
        has_cgroups=settings["KRAKEN_SLURM_CGROUP"] == "1",
        node=settings["KRAKEN_SLURM_NODE"],
        settings=settings,
    )
