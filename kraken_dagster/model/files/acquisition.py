"""When an acquisition is over, seen from one look at the folder after another.

The monitor's whole state is `Watch`, kept in MongoDB; `look` takes the last one and what stands
in the folder now, and says what follows. It never waits and never touches a disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from kraken_dagster.model.files.dates import EARLIEST, is_plausible, plausible
from kraken_dagster.model.files.vendors import (
    RULES,
    Vendor,
    VendorRules,
    corrupted_name,
    is_corrupted_name,
)

MAIN_FILE_MISSING = "Main file was not created: "
MAIN_FILE_VANISHED = "Main file vanished: "
FILE_RENAMED = "File got renamed: "


@dataclass(frozen=True)
class Timing:
    """How long the monitor waits. Source: the experience built into AlphaKraken.

    Two are not its. Within `whole_look` a folder whose stamp stands still is not listed again; an
    acquisition to which nothing was written for a `pause` counts as written no more.
    """

    size_check: timedelta = timedelta(minutes=60)
    main_file_timeout: timedelta = timedelta(minutes=120)
    sciex_size_check: timedelta = timedelta(hours=24)
    old_file: timedelta = timedelta(hours=5)
    whole_look: timedelta = timedelta(minutes=5)
    pause: timedelta = timedelta(minutes=10)

    def hastened(self, speed: float) -> "Timing":
        """The same for a clock that runs `speed` times as fast; only simulations have one."""
        return Timing(
            size_check=self.size_check / speed,
            main_file_timeout=self.main_file_timeout / speed,
            sciex_size_check=self.sciex_size_check / speed,
            old_file=self.old_file / speed,
            whole_look=self.whole_look / speed,
            pause=self.pause / speed,
        )


class FolderEntry(NamedTuple):
    """An acquisition as it stands in the folder.

    `main_size_bytes` is None while there is no main file; `total_bytes` is of all members that a
    look at the folder shows; `scan_size_bytes` is that of a Sciex `.wiff.scan`; `problem` is why
    nothing of this can be known just now. `created_at_epoch` is what the disk says, be it nonsense;
    so is `main_mtime`, the main file's time of the last write.
    """

    name: str
    created_at_epoch: float
    main_size_bytes: int | None
    total_bytes: int
    scan_size_bytes: int | None
    problem: str | None = None
    main_mtime: float | None = None

    @property
    def has_content(self) -> bool:
        return bool(self.main_size_bytes)


@dataclass(frozen=True)
class Watch:
    """What the monitor remembers of one acquisition between two looks.

    What was first seen after `baseline_at` counts as new. `size_bytes` is the main file's size at
    `size_checked_at`, -1 before the first check; `total_bytes` likewise. The `seen_` values are
    those of the last look that showed the main file, None where no look has kept them; `grown`
    says that a look found more than the one before; `written_at` is that of the last look that
    found other sizes.
    """

    began_at: datetime
    baseline_at: datetime
    size_checked_at: datetime
    looked_at: datetime
    size_bytes: int = -1
    total_bytes: int = -1
    main_file_seen: bool = False
    missing_since: datetime | None = None
    seen_size: int | None = None
    seen_total: int | None = None
    seen_scan: int | None = None
    grown: bool = False
    written_at: datetime | None = None

    @classmethod
    def begin(
        cls, now: datetime, *, main_file_seen: bool, seen: FolderEntry | None = None
    ) -> "Watch":
        watch = cls(
            began_at=now,
            baseline_at=now,
            size_checked_at=now,
            looked_at=now,
            main_file_seen=main_file_seen,
        )
        return watch if seen is None else watch.having_seen(seen)

    def having_seen(self, seen: FolderEntry) -> "Watch":
        more = self.seen_size is not None and (seen.main_size_bytes or 0) > self.seen_size
        sizes = (seen.main_size_bytes, seen.total_bytes)
        others = self.seen_total is not None and sizes != (self.seen_size, self.seen_total)
        return replace(
            self,
            seen_size=seen.main_size_bytes,
            seen_total=seen.total_bytes,
            seen_scan=seen.scan_size_bytes,
            grown=self.grown or more,
            written_at=self.looked_at if others else self.written_at,
        )

    def blindfold(self, now: datetime) -> "Watch":
        """After a look that could tell nothing: its time doesn't count as time without a file."""
        since = self.missing_since or (None if self.main_file_seen else self.began_at)
        waited = None if since is None else since + max(now - self.looked_at, timedelta())
        return replace(self, looked_at=now, missing_since=waited)

    def stood_still(self, seen: FolderEntry, rules: VendorRules) -> bool:
        """Whether nothing was written since the last look, but for what completed a Sciex scan."""
        if self.seen_total is None or seen.main_size_bytes != self.seen_size:
            return False
        if seen.total_bytes == self.seen_total:
            return True
        before, now = self.seen_scan or 0, seen.scan_size_bytes or 0
        just_complete = rules.is_complete_scan(now) and not rules.is_complete_scan(before)
        return just_complete and seen.total_bytes - now == self.seen_total - before

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Watch":
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})

    def to_record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Verdict:
    """`over` with the errors found, or not yet; `reason` in words either way."""

    watch: Watch
    over: bool
    reason: str
    errors: tuple[str, ...] = field(default=())


def observe(
    watch: Watch,
    name: str,
    *,
    vendor: Vendor,
    folder: Mapping[str, FolderEntry],
    first_seen: Mapping[str, datetime],
    now: datetime,
    timing: Timing,
    consider_old: bool = False,
) -> Verdict:
    """Whether the acquisition `name` is over.

    Args:
        watch: what was remembered at the last look (`Watch.begin` when watching began).
        folder: every acquisition of the vendor that stands in the folder, by name.
        first_seen: when Kraken first saw each of these names.
        consider_old: the option `consider_old_files_acquired`.
    """
    seen = folder.get(name)
    if seen is not None and seen.problem is not None:
        return Verdict(watch.blindfold(now), False, f"can't be looked at: {seen.problem}")
    watch = replace(watch, looked_at=now)
    if seen is None or seen.main_size_bytes is None:
        renamed = corrupted_name(vendor, name)
        if renamed and renamed in folder and first_seen[renamed] > watch.baseline_at:
            return Verdict(watch, True, "renamed by the instrument", (f"{FILE_RENAMED}{renamed}",))
        return _main_file_missing(watch, name, vendor, now, timing)
    still = watch.stood_still(seen, RULES[vendor])
    watch = replace(watch, main_file_seen=True, missing_since=None).having_seen(seen)
    ready = RULES[vendor].is_complete_scan(seen.scan_size_bytes)
    if consider_old and ready and still and _is_old(seen, folder, now, timing):
        return Verdict(watch, True, f"over {timing.old_file} older than the youngest")
    watch, unchanged = _check_size(watch, seen, ready=ready, now=now, timing=timing)
    if unchanged:
        return Verdict(watch, True, "the main file has stopped changing")
    return _by_the_next(watch, _new_names(watch, name, vendor, folder, first_seen), ready, still)


def _by_the_next(watch: Watch, new: list[str], ready: bool, still: bool) -> Verdict:
    """An instrument writes one acquisition at a time: the next one's beginning is the end of it."""
    if len(new) == 1 and ready and still:
        return Verdict(watch, True, f"the next acquisition has begun: {new[0]!r}")
    if len(new) > 1:
        watch = replace(watch, baseline_at=watch.looked_at)
        return Verdict(watch, False, f"{len(new)} new acquisitions at once tell nothing")
    if not ready:
        return Verdict(watch, False, "the .wiff.scan is not complete yet")
    if new:
        return Verdict(watch, False, f"{new[0]!r} has begun, and this one was written to since")
    return Verdict(watch, False, "still being acquired")


def _new_names(
    watch: Watch,
    name: str,
    vendor: Vendor,
    folder: Mapping[str, FolderEntry],
    first_seen: Mapping[str, datetime],
) -> list[str]:
    """What may be the next acquisition: it came later, and has its main file with content."""
    return sorted(
        other
        for other in folder
        if other != name
        and folder[other].has_content
        and first_seen[other] > watch.baseline_at
        and not is_corrupted_name(vendor, other)
    )


def _main_file_missing(
    watch: Watch, name: str, vendor: Vendor, now: datetime, timing: Timing
) -> Verdict:
    since = watch.missing_since or (now if watch.main_file_seen else watch.began_at)
    watch = replace(watch, missing_since=since)
    if now - since < timing.main_file_timeout:
        return Verdict(watch, False, "the main file is not there (yet)")
    problem = MAIN_FILE_VANISHED if watch.main_file_seen else MAIN_FILE_MISSING
    error = problem + RULES[vendor].main_file_display_name(name)
    return Verdict(watch, True, f"no main file for {timing.main_file_timeout}", (error,))


def _check_size(
    watch: Watch, seen: FolderEntry, *, ready: bool, now: datetime, timing: Timing
) -> tuple[Watch, bool]:
    """Compares with the last check once it is old enough; an empty file is never done."""
    if now - watch.size_checked_at < timing.size_check:
        return watch, False
    size = seen.main_size_bytes or 0
    if (size, seen.total_bytes) != (watch.size_bytes, watch.total_bytes):
        checked = replace(watch, size_bytes=size, total_bytes=seen.total_bytes, size_checked_at=now)
        return checked, False
    long_enough = ready or now - watch.size_checked_at >= timing.sciex_size_check
    return watch, size > 0 and long_enough


def _is_old(
    seen: FolderEntry, folder: Mapping[str, FolderEntry], now: datetime, timing: Timing
) -> bool:
    """By the disk's own dates: after an outage everything is first seen at once.

    A date that can't be says nothing of the file that has it; one in the future counts as now.
    """
    if not is_plausible(seen.created_at_epoch, now=now):
        return False
    created = plausible(seen.created_at_epoch, first_seen=now)
    dates = [
        plausible(other.created_at_epoch, first_seen=now)
        for other in folder.values()
        if other.has_content and other.created_at_epoch >= EARLIEST.timestamp()
    ]
    return max(dates, default=created) - created > timing.old_file
