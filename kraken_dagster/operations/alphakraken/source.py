"""Reads AlphaKraken's files with limits: whatever is wrong with one ends in one sentence."""

import json
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from kraken_dagster.config.loader import where_yaml_breaks
from kraken_dagster.model.errors import ConfigError

LARGEST_BYTES = 256 * 1024
MOST_VALUES = 20_000  # with each alias counted as often as it is used
_DEEPEST = 40
_NEXT = "name AlphaKraken's own file, like envs/alphakraken.production.yaml."


def read_yaml(path: Path) -> dict[str, Any]:
    """A file's mapping, as AlphaKraken reads it.

    Raises:
        ConfigError: it can't be read, is too large, no YAML, no mapping, or has a key twice.
    """
    text = _text(path)
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise _refused(path, "The file is empty or not a mapping")
        _count(path, node, [0], 0)
        values: dict[str, Any] = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        reported = "nested too deeply" if isinstance(error, RecursionError) else ""
        raise _refused(
            path, "The file is not valid YAML", found=reported or where_yaml_breaks(error)
        ) from error
    finally:
        loader.dispose()
    return values


def read_environment(path: Path | None) -> dict[str, str]:
    """The variables of an environment file, as they stand there; none without a file.

    Raises:
        ConfigError: it can't be read.
    """
    if path is None:
        return {}
    _text(path)
    return {key: value or "" for key, value in dotenv_values(path, interpolate=False).items()}


def read_variables(path: Path | None) -> dict[str, Any]:
    """What `airflow variables export` wrote; nothing without a file.

    Raises:
        ConfigError: it can't be read, or is no JSON object.
    """
    if path is None:
        return {}
    try:
        values = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise _refused(path, "The file is not valid JSON", found=str(error)) from error
    if not isinstance(values, dict):
        raise _refused(path, "The file has no names and values")
    return values


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise _refused(
                path, "The file is too large", expected=f"{LARGEST_BYTES:,} bytes at most"
            )
        return content.decode("utf-8-sig")
    except OSError as error:
        raise _refused(path, "The file can't be read", found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise _refused(path, "The file is not text in UTF-8") from error


def _count(path: Path, node: yaml.Node, seen: list[int], depth: int) -> None:
    """Before anything is built: aliases of aliases would be far more than the file is long."""
    seen[0] += 1
    if seen[0] > MOST_VALUES or depth > _DEEPEST:
        raise _refused(
            path,
            "The file has too many values, or is nested too deeply",
            expected=f"{MOST_VALUES:,} values and {_DEEPEST} levels at most, aliases counted",
        )
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _count(path, item, seen, depth + 1)
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or (name in names and name != "<<"):
                raise _refused(path, f"Line {line}: expected each key once, as a plain word")
            names.add(name)
            _count(path, value, seen, depth + 1)


def _refused(path: Path, what: str, **facts: object) -> ConfigError:
    return ConfigError(what, file=path, next_step=_NEXT, **facts)
