"""Whether a folder has what its instrument's `type` says, or the files of another vendor."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kraken_dagster.model.files.debris import is_debris
from kraken_dagster.model.files.folder import Entry, Kind
from kraken_dagster.model.files.vendors import BACKUP_FOLDER_NAME, RULES, Vendor, is_deleteme


@dataclass(frozen=True)
class Makeup:
    """What the entries of an instrument's folder are, debris and `Backup` left out.

    `own` are acquisitions of the instrument's vendor, `others` how many look like those of which
    other vendor, the most first.
    """

    vendor: Vendor
    entries: int
    own: int
    others: Mapping[Vendor, int]

    @property
    def extensions(self) -> tuple[str, ...]:
        return RULES[self.vendor].extensions

    @property
    def is_unknown(self) -> bool:
        """There are entries, and none of them is an acquisition of any vendor."""
        return self.entries > 0 and self.own == 0 and not self.others

    def in_words(self) -> str | None:
        """`102 entries, none is a Bruker acquisition, 100 look like Thermo's`.

        None where all is as it should be: an empty folder, or nothing that looks like another
        vendor's.
        """
        if not self.others and not self.is_unknown:
            return None
        name = self.vendor.value.capitalize()
        if self.own > 1:
            reported = f"{self.own} are {name} acquisitions"
        else:
            reported = f"{self.own or 'none'} is a {name} acquisition"
        reported = f"{self.entries} {'entry' if self.entries == 1 else 'entries'}, {reported}"
        for other, number in self.others.items():
            scans = "looks" if number == 1 else "look"
            reported += f", {number} {scans} like {other.value.capitalize()}'s"
        return reported if self.others else f"{reported}, nor another vendor's"


def makeup(vendor: Vendor, entries: Sequence[Entry], own: Collection[str]) -> Makeup:
    """
    Args:
        own: the names of the vendor's own acquisitions among the entries.
    """
    counted = [
        entry
        for entry in entries
        if entry.name != BACKUP_FOLDER_NAME
        and not is_debris(entry.name)
        and not is_deleteme(entry.name)
    ]
    names = [entry for entry in counted if not RULES[vendor].matches(entry.name)]
    others = {other: _acquisitions(other, names) for other in Vendor if other is not vendor}
    found = sorted(((number, other) for other, number in others.items() if number), reverse=True)
    return Makeup(vendor, len(counted), len(own), {other: number for number, other in found})


def _acquisitions(vendor: Vendor, entries: Sequence[Entry]) -> int:
    rules = RULES[vendor]
    kind = Kind.FOLDER if rules.is_folder else Kind.FILE
    return len(
        {rules.stem(it.name) for it in entries if it.kind is kind and rules.matches(it.name)}
    )
