"""The files that a site needs beside its instruments.yaml, as they come with the package."""

import os
import sys
from importlib.resources import files
from pathlib import Path

from kraken_dagster.model.errors import ConfigError
from kraken_dagster.runtime.homes import DAGSTER_HOME

_TEMPLATES = files("kraken_dagster") / "templates"
NAMES = (
    "instruments.yaml",
    "dagster.yaml",
    "workspace.yaml",
    "kraken.service",
    "kraken-worker.service",
    "kraken.env.example",
)


def shipped(name: str) -> str:
    """The text of a file that comes with the package."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def beside(config_path: Path, name: str, *, spare_folder: Path) -> Path:
    """A file of Dagster's beside instruments.yaml, else the package's own, put into `spare_folder`.

    A copy, since the package may be in an archive or may be replaced while Kraken runs.
    """
    own = config_path.parent / name
    if own.exists():
        return own
    spare_folder.mkdir(parents=True, exist_ok=True)
    spare = spare_folder / name
    spare.write_text(shipped(name), encoding="utf-8")
    return spare


_ON_POSTGRESQL = """
# On PostgreSQL, which KRAKEN_DAGSTER_POSTGRES names: postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE
storage:
  custom:
    module: kraken_dagster.orchestration.postgres
    class: PooledPostgresStorage
    config:
      postgres_url:
        env: KRAKEN_DAGSTER_POSTGRES
"""


def init(folder: Path, *, postgres: bool = False) -> list[Path]:
    """Writes a site's files into a folder; none that is there is touched.

    With `postgres` its dagster.yaml puts Dagster's storage on PostgreSQL.

    Raises:
        ConfigError: one of them is there already, or the folder can't be written to. Nothing is
            written then.
    """
    folder = folder.absolute()
    _require_usable(folder)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in _texts(folder, postgres=postgres).items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
            written.append(folder / name)
    except OSError as error:
        raise ConfigError(
            "The folder can't be written to",
            file=folder,
            found=error.strerror,
            next_step="name a folder of your own, or give your user the right to write there.",
        ) from error
    return written


def _texts(folder: Path, *, postgres: bool) -> dict[str, str]:
    """By name; with the folder's paths in them."""
    values = {
        "@folder@": str(folder).replace("%", "%%"),
        "@config@": _argument(folder / "instruments.yaml"),
        "@program@": _argument(Path(sys.executable).with_name("kraken")),
        "@dagster@": _argument(Path(sys.executable).with_name("dagster")),
        "@environment@": " ".join(
            _quoted(f"{name}={path}")
            for name, path in (
                ("KRAKEN_CONFIG", folder / "instruments.yaml"),
                (DAGSTER_HOME, folder),  # where dagster.yaml is
            )
        ),
    }
    texts = {name: shipped(name) for name in NAMES}
    if postgres:
        texts["dagster.yaml"] += _ON_POSTGRESQL
    for mark, value in values.items():
        texts = {name: text.replace(mark, value) for name, text in texts.items()}
    return texts


def _require_usable(folder: Path) -> None:
    taken = [name for name in NAMES if os.path.lexists(folder / name)]
    if taken:
        raise ConfigError(
            "A file of that name is there already, and none is overwritten",
            file=folder,
            found=", ".join(taken),
            next_step="name another folder, or move these away.",
        )
    if not str(folder).isprintable():
        raise ConfigError(
            "A folder's name with control characters can't stand in a unit of systemd",
            file=folder,
            next_step="name another folder.",
        )


def _argument(path: Path) -> str:
    """A word of a command in a unit of systemd, where `%` and `$` begin names."""
    return _quoted(str(path)).replace("$", "$$")


def _quoted(text: str) -> str:
    """A word in a unit of systemd, where `%` begins a name."""
    for char, meant in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        text = text.replace(char, meant)
    return f'"{text}"'
