"""Which instruments.yaml each code server of a `kraken up` has loaded, and since when.

A code server says so itself, in a file in Kraken's home, whenever it loads the definitions; and it
keeps a copy of that instruments.yaml for its runs, so that an edit that is broken, or half done,
ends none of them. `kraken up` reads what the code servers say, and tells MongoDB.
"""

import hashlib
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kraken_dagster.config.loader import CONFIG_VARIABLE, config_path, load_config
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.model.raw_file import short_details
from kraken_dagster.runtime.open_store import HOME_VARIABLE
from kraken_dagster.store.instances import Loaded, OnDisk

# Which of the programs that `kraken up` keeps running a code server is, or belongs to.
PROCESS_VARIABLE = "KRAKEN_UP_PROCESS"
CODE_SERVER = "code_server"
# What they have loaded is what is ticked. Of these the daemon has one of its own where the site's
# workspace.yaml has it so; that ticks only what it could load, each minute anew.
TICKS = (CODE_SERVER, "daemon")
_COPY_VARIABLE = "KRAKEN_LOADED_COPY"
_FOLDER = "loaded"
_KNOWN = "known"
_LIST = TypeAdapter(list[Loaded])
_DIGITS = 12
STOPS = (
    "while the file can't be loaded, no sensor looks after at most 90 s, and nothing new is begun; "
    "runs and jobs at work go on"
)
GOES_ON = "sensors, runs and jobs go on by the configuration that is known"
TAKEN_UP = "it is taken up within about 90 s"
TAKEN_UP_BY_EACH = (
    "the daemon takes it up within about 90 s, Dagit when it is reloaded (Deployment, Reload)"
)


def load_and_report(environment: Mapping[str, str] = os.environ) -> KrakenConfig:
    """The configuration; a code server of `kraken up` says what it has loaded, or why it can't.

    A run of such a code server gets the one that this has loaded.

    Raises:
        ConfigError
    """
    path = config_path(environment)
    if not _is_code_server(environment):
        return load_config(path, environment=environment, copy=_copy_for_this_run(environment))
    base = Path(environment[HOME_VARIABLE]) / _FOLDER
    copy = _copied(path, base / f"{environment[PROCESS_VARIABLE]}-{os.getpid()}.yaml")
    digest, file_time = _scan(copy or path)[0], _scan(path)[1]
    problem: str | None = None
    instruments: list[str] = []
    try:
        config = load_config(path, environment=environment, copy=copy)
        instruments = list(config.instruments)
    except ConfigError as error:
        problem = short_details(str(error))
        raise
    else:
        return config
    finally:
        said = Loaded(
            process=environment[PROCESS_VARIABLE],
            pid=os.getpid(),
            digest=digest,
            file_time=file_time,
            since=datetime.now(UTC),
            instruments=instruments,
            problem=problem,
        )
        with suppress(OSError):  # no reason to load nothing
            _write(base, said)


def _is_code_server(environment: Mapping[str, str]) -> bool:
    """Runs are processes of a code server's, and load the definitions too."""
    ours = HOME_VARIABLE in environment and PROCESS_VARIABLE in environment
    return ours and "grpc" in sys.argv and multiprocessing.parent_process() is None


def _copied(path: Path, copy: Path) -> Path | None:
    """The copy for the runs of this code server, which find its name in their environment."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    except OSError:  # the home is full, or there is no such file: its runs read the file itself
        return None
    os.environ[_COPY_VARIABLE] = str(copy)
    return copy


def _copy_for_this_run(environment: Mapping[str, str]) -> Path | None:
    copy = environment.get(_COPY_VARIABLE)
    if copy is None or multiprocessing.parent_process() is None or not Path(copy).is_file():
        return None
    return Path(copy)


def _write(folder: Path, said: Loaded) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{said.process}-{said.pid}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(said.model_dump_json(), encoding="utf-8")
    fresh.replace(path)


def _scan(path: Path) -> tuple[str, datetime | None]:
    try:
        content, modified = path.read_bytes(), path.stat().st_mtime
    except OSError:
        return "", None
    file_time = datetime.fromtimestamp(int(modified), tz=UTC)
    return hashlib.sha256(content).hexdigest()[:_DIGITS], file_time


def on_disk(path: Path, environment: Mapping[str, str], known: OnDisk | None) -> OnDisk:
    """The configuration file as it is now; read anew only where it has changed."""
    digest, file_time = _scan(path)
    if known is not None and (known.digest, known.file_time) == (digest, file_time):
        return known
    problem = None
    try:
        load_config(path, environment=environment)
    except ConfigError as error:
        problem = short_details(str(error))
    return OnDisk(path=str(path), digest=digest, file_time=file_time, problem=problem)


def loaded_now(home: Path, before: list[Loaded]) -> list[Loaded]:
    """What each program's code servers run: the newest that lives, and what a newer one failed at.

    Args:
        before: the same a while ago, which knows since when: the daemon's is made anew each minute.
    """
    said = [item for item in _said(home) if item.process]
    found = []
    for process in sorted({item.process for item in said}):
        mine = [item for item in said if item.process == process]
        good = [item for item in mine if item.problem is None and _lives(item.pid)]
        failed = [item for item in mine if item.problem is not None]
        newest = max(good, key=lambda item: item.since, default=None)
        last = max(failed, key=lambda item: item.since, default=None)
        _forget(home, [item for item in mine if item not in (newest, last)])
        known = next((item for item in before if item.process == process), None)
        found += [item for item in [_joined(newest, last, known)] if item is not None]
    return found


def _joined(newest: Loaded | None, last: Loaded | None, known: Loaded | None) -> Loaded | None:
    found = newest
    if newest is None or (last is not None and last.since > newest.since):
        base = newest or (known if last is not None and known is not None else last)
        if base is None or last is None:
            return None
        stands = newest is None or base.process != CODE_SERVER
        found = base.model_copy(update={"problem": last.problem, "stands": stands})
    if found is not None and known is not None and known.digest == found.digest:
        return found.model_copy(update={"since": known.since})
    return found


def _said(home: Path) -> Iterator[Loaded]:
    for path in (home / _FOLDER).glob("*.json"):
        with suppress(OSError, ValidationError):
            yield Loaded.model_validate_json(path.read_text(encoding="utf-8"))


def _forget(home: Path, items: list[Loaded]) -> None:
    for item in items:
        (home / _FOLDER / f"{item.process}-{item.pid}.json").unlink(missing_ok=True)
    for copy in (home / _FOLDER).glob("*-*.yaml"):
        if not _lives(int(copy.stem.rpartition("-")[2])):  # an old one may have runs
            copy.unlink(missing_ok=True)


def forget_all(home: Path) -> None:
    """Whoever said something before this `kraken up` began runs no more."""
    for path in (home / _FOLDER).glob("*"):
        path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        return b"grpc" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def remember(home: Path, items: list[Loaded]) -> None:
    """For who can't ask MongoDB, as the configuration that names it can't be read."""
    path = home / _FOLDER / _KNOWN
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(_LIST.dump_json(items))
        fresh.replace(path)


def _remembered(home: Path) -> list[Loaded]:
    try:
        return _LIST.validate_json((home / _FOLDER / _KNOWN).read_bytes())
    except (OSError, ValidationError):
        return []


def told_without_configuration(path: Path) -> list[str]:
    """What runs while its configuration can't be read, and what that means; empty if nothing."""
    home = home_that_runs(path)
    if home is None:
        return []
    items = _remembered(home)
    known = [
        f"{item.process} knows the configuration that was written at {in_words(item.file_time)} "
        f"({item.digest}), since {in_words(item.since)}"
        for item in items
    ]
    of_ours = [item for item in items if item.process == CODE_SERVER]
    means = GOES_ON if any(not item.stands for item in of_ours) else STOPS
    return [*known, f"{means}. Next: correct it; {TAKEN_UP if of_ours else TAKEN_UP_BY_EACH}."]


def in_words(time: datetime | None) -> str:
    return "an unknown time" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def home_that_runs(path: Path) -> Path | None:
    """The home of the `kraken up` that runs with this configuration, which may be broken by now."""
    wanted = os.fsencode(f"{CONFIG_VARIABLE}={path}")
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            said = (folder / "environ").read_bytes().split(b"\0")
            if wanted in said:
                homes = [item for item in said if item.startswith(f"{HOME_VARIABLE}=".encode())]
                if homes:
                    return Path(os.fsdecode(homes[0].split(b"=", 1)[1]))
    return None
