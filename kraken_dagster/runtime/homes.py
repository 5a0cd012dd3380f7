"""Whose a home is: Kraken's and Dagster's each belong to one configuration, and say so in a file.

An exported variable must not lead a command for one laboratory into the home of another.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.fs.private import make_private
from kraken_dagster.model.errors import ConfigError

DAGSTER_HOME = "DAGSTER_HOME"
OWNER_NAME = "kraken-owner.json"
_MADE_BY_KRAKEN = ("up.lock", "mongodb")  # in a home of Kraken's that says nothing yet
_PARTS = (*_MADE_BY_KRAKEN, "code_server", "dagster", "jobs", "loaded", "logs", OWNER_NAME)
_OURS = ("KRAKEN_", "DAGSTER_HOME")
# Of others the values are not told: they may be passwords.
_PLACES = ("DAGSTER_HOME", "KRAKEN_CONFIG", "KRAKEN_DATA", "KRAKEN_HOME", "KRAKEN_INSTRUMENTS")


def dagster_home(config: KrakenConfig) -> Path:
    """Dagster's home: DAGSTER_HOME, else below Kraken's own folder."""
    named = os.environ.get(DAGSTER_HOME)
    return Path(named) if named else config.home / "dagster"


def claim_homes(config: KrakenConfig, config_path: Path) -> None:
    """Records in both homes, which are there, whose they are.

    Raises:
        ConfigError: one of them is another configuration's.
    """
    require_own_homes(config, config_path)
    config.home.mkdir(parents=True, exist_ok=True)
    for home in (config.home, dagster_home(config)):
        owner = {"home": _real(home), "kraken_home": _real(config.home)}
        text = json.dumps({**owner, "config": _real(config_path)})
        path = home / OWNER_NAME
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        fresh = path.with_name(f".{OWNER_NAME}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)


def private_parts(config: KrakenConfig, config_path: Path) -> list[Path]:
    """What is nobody's but Kraken's: its home; or what it has made there, where the home holds what
    is not its own too, the configuration or a store."""
    roots = [item.path for _, item in config.locations if item is not None]
    folders = [config.instrument(name).path for name in config.instruments]
    others = [config_path, *roots, *filter(None, folders)]
    if not any(path.is_relative_to(config.home) for path in others):
        return [config.home]
    return [config.home / name for name in _PARTS]


def close_home(config: KrakenConfig, config_path: Path) -> None:
    """Takes the rights of others from the home that an older Kraken has made."""
    for path in private_parts(config, config_path):
        make_private(path)


def require_own_homes(config: KrakenConfig, config_path: Path) -> None:
    """
    Raises:
        ConfigError: Kraken's home, or the one that DAGSTER_HOME names, is another configuration's.
    """
    owner = _owner(config.home)
    theirs = Path(owner.get("config", ""))
    if owner and _real(theirs) != _real(config_path) and theirs.exists():
        raise ConfigError(
            "Kraken's home belongs to another configuration",
            file=config.home,
            expected=str(config_path),
            found=str(theirs),
            next_step=f"unset KRAKEN_HOME if it is exported, or set another `home` in "
            f"{config_path}; where it shall take the other one's place, remove "
            f"{config.home / OWNER_NAME}.",
        )
    named = os.environ.get(DAGSTER_HOME)
    if named and (whose := other_kraken(Path(named), config.home)) is not None:
        raise ConfigError(
            f"{DAGSTER_HOME} is exported and names the home of another Kraken",
            file=named,
            expected=str(config.home / "dagster"),
            found=f"the Dagster of {whose}",
            next_step=f"`unset {DAGSTER_HOME}`; `kraken` finds its own.",
        )


def other_kraken(home: Path, kraken_home: Path) -> str | None:
    """The other home of Kraken's, or its configuration, that a home of Dagster's belongs to."""
    if owner := _owner(home):
        is_other = owner["kraken_home"] != _real(kraken_home)
        return owner["config"] if is_other and Path(owner["config"]).exists() else None
    parent = Path(os.path.realpath(home)).parent
    made = home.name == "dagster" and any((parent / name).exists() for name in _MADE_BY_KRAKEN)
    return str(parent) if made and str(parent) != _real(kraken_home) else None


def _owner(home: Path) -> Mapping[str, str]:
    """What a home says of itself; nothing where it was copied from elsewhere, or can't be read."""
    try:
        said = json.loads((home / OWNER_NAME).read_text(encoding="utf-8"))
        whole = {key: str(said[key]) for key in ("home", "kraken_home", "config")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return whole if whole["home"] == _real(home) else {}


def require_same_environment(folder: Path, environment: Mapping[str, str]) -> None:
    """What Dagster reads from `.env` in its working directory, and puts in the place of what is
    set, must not have the code servers work for another configuration than `kraken up`.

    Raises:
        ConfigError: a variable of Kraken's has another value there.
    """
    path = folder / ".env"
    if not path.is_file():
        return
    for name, value in dotenv_values(path).items():
        if name.startswith(_OURS) and value is not None and environment.get(name) != value:
            raise ConfigError(
                f"{name} in .env is not what `kraken up` was started with",
                file=path,
                expected=environment.get(name, "not set") if name in _PLACES else None,
                found=value if name in _PLACES else None,
                next_step=f"export {name} before `kraken up`, or remove it from that file.",
            )


def _real(path: Path) -> str:
    return os.path.realpath(path)
