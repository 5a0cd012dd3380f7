"""Head nodes whose users have other login shells, profiles that print, and variables of Slurm's.

The shells are real. In place of Slurm's programs there are some that do with the environment what
those do, and in place of a site's own sbatch some that print around it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.engines.head_node import LOGIN_LINE, request
from kraken_dagster.engines.slurm import Slurm
from kraken_dagster.engines.ssh import Answer
from kraken_dagster.model.errors import ClusterReplyUnreadable, LoginUnusable, SubmitFailed
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster_tests.backup.copying.copying_cases import unavailable

SHELLS = ["bash", "dash", "rbash", "tcsh", "csh", "fish", "zsh"]
HOSTILE = 'it\'s "quoted" $(touch pwned) `x` \\ ! % new\nline\r\n EOF ünï 質 \udcff\udcfe ~ {a,b} #'
SQUEUE = (
    'case "${SQUEUE_PARTITION:-debug}${SQUEUE_STATES:-}${SLURM_CLUSTERS:-}" in\n'
    "  debug) ;; *) exit 0 ;; esac\n"
    'time=2026-11-26T21:36:42; [ "$SLURM_TIME_FORMAT" = standard ] || time="26 Nov 21:36"\n'
    'echo "7|RUNNING|0|None|$time|N/A|n1|"'
)
# It keeps what it was given, so that a test can look at it.
SBATCH = 'cat > "$HOME/script"; printf "%s\\0" "$@" > "$HOME/words"; env -0 > "$HOME/found"\n'
PROGRAMS = {
    "squeue": SQUEUE,
    "sacct": 'echo "7|RUNNING|0:0|2026-11-26T21:36:42|Unknown|n1|"',
    "sbatch": f"{SBATCH}echo 7",
    "sinfo": "echo debug",
}


class Login:
    """In place of the connection: a login on this machine."""

    def __init__(self, folder: Path, shell: str = "bash", profile: str = "", **variables: str):
        self.home, self.profile = folder, profile
        program = shutil.which(shell)
        if program is None:
            unavailable(f"no {shell}: install it")
        self.shell = program
        self.variables = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
        self.variables |= variables
        for name, text in PROGRAMS.items():
            self.program(name, text)

    def program(self, name: str, text: str) -> None:
        path = self.home / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float | None = None) -> Answer:
        """As sshd does it: the shell gets the line by `-c`, and the profile is read before it."""
        done = subprocess.run(
            [self.shell, "-c", f"{self.profile}\n{command}"],
            input=stdin,
            env=self.variables,
            cwd=self.home,
            capture_output=True,
        )
        texts = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return Answer(done.returncode, *texts)

    def found(self) -> dict[str, str]:
        """The variables that sbatch found."""
        cells = os.fsdecode((self.home / "found").read_bytes()).split("\0")[:-1]
        return dict(cell.split("=", 1) for cell in cells)


def cluster(login: Login) -> Slurm:
    return Slurm(SlurmEngine(type="slurm", host="h", user="u"), login)


def spec(login: Login, **environment: str) -> JobSpec:
    output = str(login.home / "out put's")
    return JobSpec("j", ("/bin/true",), {"OUTPUT_PATH": output, **environment}, output)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_submits_and_answers(tmp_path: Path, shell: str) -> None:
    login = Login(tmp_path, shell)
    engine, asked = cluster(login), spec(login, VALUE=HOSTILE)
    assert engine.submit(asked) == "7"
    assert engine.states(["7"])["7"].state is JobState.RUNNING
    assert (tmp_path / "out put's" / "kraken.job_id").read_text() == "7 j\n"
    words = (tmp_path / "words").read_text().split("\0")
    assert f"--output={asked.output_path}/log.txt" in words
    # What arrived as the job's script sets the value as it is.
    script = os.fsdecode((tmp_path / "script").read_bytes()).partition("\nkraken_name=")[0]
    shown = subprocess.run(
        ["bash", "-c", f'{script}\nprintf %s "$VALUE"'.encode("utf-8", "surrogateescape")],
        capture_output=True,
        check=True,
    )
    assert os.fsdecode(shown.stdout) == HOSTILE
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "profile",
    ["echo Welcome to HPC", "printf 'no newline, 42'", "echo 42", "stty sane", "no-such-program"],
)
def test_what_a_login_prints_is_no_part_of_an_answer(
    tmp_path: Path, shell: str, profile: str
) -> None:
    login = Login(tmp_path, shell, f"{profile}; sh -c 'echo on stderr >&2'")
    engine = cluster(login)
    assert engine.submit(spec(login)) == "7"
    assert engine.states(["7"])["7"].state is JobState.RUNNING
    assert engine.run(["printf", "%s", "as it is\n\n"]) == Answer(0, "as it is\n\n", "")
    assert engine.run(["sh", "-c", "printf e >&2; exit 3"]) == Answer(3, "", "e")
    assert "on stderr" in engine.greeting()


def test_a_goodbye_is_no_part_of_an_answer(tmp_path: Path) -> None:
    login = Login(tmp_path, "bash", "trap 'echo Goodbye; echo 42' EXIT")
    engine = cluster(login)
    assert engine.submit(spec(login)) == "7"
    assert engine.greeting() == "Goodbye\n42\n"
    assert cluster(Login(tmp_path)).greeting() == ""


@pytest.mark.parametrize(
    ("profile", "reported"),
    [
        ("exit 0", "must not exit"),
        ("exit 1", "exit code 1"),
        ("cat > /dev/null", "read stdin"),
        ("cat", "read stdin"),
        ("while read -r line; do :; done", "read stdin"),
        ("exec > /dev/null", "send the output elsewhere"),
        ("echo 'This account is closed'; exit 254", "This account is closed"),
        ("PATH=/nowhere", "must find sh"),
    ],
)
def test_a_login_that_runs_nothing_is_told_and_the_controller_is_not_blamed(
    tmp_path: Path, profile: str, reported: str
) -> None:
    engine = cluster(Login(tmp_path, "bash", profile))
    for ask in (
        lambda: engine.submit(spec(Login(tmp_path, "bash", profile))),
        lambda: engine.states(["7"]),
        lambda: engine.find("j"),
        engine.check,
    ):
        with pytest.raises(LoginUnusable) as caught:
            ask()
        assert reported in str(caught.value)
        assert "slurmctld" not in str(caught.value)
        assert "u on h" in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 100, 1000])
def test_nothing_is_begun_of_what_was_cut_off_on_its_way(tmp_path: Path, size: int) -> None:
    asked = request(["touch", str(tmp_path / "begun")], b"a script\n" * 200)
    for end in (size, len(asked.script) - 3 - size):
        said = Login(tmp_path).run(LOGIN_LINE, stdin=asked.script[:end])
        assert asked.answer(said) is None
    assert not (tmp_path / "begun").exists()
    assert asked.answer(Login(tmp_path).run(LOGIN_LINE, stdin=asked.script)) == Answer(0, "", "")


# --- what a site has put in place of sbatch


@pytest.mark.parametrize(
    "text",
    [
        "echo Your project has 12 hours left.; echo 7; echo Thank you.",
        "echo; echo '7;a cluster'; echo '7;cluster'; echo 99",
        "echo 7; echo 7",
        "printf '  7\\r\\n'",
        "echo 8 >&2; echo 7; echo sbatch: 9 >&2",
    ],
)
def test_what_a_wrapper_of_sbatch_prints_is_no_part_of_the_id(tmp_path: Path, text: str) -> None:
    login = Login(tmp_path)
    login.program("sbatch", f"{SBATCH}{text}")
    assert cluster(login).submit(spec(login)) == "7"
    assert (tmp_path / "out put's" / "kraken.job_id").exists()


@pytest.mark.parametrize("text", ["echo 41; echo 7", "echo Well.", ":"])
def test_an_answer_that_leaves_the_id_open_is_no_refusal(tmp_path: Path, text: str) -> None:
    login = Login(tmp_path)
    login.program("sbatch", f"{SBATCH}{text}")
    with pytest.raises(ClusterReplyUnreadable, match="asked for the job by its name"):
        cluster(login).submit(spec(login))
    assert not (tmp_path / "out put's" / "kraken.job_id").exists()


def test_a_refusal_is_told_in_the_words_of_sbatch_alone(tmp_path: Path) -> None:
    login = Login(tmp_path, "tcsh", "echo Connection to HPC")
    login.program("sbatch", f"{SBATCH}echo 'sbatch: error: Invalid account' >&2; exit 1")
    with pytest.raises(SubmitFailed) as caught:
        cluster(login).submit(spec(login))
    assert caught.value.found == repr("sbatch: error: Invalid account")


# --- variables of Slurm's

FOR_QUERIES = {
    "SQUEUE_PARTITION": "short",
    "SQUEUE_STATES": "PD",
    "SQUEUE_FORMAT": "%i",
    "SACCT_FEDERATION": "1",
    "SLURM_CLUSTERS": "other",
    "SLURM_TIME_FORMAT": "relative",
    "SLURM_BITSTR_LEN": "4",
    "SLURM_DEBUG_FLAGS": "Protocol",
    "SLURM_EXIT_ERROR": "0",
    "LC_ALL": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "TZ": "Asia/Tokyo",
}
LOST = [
    *("ARRAY_INX", "BATCH", "CLUSTERS", "CONTAINER", "DEBUG", "DEPENDENCY", "ERROR", "EXPORT"),
    *("GET_USER_ENV", "HOLD", "IGNORE_PBS", "INPUT", "JOB_NAME", "NO_KILL", "NO_REQUEUE"),
    *("OPEN_MODE", "OUTPUT", "REQUEUE", "SIGNAL", "WAIT", "WHAT_A_NEWER_ONE_HAS"),
]
KEPT = ["ACCOUNT", "CONSTRAINT", "GRES", "MEM_PER_CPU", "PARTITION", "QOS", "RESERVATION", "WCKEY"]


@pytest.mark.parametrize("shell", ["bash", "tcsh", "fish"])
def test_what_a_user_has_set_for_queries_hides_no_job(tmp_path: Path, shell: str) -> None:
    engine = cluster(Login(tmp_path, shell, **FOR_QUERIES))
    report = engine.states(["7"])["7"]
    assert (report.state, report.started_at is not None) == (JobState.RUNNING, True)
    assert engine.find("j") == "7"


def test_a_submission_keeps_what_a_site_needs_and_loses_what_changes_it(tmp_path: Path) -> None:
    site = {"SLURM_CONF": "/etc/s.conf", "SLURM_JWT": "x", "SLURM_UMASK": "0002"}
    variables = {f"SBATCH_{name}": "1" for name in (*LOST, *KEPT)} | site | FOR_QUERIES
    login = Login(tmp_path, "bash", "export SBATCH_WAIT=1 SBATCH_QOS=mine", **variables)
    cluster(login).submit(spec(login))
    found = login.found()
    ours = {name for name in found if name.startswith(("SBATCH_", "SLURM_", "SQUEUE_", "SACCT_"))}
    assert ours == {*(f"SBATCH_{name}" for name in KEPT), *site}
    assert (found["SBATCH_QOS"], found["SLURM_CONF"]) == ("mine", "/etc/s.conf")
    assert found["LC_ALL"] == "C.UTF-8"
