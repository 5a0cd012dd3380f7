"""Commands for a head node, written so that its user's login changes neither them nor the answer.

The login shell gets one line that means the same to every shell; what is to be done is on its
stdin, for sh, and so is what the command reads. Each stream of the answer is between marks that no
one can know before, so greetings, complaints and a site's goodbye are no part of it.
"""

import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kraken_dagster.engines.ssh import Answer
from kraken_dagster.model.errors import LoginUnusable

# No `exec`, no path and no quotes: csh, fish and restricted shells know this as well.
LOGIN_LINE = "sh -s"
# What says where, for whom and with how much a job runs is the site's. What changes what is run,
# under which name, how often, what it finds or where its output goes is Kraken's to say, and so is
# anything that is not known here.
_KEPT_FOR_SBATCH = (
    *("ACCOUNT", "ACCTG_FREQ", "CONSTRAINT", "CORE_SPEC", "CPUS_PER_GPU", "DELAY_BOOT"),
    *("DISTRIBUTION", "EXCLUSIVE", "GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GPU_BIND"),
    *("GPU_FREQ", "GRES", "GRES_FLAGS", "HINT", "MEM_BIND", "MEM_PER_CPU", "MEM_PER_GPU"),
    *("MEM_PER_NODE", "NETWORK", "OVERCOMMIT", "PARTITION", "POWER", "PROFILE", "QOS"),
    *("REQ_SWITCH", "RESERVATION", "SPREAD_JOB", "THREADS_PER_CORE", "THREAD_SPEC", "TIMELIMIT"),
    *("USE_MIN_NODES", "WAIT4SWITCH", "WAIT_ALL_NODES", "WCKEY"),
)
# Filters and formats of what is asked; another cluster than the one that would be asked later; and
# what has Slurm's programs print more, or end with other exit codes.
_DROPPED = (
    *("SBATCH_*", "SQUEUE_*", "SACCT_*", "SINFO_*", "SCONTROL_*", "SCANCEL_*"),
    *("SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN", "SLURM_TOPO_LEN"),
    *("SLURM_DEBUG_FLAGS", "SLURM_EXIT_ERROR", "SLURM_EXIT_IMMEDIATE"),
)
_SCRIPT = f"""{{
set +efuvx
unset LANGUAGE
for kraken_name in $(env | sed -n 's/^\\([A-Z][A-Z0-9_]*\\)=.*/\\1/p'); do
  case $kraken_name in
    {" | ".join(f"SBATCH_{name}" for name in _KEPT_FOR_SBATCH)}) ;;
    {" | ".join(_DROPPED)}) unset "$kraken_name" ;;
  esac
done
LC_ALL=C.UTF-8
export LC_ALL
kraken_mark=@mark@
printf 'kraken:%s:begin\\n' "$kraken_mark" >&2
printf 'kraken:%s:begin\\n' "$kraken_mark"
@command@
kraken_code=$?
printf 'kraken:%s:end:%s\\n' "$kraken_mark" "$kraken_code"
printf 'kraken:%s:end:%s\\n' "$kraken_mark" "$kraken_code" >&2
exit 0
}}
"""


@dataclass(frozen=True)
class Request:
    """A command that is sent to a head node, and the mark that its answer has."""

    script: bytes
    mark: str

    def answer(self, said: Answer) -> Answer | None:
        """What the command itself answered; None if it was not run, or did not end."""
        out, err = self._framed(said.stdout), self._framed(said.stderr)
        if out is None:
            return None
        return Answer(int(out[2]), out[1], "" if err is None else err[1])

    def around(self, said: Answer) -> str:
        """What the login printed of its own."""
        streams = [(text, self._framed(text)) for text in (said.stdout, said.stderr)]
        return "".join(
            text if found is None else text.replace(found[0], "") for text, found in streams
        )

    def _framed(self, text: str) -> "re.Match[str] | None":
        name = f"kraken:{self.mark}:"
        return re.search(f"{name}begin\n(.*){name}end:(\\d+)\n", text, re.DOTALL)


def request(command: Sequence[str], stdin: bytes = b"") -> Request:
    """A command as an argument list; `stdin` holds no NUL.

    The whole script is one compound command, so sh begins nothing of it that was cut off.
    """
    words = shlex.join(command)
    line = f"{words} < /dev/null"
    if stdin:
        text = stdin.decode("utf-8", "surrogateescape")
        line = f"printf %s {shlex.quote(text)} 2>/dev/null | {words}"
    parts = {"mark": secrets.token_hex(16), "command": line}
    script = re.sub("@(mark|command)@", lambda found: parts[found[1]], _SCRIPT)
    return Request(script.encode("utf-8", "surrogateescape"), parts["mark"])


def unusable(said: Answer, *, user: str, hosts: Sequence[str]) -> LoginUnusable:
    """The error of a login whose answer isn't framed."""
    return LoginUnusable(
        "The login on the head node doesn't run what Kraken sends it",
        file=f"{user} on {', '.join(hosts)}",
        expected=f"a login shell that runs `{LOGIN_LINE}`, which reads its stdin",
        found=f"exit code {said.exit_code}, and {(said.stdout + said.stderr)[-500:]!r}",
        next_step=f"see to it that `echo 'echo well' | ssh {user}@{hosts[0]} {LOGIN_LINE}` prints "
        "`well`. For logins that are not interactive a profile must not exit, read stdin, nor send "
        "the output elsewhere, and the login shell must find sh. Tried again by itself; no job is "
        "taken for failed meanwhile.",
    )
