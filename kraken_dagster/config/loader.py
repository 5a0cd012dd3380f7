"""Reads instruments.yaml; what is wrong with it is told with file, line and key."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kraken_dagster.config.code_locations import LOCATION_NAME
from kraken_dagster.config.problems import problems
from kraken_dagster.config.schema import KrakenConfig, expand_environment
from kraken_dagster.model.errors import ConfigError
from kraken_dagster.model.printable import printable

CONFIG_VARIABLE = "KRAKEN_CONFIG"
INSTRUMENTS_VARIABLE = "KRAKEN_INSTRUMENTS"
# The name of a code location, the same after every restart; several need one each.
LOCATION_VARIABLE = "KRAKEN_LOCATION"
CONFIG_FILE_NAME = "instruments.yaml"
_NEXT = "mend it; docs/configuration.md has every key."


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """`KRAKEN_CONFIG`, else instruments.yaml beside workspace.yaml (the working directory, or the
    checkout that this package is run from)."""
    if named := environment.get(CONFIG_VARIABLE):
        return Path(named).absolute()
    here = Path.cwd() / CONFIG_FILE_NAME
    checkout = Path(__file__).resolve().parents[2] / CONFIG_FILE_NAME
    return here if here.exists() or not checkout.exists() else checkout


def load_config(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    copy: Path | None = None,
) -> KrakenConfig:
    """The configuration, with its relative paths made absolute from the file's folder.

    Args:
        copy: of the file as it was, which is read in its place.

    Raises:
        ConfigError: naming file, line, key and what was expected; all problems at once.
    """
    path = config_path(environment) if path is None else path.absolute()
    root = _compose(path, copy or path)
    values = _construct(path, root, dict(environment))
    # A section whose keys are all commented out reads as null, and means an empty one.
    data = {key: value for key, value in values.items() if value is not None}
    try:
        config = KrakenConfig.model_validate(data)
    except ValidationError as error:
        found = [(_key_path(item), _expected(item)) for item in error.errors()]
        raise _config_error(path, root, found) from None
    config = _absolute(config, path.parent)
    if found := problems(config):
        raise _config_error(path, root, found)
    location = _location(path, environment.get(LOCATION_VARIABLE))
    return _only_these(config, path, environment.get(INSTRUMENTS_VARIABLE), location)


def _location(path: Path, name: str | None) -> str | None:
    if not name:
        return None
    if re.fullmatch(LOCATION_NAME, name) is None:
        raise ConfigError(
            f"{LOCATION_VARIABLE} can't name a code location",
            file=path,
            expected="1 to 40 of a-z, 0-9 and _",
            found=repr(name),
            next_step=f"correct {LOCATION_VARIABLE}.",
        )
    return name


def _compose(path: Path, content: Path) -> yaml.MappingNode:
    try:
        root = yaml.compose(content.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(
            "The configuration can't be read",
            file=path,
            found=error.strerror,
            next_step="go to its folder, or name it by --config or by "
            f"{CONFIG_VARIABLE}; `kraken init FOLDER` makes a new one.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            "The configuration is not valid YAML",
            file=path,
            found=where_yaml_breaks(error),
            next_step="keys of one level begin in the same column, each ends in `: `, and lines "
            "are indented by spaces, not tabs.",
        ) from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            "The configuration is empty or not a mapping",
            file=path,
            expected="the sections `locations` and `instruments`",
            next_step=_NEXT,
        )
    return root


def where_yaml_breaks(error: Exception) -> str:
    """What the reader says, with the lines as an editor counts them."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split()).replace('in "<unicode string>", ', "")
    said = []
    for words, mark in ((error.context, error.context_mark), (error.problem, error.problem_mark)):
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        said.append(f"{words}{where}" if words or where else "")
    return ", ".join(part for part in said if part)


def _construct(path: Path, node: yaml.Node, environment: dict[str, str], key: str = "") -> Any:
    """The node's value, with environment variables put into its texts only."""
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = str(key_node.value)
            below = f"{key}.{name}" if key else name
            if name in mapping:
                raise _problem(path, key_node, below, "expected each key once")
            mapping[name] = _construct(path, value_node, environment, below)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_construct(path, item, environment, key) for item in node.value]
    if isinstance(node.value, str) and "${" in node.value:
        try:
            return expand_environment(node.value, environment)
        except KeyError as error:
            expected = f"expected the environment variable {error.args[0]} to be set"
            raise _problem(path, node, key, expected) from None
    # Built from this one node, so that `yes`, `5` and `null` mean what YAML says.
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError):  # a tag of Python's, or a date that there never was
        raise _problem(path, node, key, f"not a value, found {node.value!r}") from None
    finally:
        loader.dispose()


def _problem(path: Path, node: yaml.Node, key: str, expected: str) -> ConfigError:
    line = node.start_mark.line + 1
    return ConfigError(_in_words(path, line, key, expected), next_step=_NEXT)


def _in_words(path: Path, line: int, key: str, expected: str) -> str:
    return printable(f"{path}, line {line}, key {key!r}: {expected}")


def _config_error(
    path: Path, root: yaml.MappingNode, found: list[tuple[tuple[str, ...], str]]
) -> ConfigError:
    lines = [_in_words(path, _line(root, key), ".".join(key), expected) for key, expected in found]
    return ConfigError("\n".join(lines), next_step=_NEXT)


def _line(root: yaml.Node, key: tuple[str, ...]) -> int:
    """The line of the innermost part of `key` that stands in the file."""
    node, line = root, root.start_mark.line
    for part in key:
        if isinstance(node, yaml.MappingNode):
            match = [(name, value) for name, value in node.value if name.value == part]
            if not match:
                break
            line, node = match[0][0].start_mark.line, match[0][1]
    return line + 1


def _key_path(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The key as it stands in the file; what pydantic adds to it is left out."""
    parts = [str(part) for part in item["loc"] if part != "[key]"]
    if item["type"] == "union_tag_invalid":
        parts.append("type")
    elif parts[:1] == ["engines"] and len(parts) > 2:
        del parts[2]  # the type by which it chose among the kinds of engines
    return tuple(parts)


def _expected(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "no such key"
    if item["type"] == "union_tag_invalid":
        return f"expected one of {item['ctx']['expected_tags']}, found {item['ctx']['tag']!r}"
    if item["type"] == "missing":
        return "expected, and not there"
    if item["loc"][0] == "mongodb":  # what stands there may hold a password
        return str(item["msg"])
    if item["type"] in ("model_type", "dict_type"):
        return f"expected keys and values below it (`key: value`), found {item['input']!r}"
    if item["type"] == "value_error":  # in Kraken's own words, with what was found
        return str(item["ctx"]["error"])
    return f"{item['msg']}, found {item['input']!r}"


def _absolute(config: KrakenConfig, folder: Path) -> KrakenConfig:
    """Relative paths count from the folder of the file, wherever the process was started."""

    def absolute(value: Any) -> Any:
        return Path(os.path.normpath(folder / value)) if isinstance(value, Path) else value

    locations = {
        name: location.model_copy(update={"path": absolute(location.path)})
        for name, location in config.locations
        if location is not None
    }
    instruments = {
        key: entry.model_copy(update={"path": absolute(entry.path)})
        if entry.path is not None
        else entry
        for key, entry in config.instruments.items()
    }
    engines = {
        name: engine.model_copy(
            update={
                key: absolute(_in_home(path))
                for key in ("key_file", "known_hosts")
                if (path := getattr(engine, key, None)) is not None
            }
        )
        for name, engine in config.engines.items()
    }
    page = config.page.model_copy(update={"columns": absolute(config.page.columns)})
    pem = {name: absolute(getattr(config.dagit, name)) for name in ("certificate", "private_key")}
    return config.model_copy(
        update={
            "home": absolute(config.home),
            "page": page,
            "dagit": config.dagit.model_copy(update=pem),
            "engines": engines,
            "locations": config.locations.model_copy(update=locations),
            "instruments": instruments,
        }
    )


def _in_home(path: Path) -> Path:
    """The path with its `~` replaced; as it stands where the user has no home."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _only_these(
    config: KrakenConfig, path: Path, wanted: str | None, location: str | None
) -> KrakenConfig:
    if not wanted:
        return config if location is None else config.located(location)
    ids = {name.strip() for name in wanted.split(",") if name.strip()}
    if unknown := ids - set(config.instruments):
        raise ConfigError(
            f"{INSTRUMENTS_VARIABLE} names instruments that are not in the configuration",
            file=path,
            expected=f"some of {sorted(config.instruments)}",
            found=sorted(unknown),
            next_step=f"correct {INSTRUMENTS_VARIABLE}.",
        )
    if location is None:
        raise ConfigError(
            f"{INSTRUMENTS_VARIABLE} is set, and this code location has no name",
            file=path,
            expected=f"{LOCATION_VARIABLE}, another one for each code location",
            next_step=f"set {LOCATION_VARIABLE}, for example to the host's name, and keep it: jobs "
            "of this machine belong to the code location of that name.",
        )
    return config.only(ids, location=location)
