"""Which instruments.yaml each process of a `kraken up` has loaded, and since when.

A code server says so itself, in a file in Kraken's home, whenever it loads the definitions: the
daemon's and Dagit's are processes of their own, and take up a change at different times. `kraken
up` reads what they say, and tells MongoDB.
"""

import hashlib
import multiprocessing
import os
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

# Which of the programs that `kraken up` keeps running a code server belongs to.
PROCESS_VARIABLE = "KRAKEN_UP_PROCESS"
_FOLDER = "loaded"
_KNOWN = "known"
_LIST = TypeAdapter(list[Loaded])
_DIGITS = 12
# The daemon loads everything anew each minute, and ticks only what it could load.
STOPS = (
    "while the file can't be loaded, no sensor looks after at most 90 s, and nothing new is begun; "
    "runs and jobs at work go on"
)
TAKEN_UP = (
    "the daemon takes it up within about 90 s, Dagit when it is reloaded (Deployment, Reload)"
)


def load_and_report(environment: Mapping[str, str] = os.environ) -> KrakenConfig:
    """The configuration; a code server of `kraken up` says what it has loaded, or why it can't.

    Raises:
        ConfigError
    """
    path = config_path(environment)
    digest, file_time = _scan(path)
    problem: str | None = None
    instruments: list[str] = []
    try:
        config = load_config(path, environment=environment)
        instruments = list(config.instruments)
    except ConfigError as error:
        problem = short_details(str(error))
        raise
    else:
        return config
    finally:
        if _is_code_server(environment):
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
                _write(Path(environment[HOME_VARIABLE]) / _FOLDER, said)


def _is_code_server(environment: Mapping[str, str]) -> bool:
    """Runs are processes of a code server's, and load the definitions too."""
    ours = HOME_VARIABLE in environment and PROCESS_VARIABLE in environment
    return ours and "grpc" in sys.argv and multiprocessing.parent_process() is None


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
    if newest is None or (last is not None and last.since > newest.since):
        base = newest or (known if last is not None and known is not None else last)
        if base is None or last is None:
            return None
        newest = base.model_copy(update={"problem": last.problem})
    if known is not None and known.digest == newest.digest:
        return newest.model_copy(update={"since": known.since})
    return newest


def _said(home: Path) -> Iterator[Loaded]:
    for path in (home / _FOLDER).glob("*.json"):
        with suppress(OSError, ValidationError):
            yield Loaded.model_validate_json(path.read_text(encoding="utf-8"))


def _forget(home: Path, items: list[Loaded]) -> None:
    for item in items:
        (home / _FOLDER / f"{item.process}-{item.pid}.json").unlink(missing_ok=True)


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
    known = [
        f"{item.process} knows the configuration that was written at {in_words(item.file_time)} "
        f"({item.digest}), since {in_words(item.since)}"
        for item in _remembered(home)
    ]
    return [*known, f"{STOPS}. Next: correct it; {TAKEN_UP}."]


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
