"""What is done with a file after its backup: its project, whether to process it, which settings.

Source of the rules and their wording: AlphaKraken, whose users read these reasons.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from kraken_dagster.model.files.acquisition import (
    FILE_RENAMED,
    MAIN_FILE_MISSING,
    MAIN_FILE_VANISHED,
)
from kraken_dagster.model.files.vendors import Vendor, is_corrupted_name
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, Status, year_month

DEFAULT_SKIP_PATTERN = "(?i)_dda_"  # AlphaKraken's rule
_SPECIAL_CHARACTER = re.compile(r"[^a-zA-Z0-9\-_+.]")
_INSTRUMENT_PREFIX = "INSTRUMENT_"
ANY_SCOPE = "*"


def project_id_of(raw_file_name: str, project_ids: Iterable[str]) -> str | None:
    """The project that a name speaks of, None unless it is exactly one.

    The tokens between `_`, and the last one before the extension, are compared without case; the
    answer is in the spelling of the known id.
    """
    found = projects_named_in(raw_file_name, project_ids)
    return found[0] if len(found) == 1 else None


def projects_named_in(raw_file_name: str, project_ids: Iterable[str]) -> list[str]:
    """Every known project of which the id is a token of the name, sorted."""
    known = {project_id.upper(): project_id for project_id in project_ids}
    *head, last = raw_file_name.split("_")
    tokens = {token.upper() for token in (*head, last, last.split(".", maxsplit=1)[0])}
    return sorted(known[token] for token in tokens if token in known)


def count_special_characters(name: str) -> int:
    """How many characters are outside letters, digits, `-_+.`."""
    return len(_SPECIAL_CHARACTER.findall(name))


def overwrite_requested(option: str | None, *, raw_file_id: str, instrument_id: str) -> bool:
    """Whether an overwrite option, a raw file id or `INSTRUMENT_<id>`, covers this file."""
    return option in (raw_file_id, f"{_INSTRUMENT_PREFIX}{instrument_id}")


def meets_age_criterion(age: timedelta, *, max_age_hours: float) -> bool:
    """Whether a file is young enough to be handled; a negative limit is none."""
    return max_age_hours < 0 or age <= timedelta(hours=max_age_hours)


@dataclass(frozen=True)
class Decision:
    """Process, or end with `status` for the reason `details`."""

    process: bool
    status: Status | None = None
    details: str | None = None


def decide_processing(
    *,
    vendor: Vendor,
    raw_file_id: str,
    original_name: str,
    size_bytes: int | None,
    acquisition_errors: Sequence[str] = (),
    skip_processing: bool = False,
    skip_pattern: str = DEFAULT_SKIP_PATTERN,
    has_settings: bool = True,
) -> Decision:
    """Whether a backed up file is processed, and with which status it ends if not."""
    if main_file_is_missing(acquisition_errors):
        return Decision(False, Status.ACQUISITION_FAILED, ";".join(acquisition_errors))
    if skip_processing:
        return _not_quanted("Processing disabled for this instrument.")
    if skip_pattern and re.search(skip_pattern, raw_file_id):
        if skip_pattern == DEFAULT_SKIP_PATTERN:
            return _not_quanted("Filename contains 'dda'.")
        return _not_quanted(f"Filename matches skip_processing_pattern {skip_pattern!r}.")
    if count_special_characters(raw_file_id):
        return _not_quanted("Filename contains special characters.")
    if size_bytes == 0:
        return Decision(False, Status.ACQUISITION_FAILED, "File size is zero.")
    if is_corrupted_name(vendor, original_name):
        return Decision(False, Status.ACQUISITION_FAILED, "File name indicates failed acquisition.")
    if not has_settings:
        return _not_quanted("No settings configured.")
    return Decision(True)


def was_renamed(acquisition_errors: Sequence[str]) -> str | None:
    """The error that says that the file left under another name, so that there is none to copy."""
    return next((error for error in acquisition_errors if error.startswith(FILE_RENAMED)), None)


def main_file_is_missing(acquisition_errors: Sequence[str]) -> bool:
    missing = (MAIN_FILE_MISSING, MAIN_FILE_VANISHED)
    return any(error.startswith(missing) for error in acquisition_errors)


def _not_quanted(reason: str) -> Decision:
    return Decision(False, Status.DONE_NOT_QUANTED, reason)


@dataclass(frozen=True)
class ScopedSettings:
    """One line of `project_settings`: settings that apply within a scope.

    `scope` is `*`, a vendor or an instrument id; `raw_file_id_filter` a substring of the raw file
    id, compared with case; `excluded` the instruments that are left out.
    """

    settings: str
    software_type: str
    scope: str = ANY_SCOPE
    excluded: frozenset[str] = frozenset()
    raw_file_id_filter: str | None = None


@dataclass(frozen=True)
class ScopeVerdict:
    """Whether an entry applies to a file, and why or why not in words."""

    entry: ScopedSettings
    applies: bool
    reason: str


def settings_in_scope(
    entries: Sequence[ScopedSettings],
    *,
    instrument_id: str,
    vendor: str,
    raw_file_id: str | None,
) -> list[ScopedSettings]:
    """For each software type the most specific entry, in the order in which the types appear.

    An instrument's scope wins over its vendor's, that over `*`; then the longer filter; then the
    earlier entry. Without a raw file id filters neither exclude nor rank.
    """
    best: dict[str, tuple[_Rank, ScopedSettings]] = {}
    for entry in entries:
        rank = _rank(entry, instrument_id=instrument_id, vendor=vendor, raw_file_id=raw_file_id)
        if isinstance(rank, str):
            continue
        if entry.software_type not in best or rank > best[entry.software_type][0]:
            best[entry.software_type] = (rank, entry)
    return [entry for _, entry in best.values()]


def explain_scopes(
    entries: Sequence[ScopedSettings],
    *,
    instrument_id: str,
    vendor: str,
    raw_file_id: str | None,
) -> list[ScopeVerdict]:
    """What `settings_in_scope` decides on each entry, in their order, and why."""
    chosen = settings_in_scope(
        entries, instrument_id=instrument_id, vendor=vendor, raw_file_id=raw_file_id
    )
    rank_of = partial(_rank, instrument_id=instrument_id, vendor=vendor, raw_file_id=raw_file_id)
    verdicts = []
    for entry in entries:
        rank = rank_of(entry)
        winner = next((item for item in chosen if item.software_type == entry.software_type), None)
        if isinstance(rank, str):
            verdicts.append(ScopeVerdict(entry, False, rank))
        elif winner is entry:
            why = f"the most specific of type {entry.software_type}: {_place(entry)}"
            verdicts.append(ScopeVerdict(entry, True, why))
        else:
            assert winner is not None
            won = rank_of(winner)
            verdicts.append(ScopeVerdict(entry, False, _why_lost(entry, rank, winner, won)))
    return verdicts


_Rank = tuple[int, int]
_SCOPE_NAMES = ("every instrument", "the vendor", "the instrument")


def _rank(
    entry: ScopedSettings, *, instrument_id: str, vendor: str, raw_file_id: str | None
) -> _Rank | str:
    """How specific an entry is, in scope and then in filter; why it doesn't apply if it doesn't."""
    known_vendor = vendor if vendor in set(Vendor) else None
    ranks = {ANY_SCOPE: 0, known_vendor: 1, instrument_id: 2}
    wanted = entry.raw_file_id_filter or ""
    if entry.scope not in ranks:
        return f"its scope {entry.scope!r} is neither {instrument_id!r} nor {str(vendor)!r}"
    if instrument_id in entry.excluded:
        return f"{instrument_id!r} is excluded"
    if raw_file_id is not None and wanted not in raw_file_id:
        return f"its filter {wanted!r} is not in the name (upper and lower case differ)"
    return ranks[entry.scope], len(wanted) if raw_file_id is not None else 0


def _why_lost(entry: ScopedSettings, rank: _Rank, winner: ScopedSettings, won: _Rank | str) -> str:
    better = f"{winner.settings!r} has the same type {entry.software_type}"
    assert not isinstance(won, str)
    if won[0] > rank[0]:
        return f"{better} and a more specific scope: {_SCOPE_NAMES[won[0]]}"
    if won[1] > rank[1]:
        return f"{better} and a longer filter: {winner.raw_file_id_filter!r}"
    return f"{better} and was assigned earlier"


def _place(entry: ScopedSettings) -> str:
    matched = f", filter {entry.raw_file_id_filter!r}" if entry.raw_file_id_filter else ""
    return f"scope {entry.scope!r}{matched}"


def output_path(
    raw_file_id: str, *, project_id: str | None, created_at: datetime, software_type: str | None
) -> str:
    """The folder of a result, relative to the output root."""
    project = project_id or FALLBACK_PROJECT
    month = f"{year_month(created_at)}/" if project == FALLBACK_PROJECT else ""
    kind = "" if software_type is None else f"/{software_type}"
    return f"{project}/{month}out_{raw_file_id}{kind}"
