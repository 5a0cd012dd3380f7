"""What a raw file waits for, in words and with the time: from its record, and from nothing else
than what is passed in. `docs/waiting.md` tells the rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_dagster.config.instruments import InstrumentEntry, PurgeProof
from kraken_dagster.model.files.acquisition import Timing, Watch
from kraken_dagster.model.files.being_written import BeingWritten, why_not_copied
from kraken_dagster.model.files.dates import local
from kraken_dagster.model.files.vendors import RULES
from kraken_dagster.model.offsite import why_no_copy
from kraken_dagster.model.raw_file import (
    BACKUP_UNDER_WAY,
    FINAL,
    OPEN_ACQUISITION,
    InstrumentFileStatus,
    RawFile,
    Status,
)
from kraken_dagster.model.retention.rules import span, why_not_move, why_not_purge


@dataclass(frozen=True)
class Around:
    """What of the laboratory files may wait for; in words where something is wrong.

    `folder` is the trouble of the instrument's folder, `backup` and `output` that of the stores;
    `engines` by name the trouble of those that can't be asked, with the time of the next try.
    `slots` by name: open jobs, and how many may be. `behind` is the acquisition during which no
    copy is begun.
    """

    folder: str | None = None
    backup: str | None = None
    output: str | None = None
    engines: Mapping[str, str] = field(default_factory=dict)
    slots: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    behind: BeingWritten | None = None


@dataclass(frozen=True)
class _Case:
    raw_file: RawFile
    now: datetime
    instrument: InstrumentEntry
    timing: Timing
    around: Around

    def at(self, time: datetime) -> str:
        return f"at {local(time, now=self.now)}" if time > self.now else "at the next look"


def waits_for(
    raw_file: RawFile,
    *,
    now: datetime,
    instrument: InstrumentEntry,
    timing: Timing,
    around: Around,
) -> str | None:
    """What happens to a file next, when, and what that waits for; None if nothing does."""
    case = _Case(raw_file, now, instrument, timing, around)
    if (lease := raw_file.leased(now)) is not None:
        until = local(lease.until, now=now)
        return f"run {lease.run_id} works on it (step {lease.step}; its lease is until {until})"
    if raw_file.status in OPEN_ACQUISITION:
        return _acquisition(case)
    if raw_file.status is Status.ERROR:
        return _error(case)
    if raw_file.status in BACKUP_UNDER_WAY | {Status.MONITORING_DONE}:
        copies = f"at most {instrument.copy_slots} of the instrument at once, oldest first"
        return around.backup or _behind_another(case) or f"its copy is due: {copies}"
    if raw_file.status in (Status.COPYING_DONE, Status.COMPUTING_MSQC):
        tick = f"every {in_words(timedelta(seconds=instrument.watch_interval_s))}"
        return around.backup or f"what is run on it is decided at the watcher's next tick, {tick}"
    if raw_file.status in (Status.QUEUED_FOR_QUANTING, Status.QUANTING):
        return _processing(case)
    return _on_instrument(case)


def in_words(delta: timedelta) -> str:
    """`24 h`, `60 min`, `9 s`: the largest unit of which there are two and that is whole."""
    seconds = delta.total_seconds()
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def _acquisition(case: _Case) -> str:
    if case.around.folder is not None:
        return f"being acquired; the folder can't be gone by: {case.around.folder}"
    record = case.raw_file.acquisition
    if not isinstance(record.get("looked_at"), datetime):
        return "being acquired; it is looked at for the first time at the watcher's next tick"
    watch = Watch.from_record(record)
    if watch.missing_since is not None or not watch.main_file_seen:
        return _main_file_missing(case, watch)
    ends = ["when the next acquisition begins"]
    still, apart = _stands_still_at(case, watch)
    if not watch.seen_size:
        ends = ["never, while its main file is empty"]
    else:
        reported = f"once it is the same at two checks {in_words(apart)} apart"
        ends.append(f"{reported}, {case.at(still)} if nothing more is written")
        if not _is_ready(case, watch):
            ends[0] += ", and its .wiff.scan is complete"
    if case.instrument.consider_old_files_acquired:
        old = in_words(case.timing.old_file)
        ends.append(f"when it is more than {old} older than the youngest there")
    return f"being acquired; over {', or '.join(ends)}"


def _stands_still_at(case: _Case, watch: Watch) -> tuple[datetime, timedelta]:
    """When it is over if nothing more is written, and how far apart the checks must be."""
    timing, checked = case.timing, watch.size_checked_at
    if (watch.seen_size, watch.seen_total) != (watch.size_bytes, watch.total_bytes):
        checked = max(checked + timing.size_check, case.now)  # a check finds that, and begins anew
    apart = timing.size_check if _is_ready(case, watch) else timing.sciex_size_check
    return checked + apart, apart


def _is_ready(case: _Case, watch: Watch) -> bool:
    return RULES[case.instrument.type].is_complete_scan(watch.seen_scan)


def _main_file_missing(case: _Case, watch: Watch) -> str:
    since = watch.missing_since or watch.began_at
    end = since + case.timing.main_file_timeout
    reported = (
        f"its main file is not there; it counts as failed {case.at(end)} if it isn't until then "
        f"({in_words(case.timing.main_file_timeout)})"
    )
    if RULES[case.instrument.type].failed_suffix is not None:
        reported += ", or when the instrument has renamed it as failed"
    return reported


def _error(case: _Case) -> str:
    raw_file = case.raw_file
    if raw_file.retry_at is None:
        return "it is tried again after `kraken retry`, once the cause is mended"
    away = case.around.output if raw_file.is_backed_up else case.around.backup
    away = away or _behind_another(case)
    if raw_file.retry_at > case.now or away is None:
        return f"it is tried again {case.at(raw_file.retry_at)}"
    return away


def _behind_another(case: _Case) -> str | None:
    if case.raw_file.is_backed_up:
        return None
    at_the_latest = timedelta(hours=case.instrument.copy_at_the_latest_after_h)
    waiting = why_not_copied(
        case.raw_file, case.around.behind, at_the_latest=at_the_latest, now=case.now
    )
    return None if waiting is None else waiting.in_words(case.now)


def _processing(case: _Case) -> str:
    own, around = case.instrument.engine, case.around
    engines = {item.engine or own for item in case.raw_file.quant_settings} or {own}
    if refusals := [around.engines[name] for name in sorted(engines & around.engines.keys())]:
        return "; ".join(refusals)
    if around.output is not None:
        return around.output
    names = ", ".join(repr(name) for name in sorted(engines))
    if case.raw_file.status is Status.QUANTING:
        return f"its jobs run, or wait, on {names}; cluster_jobs asks for them"
    full = [name for name in sorted(engines & around.slots.keys()) if _is_full(around, name)]
    if not full:
        return f"its jobs are submitted to {names} at the next tick of cluster_jobs"
    reported = [
        f"{around.slots[name][0]} jobs are open on {name!r} and {around.slots[name][1]} may be"
        for name in full
    ]
    return f"its jobs wait for a slot: {'; '.join(reported)} (the pool `cluster_slots` wins)"


def _is_full(around: Around, name: str) -> bool:
    jobs, slots = around.slots[name]
    return jobs >= slots


def _on_instrument(case: _Case) -> str | None:
    """Of a file that has ended: when it is archived on its instrument, or deleted there."""
    place = case.raw_file.instrument_file_status
    if case.raw_file.status not in FINAL:
        return None
    if place is InstrumentFileStatus.INITIAL:
        return _move(case)
    return _purge(case) if place is InstrumentFileStatus.MOVED else None


def _move(case: _Case) -> str | None:
    raw_file, entry = case.raw_file, case.instrument
    due = move_due_at(raw_file, instrument=entry, now=case.now)
    if due is None:
        return None
    if raw_file.archive is not None and not raw_file.archive.is_over(case.now):
        return f"its archiving: {raw_file.archive.in_words()}"
    after = "its backup" if raw_file.is_backed_up else "its end"
    reported = f"{entry.file_move_delay_m:g} min after {after}"
    return f"archived on the instrument {case.at(due)} ({reported})"


def move_due_at(
    raw_file: RawFile, *, instrument: InstrumentEntry, now: datetime
) -> datetime | None:
    """From when on a file may be archived; None if it is not to be."""
    if not instrument.move_files or instrument.file_move_delay_m < 0:
        return None
    in_the_end = now + span(days=36_500)
    failed_too = instrument.move_failed
    if why_not_move(unhindered(raw_file), now=in_the_end, delay_m=0, failed_too=failed_too):
        return None
    since = raw_file.backed_up_at or raw_file.updated_at_
    if not raw_file.is_backed_up:
        since = raw_file.acquisition.get("ended_at") or raw_file.created_at_
    return since + span(minutes=instrument.file_move_delay_m)


def unhindered(raw_file: RawFile) -> RawFile:
    """The file as if nothing had ever stood in its way."""
    return raw_file.model_copy(update={"archive": None, "purge": None, "lease": None})


def _purge(case: _Case) -> str | None:
    entry, raw_file = case.instrument, case.raw_file
    if not entry.remove_files or entry.min_free_space_gb <= 0:
        return None
    if raw_file.purge is not None and not raw_file.purge.is_over(case.now):
        return f"its purge: {raw_file.purge.in_words()}"
    days = entry.min_file_age_to_remove_in_days
    if why_not_purge(unhindered(raw_file), now=case.now, min_age_days=0):
        return None
    needs_index = entry.purge_needs_complete_index
    if reason := why_not_purge(
        unhindered(raw_file), now=case.now, min_age_days=0, needs_complete_index=needs_index
    ):
        return f"not purged: {reason}"
    lacking = why_no_copy(raw_file.offsite)
    if entry.purge_proof is PurgeProof.LOCAL_AND_OFFSITE and lacking is not None:
        return f"not purged: it has no copy off-site: {lacking}"
    due = max(raw_file.dated_at, raw_file.created_at_) + span(days=days)
    reported = f"deleted from the instrument when less than {entry.min_free_space_gb:g} GB are free"
    if due <= case.now:
        return reported
    return f"{reported}, not before {local(due, now=case.now)} ({days:g} days old)"
