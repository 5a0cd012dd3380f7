"""The command of a processing job and the variables that it finds."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kraken_dagster.model.errors import SettingsRefused, SubmitFailed
from kraken_dagster.model.files.vendors import safe_relative
from kraken_dagster.model.programs import PROGRAMS, Program, Start
from kraken_dagster.model.settings import Settings

BUILT_IN_PROGRAMS = frozenset({"kraken-rawqc"})


@dataclass(frozen=True)
class JobPaths:
    """Paths as the engine sees them; `conda` is the program that starts things in environments."""

    raw_file: str
    relative_raw_file: str
    output: str
    relative_output: str
    settings: str
    software_base: str
    conda: str = "conda"


def job_environment(
    settings: Settings,
    paths: JobPaths,
    command: Sequence[str],
    *,
    raw_file_id: str,
    project_id: str,
) -> dict[str, str]:
    """The variables that a job finds; the names are those of AlphaKraken's job scripts.

    Raises:
        SettingsRefused: no program is known for the software type.
    """
    kind = _program_of(settings)
    return {
        "RAW_FILE_PATH": paths.raw_file,
        "SETTINGS_PATH": paths.settings,
        "OUTPUT_PATH": paths.output,
        "RELATIVE_OUTPUT_PATH": paths.relative_output,
        "SPECLIB_FILE_NAME": settings.speclib_file_name or "",
        "FASTA_FILE_NAME": settings.fasta_file_name or "",
        "CONFIG_FILE_NAME": settings.config_file_name or "",
        "SOFTWARE": settings.software,
        "SOFTWARE_TYPE": settings.software_type,
        "METRICS_TYPE": settings.metrics_type,
        "CUSTOM_COMMAND": shlex.join(command) if kind.start is Start.PARAMETERS else "",
        "NUM_THREADS": str(settings.num_threads),
        "RAW_FILE_ID": raw_file_id,
        "PROJECT_ID": project_id,
        "SETTINGS_NAME": settings.name,
        "SETTINGS_VERSION": str(settings.version),
    }


def job_command(
    settings: Settings, paths: JobPaths, *, raw_file_id: str, project_id: str
) -> list[str]:
    """The argument list of a job.

    AlphaDIA is started in the conda environment that `software` names; anything else is a program
    below `locations.software`. `config_params` is split as a shell would split it, and then each
    placeholder is replaced within its argument, so that no value can become two arguments or a
    command.

    Raises:
        SettingsRefused: no command is known for the software type, or a value can't be used.
        SubmitFailed: nothing says where the program is.
    """
    values = {
        "RELATIVE_RAW_FILE_PATH": paths.relative_raw_file,
        "RELATIVE_OUTPUT_PATH": paths.relative_output,
        "RAW_FILE_PATH": paths.raw_file,
        "SETTINGS_PATH": paths.settings,
        "OUTPUT_PATH": paths.output,
        "NUM_THREADS": str(settings.num_threads),
        "RAW_FILE_ID": raw_file_id,
        "PROJECT_ID": project_id,
    }
    placeholder = re.compile("|".join(values))
    given = [
        placeholder.sub(lambda found: values[found[0]], argument) for argument in _split(settings)
    ]
    start = _program_of(settings).start
    if start is Start.CONDA:
        return [*_alphadia(settings, paths), *given]
    if start is Start.RAW_FILE:
        return [_program(settings, paths), paths.raw_file, paths.output]
    return [_program(settings, paths), *given]


def log_name(settings: Settings, *, own_script: bool) -> str:
    """The file that gets what the job prints. `log.txt` belongs to programs that write one."""
    program = PROGRAMS.get(settings.software_type)
    writes_its_own = program is not None and program.writes_log
    return "log.txt" if own_script and not writes_its_own else "kraken.log"


def _program_of(settings: Settings) -> Program:
    program = PROGRAMS.get(settings.software_type)
    if program is None:
        expected = f"one of {', '.join(PROGRAMS)}"
        raise _refused(settings, "software_type", expected, settings.software_type)
    return program


def _alphadia(settings: Settings, paths: JobPaths) -> list[str]:
    """The options that AlphaDIA 1.x and 2.x both take."""
    environment = settings.software
    if re.fullmatch(r"\w[\w.+-]*", environment, re.ASCII) is None:
        raise _refused(settings, "software", "the name of a conda environment", environment)
    files = {
        "--library": settings.speclib_file_name,
        "--fasta": settings.fasta_file_name,
        "--config": settings.config_file_name,
    }
    threads = {"general": {"thread_count": settings.num_threads}}
    return [
        *(paths.conda, "run", "--no-capture-output", "--name", environment, "alphadia"),
        *("--file", paths.raw_file, "--output", paths.output),
        *(
            word
            for option, name in files.items()
            if name
            for word in (option, f"{paths.settings}/{safe_relative(name)}")
        ),
        *("--config-dict", json.dumps(threads)),
    ]


def _program(settings: Settings, paths: JobPaths) -> str:
    if settings.software in BUILT_IN_PROGRAMS:
        return settings.software
    if not paths.software_base:
        raise SubmitFailed(
            f"Nothing says where the program of settings {settings.name!r} is",
            file=settings.software,
            expected="`locations.software` in instruments.yaml",
            next_step="set it to the folder of the programs, and `kraken reload`.",
        )
    return f"{paths.software_base}/{safe_relative(settings.software)}"


def _split(settings: Settings) -> list[str]:
    try:
        return shlex.split(settings.config_params or "")
    except ValueError as error:
        expected = f"balanced quotes ({error})"
        raise _refused(settings, "config_params", expected, settings.config_params) from error


def _refused(settings: Settings, key: str, expected: str, found: object) -> SettingsRefused:
    return SettingsRefused(
        f"{key} of settings {settings.name!r} version {settings.version} can't be used",
        expected=expected,
        found=repr(found),
        next_step="make a new version of the settings.",
    )
