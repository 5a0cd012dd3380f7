"""The files that a job reads beside the raw file: what they were when it was submitted.

A library of gigabytes is read once: its digest is kept in MongoDB and holds as long as the file's
size, times and inode are the same.
"""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kraken_dagster.fs.digests import digest, exists
from kraken_dagster.fs.result_files import is_below
from kraken_dagster.fs.timeouts import beating, bounded
from kraken_dagster.model.errors import InputMissing, UnsafePath
from kraken_dagster.model.errors.kinds import Kind, kind_of_errno
from kraken_dagster.model.files.vendors import safe_relative
from kraken_dagster.model.jobs.job import InputFile, QuantJob
from kraken_dagster.model.settings import Settings
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.quant.input_digests import KnownInput

_PARAMETER = "parameter"
_CANT_KNOW = (Kind.AWAY, Kind.BUSY, Kind.ACCESS, Kind.DEVICE, Kind.SHORT)


def inputs_of(services: Services, settings: Settings, job: QuantJob) -> list[InputFile]:
    """Every file that the settings name, digested.

    Raises:
        InputMissing: one is not there, or can't be read.
        CopyStalled: their share hangs.
    """
    folder = services.settings_folder(settings)
    stall_s = services.instrument(job.instrument_id).copy_stall_s
    named = bounded(lambda: list(_named(settings, job, folder)), timeout_s=stall_s, what=folder)
    return [
        _digested(services, folder / path, role=role, path=path, stall_s=stall_s)
        for role, path in named
    ]


def located(services: Services, file: Path, *, role: str) -> Path:
    """The plain file behind the name of an input; a link may lead to another one below the root of
    all settings.

    Raises:
        InputMissing
    """
    root = (services.config.locations.settings or services.config.locations.output).path
    real = Path(os.path.realpath(file))
    try:
        kind = os.stat(real).st_mode
    except OSError as error:
        found = os.strerror(error.errno) if error.errno else str(error)
        raise _missing(file, role, found) from error
    if not is_below(root, real):
        raise _missing(file, role, f"a link that leads out of {root}")
    if not stat.S_ISREG(kind):
        raise _missing(file, role, "no plain file")
    return real


def _missing(file: Path, role: str, found: str) -> InputMissing:
    return InputMissing(
        f"The {role} that the settings name can't be used",
        file=file,
        expected="a plain file, or a link to one below the folder of all settings",
        found=found,
        next_step="put it there, or name another in a new version of the settings. Tried again by "
        "itself.",
    )


def require_program(services: Services, job: QuantJob) -> None:
    """A job of this machine whose program is not there waits for it: its share may be away.

    Raises:
        InputMissing
    """
    location = services.config.locations.software
    if services.on_cluster(job.engine) or location is None:
        return
    program = Path(job.command[0])
    if not program.is_relative_to(location.path):
        return
    try:
        program.stat()
    except OSError as error:
        raise InputMissing(
            "The program that the settings name can't be found",
            file=program,
            expected="a program below `locations.software`",
            found=error.strerror,
            next_step="mount `locations.software`, or name another program in a new version of the "
            "settings. Tried again by itself.",
        ) from error


def changed_since(services: Services, settings_name: str, item: InputFile) -> bool | None:
    """Whether an input is not what it was when its job was submitted; None where its share doesn't
    say, or isn't mounted: then the settings' folder is missing too."""
    root = services.config.locations.settings or services.config.locations.output
    folder = root.path / safe_relative(settings_name)
    try:
        facts = (folder / safe_relative(item.path)).stat()
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return True if is_missing and _stands(folder) else None
    return (facts.st_size, facts.st_mtime_ns) != (item.size, item.mtime_ns)


def _stands(folder: Path) -> bool:
    try:
        return exists(folder)
    except OSError:
        return False


def _named(settings: Settings, job: QuantJob, folder: Path) -> Iterator[tuple[str, str]]:
    """Roles and paths below the settings' folder: of the fields, and of what the parameters name.

    A parameter counts where the file is there: what else has the folder's path in front may be
    anything, a folder or an output.
    """
    named = {str(safe_relative(name)): role for role, name in settings.input_names.items()}
    for path, role in named.items():
        yield role, path
    for argument in job.command:
        _, found, rest = argument.partition(f"{job.settings_path}/")
        if not found or rest in named:
            continue
        try:
            path = str(safe_relative(rest))
        except UnsafePath:
            continue
        if _may_be_file(folder / path):
            named[path] = _PARAMETER
            yield _PARAMETER, path


def _may_be_file(path: Path) -> bool:
    """Also where its share gives an error: what can't be looked at now is asked for once more."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        return kind_of_errno(error.errno) in _CANT_KNOW


def _digested(services: Services, file: Path, *, role: str, path: str, stall_s: float) -> InputFile:
    real = bounded(partial(located, services, file, role=role), timeout_s=stall_s, what=file)
    try:
        facts = bounded(real.stat, timeout_s=stall_s, what=file)
        known = services.store.inputs.get(str(real))
        if known is None or not known.is_of(facts):
            md5 = beating(partial(_md5, real), stall_s=stall_s, what=file)
            known = KnownInput.of(facts, md5=md5)
            if known.is_of(real.stat()):  # one that changed meanwhile is digested anew next time
                services.store.inputs.put(str(real), known, now=services.now())
    except OSError as error:
        found = os.strerror(error.errno) if error.errno else str(error)
        raise _missing(file, role, found) from error
    return InputFile(role=role, path=path, size=known.size, mtime_ns=known.mtime_ns, md5=known.md5)


def _md5(file: Path, beat: Callable[[int], None]) -> str:
    return digest(file, on_bytes=beat).md5 or ""
