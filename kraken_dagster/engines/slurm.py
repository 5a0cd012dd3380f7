"""Runs jobs on a Slurm cluster that is reached by SSH.

What the cluster is asked and told are single commands over one held connection; `slurm_commands`
has their words, and `head_node` how they get there.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.engines.head_node import LOGIN_LINE, request, unusable
from kraken_dagster.engines.job_script import rendered, with_exports
from kraken_dagster.engines.slurm_commands import (
    NO_FOLDER,
    NO_STORE,
    TOO_LATE,
    plain,
    sacct,
    sbatch,
    squeue,
    submission,
)
from kraken_dagster.engines.slurm_output import (
    job_number,
    parse_sacct,
    parse_squeue,
    report_of,
    submitted_id,
)
from kraken_dagster.engines.ssh import Answer, HeadNode, Login, Ssh
from kraken_dagster.engines.ssh import shared as shared_connection
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.stores.roots import away
from kraken_dagster.model.errors import SchedulerAway, SubmitFailed
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobReport, JobState

_KILLED_AFTER_S = 5
_BEGUN_WITHIN_S = 10
_TAKEN_UP_WITHIN_S = 10
# By `timeout`, by a signal; and what was begun too late, which the next try finds missing.
_ENDED_FROM_OUTSIDE = (124, 128, 137, TOO_LATE)
_SSH_STEP_S = 10.0
_LOG_BYTES = 64 * 1024
# What sbatch says after it did ask the controller and got no clear answer, or could not ask.
_UNCLEAR = re.compile(
    r"timed out|Unable to contact slurm controller|[Cc]onnection|Zero Bytes were transmitted"
    r"|endpoint|temporarily unable|Resource temporarily unavailable|Communication",
)
_NO_ACCOUNTING = "accounting storage is disabled"
_NO_SUCH_JOB = "Invalid job id specified"


class Slurm:
    """The engine of type `slurm`. Its ids are Slurm's job ids."""

    def __init__(self, engine: SlurmEngine, ssh: Ssh) -> None:
        self._engine = engine
        self._ssh = ssh

    @property
    def settles_s(self) -> float:
        """sbatch is begun in time or not at all, and ended after its timeout; the controller may
        take up a little later what it was sent."""
        return _BEGUN_WITHIN_S + self._engine.timeout_s + _KILLED_AFTER_S + _TAKEN_UP_WITHIN_S

    def submit(self, spec: JobSpec, *, may_start: Callable[[], None] = lambda: None) -> str:
        """Makes the output folder, as the cluster's user, and submits the job.

        `may_start` is called when the head node has told its time, and raises who must not go on.
        The head node starts nothing later than `_BEGUN_WITHIN_S` after that, however long this
        process, the connection, or a share is held up meanwhile.

        Raises:
            SubmitFailed: the cluster refused; nothing was submitted.
            StoreAway: the head node has no output; nothing was submitted.
            SettingsRefused: what the job asks for can't be told to sbatch.
            ClusterError: nobody knows whether it was submitted; it is to be found by its name.
        """
        command, script = sbatch(spec), self._script(spec)
        latest = self._time_there() + _BEGUN_WITHIN_S
        may_start()
        answer = self._run(submission(command, spec, latest=latest), script)
        if answer.exit_code == 0:
            return submitted_id(answer.stdout)
        if answer.exit_code == NO_STORE and spec.stores:
            raise away(Path(spec.stores[0][0]), Role.OUTPUT, "no marker of it on the head node")
        words = _words(answer)
        said = "\n".join(line for line in words.splitlines() if line.startswith("sbatch: error:"))
        unclear = answer.exit_code in _ENDED_FROM_OUTSIDE or _UNCLEAR.search(said)
        if answer.exit_code != NO_FOLDER and unclear:
            raise self._away("sbatch", words or "no answer in time")
        raise SubmitFailed(
            "The cluster refused the job",
            file=spec.output_path,
            found=repr(words[:1000]),
            next_step="correct what the cluster reports: the settings, `engines` in "
            "instruments.yaml, or rights on the output folder; tried again by itself.",
        )

    def find(self, name: str) -> str | None:
        """Asks the controller, and the accounting for what it has forgotten.

        Raises:
            ClusterError: one of them can't be asked.
        """
        answer = self._run(squeue(f"--name={name}"))
        self._good(answer, "squeue")
        if (found := _not_refused(parse_squeue(answer.stdout))) is not None:
            return found
        answer = self._run(sacct("-X", f"--name={name}"))
        if _NO_ACCOUNTING in answer.stderr:
            return None
        self._good(answer, "sacct")
        return _not_refused(parse_sacct(answer.stdout))

    def states(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """One squeue for all, and one sacct for those that the controller has forgotten.

        Those that nobody knows are `unknown`. Those that it forgot while the accounting can't be
        asked are left out.

        Raises:
            ClusterError: the cluster can't be asked; that says nothing of the jobs.
        """
        ids = plain(ids)
        if not ids:
            return {}
        answer = self._run(squeue(f"--jobs={','.join(ids)}"))
        if not (answer.exit_code and _NO_SUCH_JOB in answer.stderr):
            self._good(answer, "squeue")
        known = parse_squeue(answer.stdout)
        found = _reports(known, ids)
        forgotten = [job_id for job_id in ids if job_id not in found]
        if not forgotten:
            return found
        answer = self._run(sacct(f"--jobs={','.join(forgotten)}"))
        if answer.exit_code and _NO_ACCOUNTING not in answer.stderr:
            return found
        accounted = parse_sacct(answer.stdout)
        return {**found, **{each: _forgotten(report_of(accounted, each)) for each in forgotten}}

    def usage(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """What the accounting has of ended jobs; it lags, and may have nothing yet.

        Raises:
            ClusterError
        """
        if not ids:
            return {}
        answer = self._run(sacct(f"--jobs={','.join(plain(ids))}"))
        if answer.exit_code:
            return {}
        return _reports(parse_sacct(answer.stdout), ids)

    def cancel(self, job_id: str) -> None:
        answer = self._run(["scancel", *plain([job_id])])
        if _NO_SUCH_JOB not in answer.stderr:
            self._good(answer, "scancel")

    def log_tail(self, spec: JobSpec, *, lines: int = 20) -> str:
        log = f"{spec.output_path}/{spec.log_name}"
        answer = self._run(["tail", f"--bytes={_LOG_BYTES}", "--", log])
        return "\n".join(answer.stdout.splitlines()[-lines:])

    def check(self) -> None:
        """Whether the head node and the controller answer.

        Raises:
            ClusterError
        """
        self._good(self._run(["sinfo", "--noheader", "--format=%P"]), "sinfo")

    def run(self, command: Sequence[str]) -> Answer:
        """A command on the head node, as it is: for `kraken doctor`.

        Raises:
            ClusterError
        """
        return self._run(command)

    def greeting(self) -> str:
        """What a login there prints of its own.

        Raises:
            ClusterError
        """
        asked = request(["true"])
        said = self._ssh.run(LOGIN_LINE, stdin=asked.script, timeout_s=self._engine.timeout_s)
        return asked.around(said)

    def try_submission(self, spec: JobSpec) -> Answer:
        """What sbatch would say to a job, which it doesn't take.

        Raises:
            SubmitFailed, SettingsRefused, ClusterError
        """
        return self._run([*sbatch(spec), "--test-only"], self._script(spec))

    def _script(self, spec: JobSpec) -> bytes:
        if self._engine.job_script is None:
            return rendered(spec, setup=self._engine.setup)
        answer = self._run(["cat", "--", self._engine.job_script])
        if answer.exit_code:
            raise SubmitFailed(
                "The site's own job script can't be read",
                file=self._engine.job_script,
                found=repr(_words(answer)[:1000]),
                next_step="put it there, or correct the engine's `job_script` in instruments.yaml; "
                "tried again by itself.",
            )
        return with_exports(answer.stdout, spec)

    def _time_there(self) -> int:
        answer = self._run(["date", "+%s"])
        if not answer.stdout.strip().isdecimal():
            raise self._away("date", f"{_words(answer)!r}")
        return int(answer.stdout)

    def _run(self, command: Sequence[str], stdin: bytes = b"") -> Answer:
        """On the head node, and ended there in time: a lost answer leaves nothing behind."""
        seconds = math.ceil(self._engine.timeout_s)
        bounded = ["timeout", "-k", str(_KILLED_AFTER_S), str(seconds), *command]
        patience = seconds + _KILLED_AFTER_S + 1
        asked = request(bounded, stdin)
        said = self._ssh.run(LOGIN_LINE, stdin=asked.script, timeout_s=patience)
        answer = asked.answer(said)
        if answer is None:
            raise unusable(said, user=self._engine.user, hosts=self._engine.hosts)
        return answer

    def _good(self, answer: Answer, program: str) -> None:
        if answer.exit_code:
            raise self._away(program, _words(answer) or f"exit code {answer.exit_code}")

    def _away(self, program: str, words: str) -> SchedulerAway:
        return SchedulerAway(
            f"The cluster gives no clear answer to {program}",
            file=", ".join(self._engine.hosts),
            found=repr(words[:1000]),
            next_step="check slurmctld and slurmdbd on the cluster; asked again by itself, and no "
            "job is taken for failed meanwhile.",
        )


def slurm(engine: SlurmEngine) -> Slurm:
    """The engine over the connection that this process holds."""
    heads = tuple(HeadNode(*_host_and_port(host, engine.port)) for host in engine.hosts)
    login = Login(
        heads=heads,
        user=engine.user,
        key_file=engine.key_file,
        known_hosts=engine.known_hosts,
        timeout_s=_SSH_STEP_S,
    )
    return Slurm(engine, shared_connection(login))


def _host_and_port(host: str, port: int) -> tuple[str, int]:
    name, colon, own = host.rpartition(":")
    return (name, int(own)) if colon and own.isdecimal() and ":" not in name else (host, port)


def _reports(known: Mapping[str, JobReport], ids: Sequence[str]) -> dict[str, JobReport]:
    reports = {job_id: report_of(known, job_id) for job_id in ids}
    return {job_id: report for job_id, report in reports.items() if report is not None}


def _not_refused(known: Mapping[str, JobReport]) -> str | None:
    """The oldest of the jobs that were found by a name."""
    ids = {job_number(row_id) for row_id, report in known.items() if not _was_refused(report)}
    return min(filter(None, ids), key=int, default=None)


def _was_refused(report: JobReport) -> bool:
    """A job that sbatch refused is kept by the controller all the same, as one that failed."""
    return report.state is JobState.FAILED and (
        report.node is None or "BadConstraints" in (report.detail or "")
    )


def _forgotten(accounted: JobReport | None) -> JobReport:
    """What a job is that the controller knows no more. The accounting may never hear of its end."""
    if accounted is None:
        return JobReport(JobState.UNKNOWN, detail="neither squeue nor sacct know the job")
    if accounted.ended:
        return accounted
    reported = accounted.detail or accounted.state
    detail = f"squeue has forgotten the job, and sacct still says {reported}; if it has ended, "
    detail += "`sacctmgr show runawayjobs` of the cluster's administrators has it mended"
    return JobReport(
        JobState.UNKNOWN, detail=detail, started_at=accounted.started_at, accounted=True
    )


def _words(answer: Answer) -> str:
    """What a program said: its errors, if there are any."""
    return (answer.stderr.strip() or answer.stdout.strip())[-4000:]
