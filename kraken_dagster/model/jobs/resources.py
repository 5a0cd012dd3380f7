"""What a job asks of a cluster, in the terms of Slurm: cpus, memory, time, further options."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from kraken_dagster.model.errors import SettingsRefused

# Options that choose where and how a job runs. What would change what is run, under which name or
# as whom, is not among them; nor is any abbreviation, which sbatch would take.
_DIRECTIVES = frozenset(
    {
        "account",
        "constraint",
        "core-spec",
        "cpus-per-gpu",
        "exclude",
        "exclusive",
        "gpus",
        "gpus-per-node",
        "gpus-per-task",
        "gres",
        "hint",
        "licenses",
        "mail-type",
        "mail-user",
        "mem-per-cpu",
        "mem-per-gpu",
        "mincpus",
        "nice",
        "nodelist",
        "ntasks-per-node",
        "oversubscribe",
        "priority",
        "qos",
        "reservation",
        "sockets-per-node",
        "threads-per-core",
        "tmp",
        "wckey",
    }
)
MEMORY = r"\d+[KMGT]"
TIME = r"(\d{1,4}-)?\d{1,2}:[0-5]\d:[0-5]\d"
_UNITS: Mapping[str, int] = {"K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Resources:
    """What a job asks for; None leaves it to the cluster. `time` as Slurm writes it."""

    partition: str | None = None
    nodes: int | None = None
    cpus: int | None = None
    mem: str | None = None
    time: str | None = None
    directives: tuple[str, ...] = ()

    def over(self, other: Self) -> Self:
        """These, and what they leave open from `other`; extra directives of both."""
        return replace(
            self,
            partition=self.partition or other.partition,
            nodes=self.nodes or other.nodes,
            cpus=self.cpus or other.cpus,
            mem=self.mem or other.mem,
            time=self.time or other.time,
            directives=(*other.directives, *self.directives),
        )

    def options(self) -> list[str]:
        """The options of sbatch, each an argument of its own.

        Raises:
            SettingsRefused: a value is not what Slurm takes, or an option is not allowed.
        """
        return [
            *_option("partition", self.partition, r"[\w.-]+(,[\w.-]+)*", "names of partitions"),
            *_option("nodes", self.nodes, r"[1-9]\d*", "a number"),
            *_option("cpus-per-task", self.cpus, r"[1-9]\d*", "a number"),
            *_option("mem", self.mem, MEMORY, "<number>[KMGT], like 64G"),
            *_option("time", self.time, TIME, "HH:MM:SS or D-HH:MM:SS"),
            *(_directive(item) for item in self.directives),
        ]


def more_memory(asked: str | None, limit: str | None) -> str | None:
    """Twice as much, at most `limit`; None where that is no more than was asked for.

    Where nothing was asked for, the cluster's own default ran out: `limit` at once.
    """
    if asked is None:
        return limit
    before, most = amount_bytes(asked), amount_bytes(limit or "")
    if before is None or most is None or before >= most:
        return None
    return _kibibytes(min(2 * before, most))


def more_time(asked: str | None, limit: str | None) -> str | None:
    """Twice as long, at most `limit`; None where that is no longer than was asked for.

    Where nothing was asked for, the cluster's own default ran out: `limit` at once.
    """
    if asked is None:
        return limit
    before, most = elapsed_seconds(asked), elapsed_seconds(limit or "")
    if before is None or most is None or before >= most:
        return None
    seconds = min(2 * before, most)
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def elapsed_seconds(text: str) -> int | None:
    """Whole seconds of `[[D-]HH:]MM:SS[.mmm]`; None for whatever else stands in that column."""
    pattern = r"(?:(?:(\d+)-)?(\d+):)?([0-5]?\d):([0-5]\d)(?:\.\d+)?"
    found = re.fullmatch(pattern, text.strip(), re.ASCII)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def amount_bytes(text: str) -> int | None:
    """Bytes of an amount like `64G` or `123.5K`; None for whatever is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text, re.ASCII)
    if found is None:
        return None
    return int(float(found[1]) * 1024 ** _UNITS.get(found[2], 0))


def _kibibytes(size: int) -> str:
    """In the largest unit that leaves no fraction."""
    for unit, power in sorted(_UNITS.items(), key=lambda item: -item[1]):
        if size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return f"{-(-size // 1024)}K"


def _option(name: str, value: object, pattern: str, expected: str) -> list[str]:
    if value is None:
        return []
    if re.fullmatch(pattern, str(value), re.ASCII) is None:
        raise _refused(f"The value for {name} is not what Slurm takes", expected, value)
    return [f"--{name}={value}"]


def _directive(text: str) -> str:
    found = re.fullmatch(r"--([a-z-]+)(=[^\n\r\0]*)?", text)
    if found is None or found[1] not in _DIRECTIVES:
        raise _refused(
            "A directive is not allowed",
            f"--NAME or --NAME=VALUE, NAME one of {', '.join(sorted(_DIRECTIVES))}",
            text,
        )
    return text


def _refused(what: str, expected: str, found: object) -> SettingsRefused:
    return SettingsRefused(
        what,
        expected=expected,
        found=repr(found),
        next_step="make a new version of the settings, or correct `engines` in instruments.yaml.",
    )
