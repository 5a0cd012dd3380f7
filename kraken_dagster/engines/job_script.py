"""The scripts of processing jobs, rendered from the templates beside this module."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from kraken_dagster.fs.stores.marker import MARKER_NAME
from kraken_dagster.model.jobs.job import (
    EXIT_ENDED_BADLY_AWAY,
    EXIT_ENDED_WELL_AWAY,
    EXIT_STORE_AWAY,
    JobSpec,
)

_FOLDER = Path(__file__).parent
EXIT_CODE_FILE = "kraken.exit_code"
JOB_ID_FILE = "kraken.job_id"
BEGUN_FILE = "kraken.begun"
# What a job's script leaves in its output folder, beside the program's results.
MARKS = frozenset({BEGUN_FILE, EXIT_CODE_FILE, JOB_ID_FILE})
_OWN_SCRIPT = "KRAKEN_OWN_SCRIPT"
_RAW_FILE = "RAW_FILE_PATH"
# Reads raw files without writing to them or beside them, and takes no link for one: of a working
# folder it could read what is a copy there, and nothing else.
_READS_ONLY = "kraken-rawqc"

# A site's script may have a trap of its own; then its exit code is all that is known.
_AT_EXIT = (
    "trap 'kraken_code=$?; kraken_output || "
    f'{{ [ "$kraken_code" = 0 ] && exit {EXIT_ENDED_WELL_AWAY}; exit {EXIT_ENDED_BADLY_AWAY}; }}\' '
    "EXIT"
)


def rendered(spec: JobSpec, *, setup: str = "") -> bytes:
    """Kraken's own job script. `setup` are shell lines of the administrator's."""
    parts = {
        "exports": _exports(spec.environment),
        "name": _quoted(spec.name),
        "setup": setup,
        "command": " ".join(map(_quoted, full_command(spec))),
    }
    parts["stores"] = store_check(spec)
    mark = f"printf '%s\\n' \"$kraken_name\" > {BEGUN_FILE} || exit {EXIT_STORE_AWAY}"
    parts["begun"] = mark if spec.stores else ""
    template = (_FOLDER / "job_script.sh").read_text()
    text = re.sub(
        "@(exports|name|stores|begun|setup|command)@", lambda found: parts[found[1]], template
    )
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
    check: list[str] = []
    if spec.stores:
        mark = f'printf "%s\\n" {name} > "$OUTPUT_PATH/{BEGUN_FILE}" || exit {EXIT_STORE_AWAY}'
        check = [store_check(spec), f"kraken_stores || exit {EXIT_STORE_AWAY}", mark]
    exports = [_exports(spec.environment), "export SLURM_EXPORT_ENV=ALL", *check, begun]
    if (command := full_command(spec)) != list(spec.command):
        # The script runs once more, as it is, once the variables lead to what it may write to.
        guard = [f'export {_OWN_SCRIPT}="$0"', f"exec {' '.join(map(_quoted, command))}"]
        exports = [f'if [ -z "${{{_OWN_SCRIPT}-}}" ]; then', *exports, *guard, "fi"]
        exports.append(f"unset {_OWN_SCRIPT}")
    if spec.stores:
        exports += [store_check(spec), _AT_EXIT]
    return _encoded("\n".join([*lines[:head], *exports, *lines[head:]]) + "\n")


def store_check(spec: JobSpec) -> str:
    """Shell functions that tell whether the job's stores are there: by their markers, and not by
    their paths, where there may be a mount point without its file system."""
    checks = [
        f"(cd -- {_quoted(root)} && grep -qxF -- {_quoted(line)} {MARKER_NAME}) >/dev/null 2>&1"
        for root, line in spec.stores
    ]
    both = " && ".join(checks) or ":"
    return f"kraken_output() {{ {checks[0] if checks else ':'}; }}\nkraken_stores() {{ {both}; }}"


def checked_command(spec: JobSpec) -> list[str]:
    """The same command, begun only where the job's stores are there; for a job in its folder."""
    if not spec.stores:
        return full_command(spec)
    lines = [
        store_check(spec),
        f"kraken_stores || exit {EXIT_STORE_AWAY}",
        f"printf '%s\\n' {_quoted(spec.name)} > {BEGUN_FILE} || exit {EXIT_STORE_AWAY}",
        'exec "$@"',
    ]
    return ["/bin/sh", "-c", "\n".join(lines), "kraken-stores", *full_command(spec)]


def full_command(spec: JobSpec) -> list[str]:
    """The job's command, behind what keeps it from altering its raw file."""
    files: Sequence[str] = spec.working_copy
    if not files and spec.command[:1] == (_READS_ONLY,):
        return list(spec.command)
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
