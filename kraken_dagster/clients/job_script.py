"""The scripts of processing jobs, rendered from the templates beside this module."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from kraken_dagster.domain.quant import JobSpec

_FOLDER = Path(__file__).parent
EXIT_CODE_FILE = "kraken.exit_code"
JOB_ID_FILE = "kraken.job_id"
_OWN_SCRIPT = "KRAKEN_OWN_SCRIPT"
_RAW_FILE = "RAW_FILE_PATH"


def rendered(spec: JobSpec, *, setup: str = "") -> bytes:
    """Kraken's own job script. `setup` are shell lines of the administrator's."""
    parts = {
        "exports": _exports(spec.environment),
        "name": _quoted(spec.name),
        "setup": setup,
        "command": " ".join(map(_quoted, full_command(spec))),
    }
    template = (_FOLDER / "job_script.sh").read_text()
    text = re.sub("@(exports|name|setup|command)@", lambda found: parts[found[1]], template)
    return _encoded(text)


def with_exports(site_script: str, spec: JobSpec) -> bytes:
    """A site's own job script that finds the job's variables.

    They are set below the lines that sbatch reads: its directives end at the first command.
    """
    lines = site_script.split("\n")  # as a shell does: other ends of lines are part of a comment
    head = 0
    while head < len(lines) and lines[head].strip()[:1] in ("", "#"):
        head += 1
    name = shlex.quote(spec.name)
    begun = f'printf "%s %s\\n" "${{SLURM_JOB_ID:-}}" {name} > "$OUTPUT_PATH/{JOB_ID_FILE}"'
    exports = [_exports(spec.environment), "export SLURM_EXPORT_ENV=ALL", begun]
    if (command := full_command(spec)) != list(spec.command):
        # The script runs once more, as it is, once the variables lead to what it may write to.
        guard = [f'export {_OWN_SCRIPT}="$0"', f"exec {' '.join(map(_quoted, command))}"]
        exports = [f'if [ -z "${{{_OWN_SCRIPT}-}}" ]; then', *exports, *guard, "fi"]
        exports.append(f"unset {_OWN_SCRIPT}")
    return _encoded("\n".join([*lines[:head], *exports, *lines[head:]]) + "\n")


def full_command(spec: JobSpec) -> list[str]:
    """The job's command, behind what keeps it from altering its raw file."""
    files: Sequence[str] = spec.working_copy
    when = "always" if files else "needed"
    if not files:
        files = [spec.environment[_RAW_FILE]] if _RAW_FILE in spec.environment else []
    if not files:
        return list(spec.command)
    script = f"when={when}\n" + (_FOLDER / "working_copy.sh").read_text()
    before = ["/bin/bash", "-c", script, "kraken-working-copy", str(len(files)), *files]
    return [*before, *spec.command]


def _exports(environment: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={_quoted(value)}" for name, value in environment.items())


def _quoted(value: str) -> str:
    """For any shell. sbatch refuses a script that has a DOS line break anywhere."""
    return shlex.quote(value).replace("\r\n", "'\"$(printf '\\r')\"'\n")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # a path may be no UTF-8
