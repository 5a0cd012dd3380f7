"""Settings as YAML, so that they can live in a version control of the laboratory's own."""

from collections.abc import Sequence
from typing import Any

import yaml

from kraken_dagster.config.loader import where_yaml_breaks
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.settings import Settings

_HEAD = """\
# Settings of Kraken, as `kraken settings export` writes them and `kraken settings import` reads
# them. To change some by hand, take out their `version` and `digest`: they become a new version.
"""
_MOST_BYTES = 4 * 1024 * 1024


def written(settings: Sequence[Settings]) -> str:
    """The text of a file with these settings, the same for the same settings."""
    entries = [{**item.content, "digest": item.digest} for item in settings]
    body = yaml.safe_dump(
        {"settings": entries}, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return _HEAD + body


def read(content: bytes) -> list[dict[str, Any]]:
    """The entries of such a file, unchecked.

    Raises:
        InputRefused: it is no YAML, or has not the form of such a file.
    """
    if len(content) > _MOST_BYTES:
        raise _refused(f"{len(content)} bytes, more than {_MOST_BYTES}")
    try:
        # _Loader is a SafeLoader
        data = yaml.load(content.decode(), Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refused(where_yaml_breaks(error)[:300]) from error
    if not isinstance(data, dict):
        raise _refused(f"{type(data).__name__} at the top")
    entries = data.get("settings")
    if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
        raise _refused("a `settings` that is none" if "settings" in data else "no `settings`")
    if unknown := sorted(str(key) for key in data.keys() - {"settings"}):
        raise _refused(f"also {', '.join(unknown)}")
    return entries


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands there twice, of which YAML itself would take the last, and aliases,
    by which a few lines can become gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"line {node.start_mark.line + 1}: {', '.join(twice)} stands twice")
        return super().construct_mapping(node, deep=deep)


def _refused(found: str) -> InputRefused:
    return InputRefused(
        "The file of settings can't be read",
        expected="YAML with one key `settings`, a list of mappings",
        found=found,
        next_step="`kraken settings export` shows the form.",
    )
