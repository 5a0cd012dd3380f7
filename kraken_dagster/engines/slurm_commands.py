"""The words of the commands that Slurm is asked and told by. Nothing is run here."""

from collections.abc import Sequence

from kraken_dagster.engines.job_script import JOB_ID_FILE, store_check
from kraken_dagster.engines.slurm_output import SACCT_FORMAT, SQUEUE_FORMAT, is_job_id
from kraken_dagster.model.jobs.job import JobSpec

NO_FOLDER, TOO_LATE, NO_STORE = 73, 75, 76
# sacct looks no further back than midnight unless told so.
_ACCOUNTED_SINCE = "now-60days"
_PLAINLY = ("env", "TZ=UTC", "SLURM_TIME_FORMAT=standard")
# Its arguments are the latest time to begin, the output folder, the job's name, and the command of
# sbatch; on its stdin is the job script. As soon as there is a job its folder says which, so that
# nobody who finds the folder takes it for free; the job itself writes the same when it starts.
# What a site's own sbatch prints around the id is no part of it.
_SUBMIT = f"""
refuse() {{ echo "not begun: $1" >&2; exit "$2"; }}
script=$(cat)
kraken_output || refuse 'the output is away' {NO_STORE}
mkdir -p -- "$2" || refuse 'no output folder' {NO_FOLDER}
[ "$(date +%s)" -le "$1" ] || refuse 'it was held up' {TOO_LATE}
folder=$2 name=$3
shift 3
said=$(printf '%s\\n' "$script" | "$@")
code=$?
printf '%s\\n' "$said"
[ "$code" -eq 0 ] || exit "$code"
ids() {{
  printf '%s\\n' "$said" |
    sed -n "s/^[[:space:]]*\\([0-9][0-9]*\\)$1[[:space:]]*$/\\1/p" | sort -u
}}
id=$(ids ';[^[:space:]]*')
[ -n "$id" ] || id=$(ids '')
case $id in
  '' | *[!0-9]*) ;;
  *) printf '%s %s\\n' "$id" "$name" 2>/dev/null > "$folder/{JOB_ID_FILE}" || : ;;
esac
"""


def submission(sbatch: Sequence[str], spec: JobSpec, *, latest: int) -> list[str]:
    """Makes the output folder and has sbatch take the script, no later than `latest` there."""
    begin = [
        "sh",
        "-c",
        f"{store_check(spec)}\n{_SUBMIT}",
        "kraken",
        str(latest),
        spec.output_path,
        spec.name,
    ]
    return [*begin, *sbatch]


def sbatch(spec: JobSpec) -> list[str]:
    """The command that takes a job's script from its stdin.

    Raises:
        SettingsRefused: what the job asks for can't be told to sbatch.
    """
    log = _as_pattern(f"{spec.output_path}/{spec.log_name}")
    return [
        *("sbatch", "--parsable", "--export=NONE", "--no-requeue", "--open-mode=append"),
        *(f"--job-name={spec.name}", f"--output={log}", f"--chdir={spec.output_path}"),
        *spec.resources.options(),
    ]


def squeue(which: str) -> list[str]:
    # All: also in partitions that are hidden, or that the user may use no more.
    words = [*_PLAINLY, "squeue", "--me", "--all", "--noheader", "--states=all"]
    return [*words, f"--Format={SQUEUE_FORMAT}", which]


def sacct(*which: str) -> list[str]:
    words = [*_PLAINLY, "sacct", "--noheader", "--parsable2"]
    return [*words, f"--starttime={_ACCOUNTED_SINCE}", f"--format={SACCT_FORMAT}", *which]


def plain(ids: Sequence[str]) -> list[str]:
    """Job ids that came from a database or a log are only ever numbers."""
    return [job_id for job_id in ids if is_job_id(job_id)]


def _as_pattern(path: str) -> str:
    """A path where sbatch takes a pattern of names: `%` is special unless there is a backslash."""
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")
