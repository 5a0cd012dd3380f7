"""The scripts of processing jobs, rendered from the templates beside this module."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from kraken_dagster.domain.quant import JobSpec

_FOLDER = Path(__file__).parent
EXIT_CODE_FILE = "kraken.exit_code"
JOB_ID_FILE = "kraken.job_id"


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
    return _encoded("\n".join([*lines[:head], *exports, *lines[head:]]) + "\n")


def full_command(spec: JobSpec) -> list[str]:
    """The job's command, with what makes its working copy before it if it needs one."""
    if not spec.working_copy:
        return list(spec.command)
    script = (_FOLDER / "working_copy.sh").read_text()
    files = [str(len(spec.working_copy)), *spec.working_copy]
    return ["/bin/bash", "-c", script, "kraken-working-copy", *files, *spec.command]


def _exports(environment: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={_quoted(value)}" for name, value in environment.items())


def _quoted(value: str) -> str:
    """For any shell. sbatch refuses a script that has a DOS line break anywhere."""
    return shlex.quote(value).replace("\r\n", "'\"$(printf '\\r')\"'\n")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # a path may be no UTF-8
