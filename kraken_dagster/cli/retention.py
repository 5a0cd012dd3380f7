"""`kraken verify` and `purge`: backups read again, and disks freed."""

import math
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kraken_dagster.backup.scrub import Selection, begin, verify_all
from kraken_dagster.backup.verify import PROOFS, Verdict, VerifyOutcome
from kraken_dagster.cli.common import (
    as_text,
    chosen_instruments,
    json_option,
    open_services,
    print_json,
    print_table,
    reported,
    say,
    user_name,
)
from kraken_dagster.cli.screens.progress_bar import progress_bar
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.model.retention.rules import GB
from kraken_dagster.retention.purge import PurgeOutcome
from kraken_dagster.retention.purge import purge as purge_step
from kraken_dagster.retention.purge_plan import NotDeleted, PurgePlan, ToDelete, plan
from kraken_dagster.retention.purge_record import Purged
from kraken_dagster.runtime.exclusive_runs import at_work, purge_of
from kraken_dagster.runtime.homes import dagster_home
from kraken_dagster.runtime.refusals import in_own_words
from kraken_dagster.runtime.services import Services

_WRONG = (Verdict.MISMATCH, Verdict.UNREADABLE)


def _run_id() -> str:
    """What stands in leases and histories in place of a run of Dagster."""
    # A number comes again; and who has the run's id may take its leases over.
    process = f"process {os.getpid()}, {secrets.token_hex(4)}"
    return f"kraken of {user_name()} on {socket.gethostname()}, {process}"


class _Number(click.FloatRange):
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


def _require_one_way(
    raw_file_ids: Sequence[str],
    instruments: Sequence[str],
    *,
    everything: bool,
    older_than: float | None,
) -> None:
    if not (raw_file_ids or instruments or everything or older_than is not None):
        raise click.UsageError("name raw files, --instrument, --older-than or --all")
    if raw_file_ids and (instruments or everything):
        raise click.UsageError("raw files, or --instrument, or --all: not together")


@click.command()
@click.argument("raw_file_ids", nargs=-1)
@click.option("--instrument", "instruments", multiple=True, help="All of it; repeatable.")
@click.option("--all", "everything", is_flag=True, help="The backups of all instruments.")
@click.option("--older-than", type=_Number(0), help="Only proofs older than these days.")
@click.option("--mb-per-s", type=_Number(0, min_open=True), help="Read no faster.")
@json_option
@click.pass_obj
@reported
def verify(
    path: Path,
    raw_file_ids: tuple[str, ...],
    *,
    instruments: tuple[str, ...],
    everything: bool,
    older_than: float | None,
    mb_per_s: float | None,
    as_json: bool,
) -> None:
    """Read backups again and compare every byte with MongoDB and the manifest; 1 if one differs.

    Oldest proof first. What was interrupted goes on where it was when asked for again; files that
    are named are always read, and it is 1 too if one can't be.
    """
    _require_one_way(raw_file_ids, instruments, everything=everything, older_than=older_than)
    services = open_services(path)
    chosen_instruments(services, instruments)
    chosen = begin(services, Selection(raw_file_ids, instruments, older_than))
    if chosen.resumed:
        since = f"{chosen.began_at:%Y-%m-%d %H:%M:%S} UTC"
        say(f"going on with what was begun at {since}", err=True)
    outcomes: list[VerifyOutcome] = []
    with progress_bar("verifying", total=len(chosen.todo), unit_is_files=True) as (advance, count):
        rate_limit = RateLimit(mb_per_s)
        for outcome in verify_all(
            services, chosen, run_id=_run_id(), rate_limit=rate_limit, on_bytes=count
        ):
            outcomes.append(outcome)
            _tell_dagster(services, outcome)
            advance()
            if not as_json and outcome.verdict is not Verdict.VERIFIED:
                what = f"{outcome.verdict.upper()}: {outcome.raw_file_id}: {outcome.reason}"
                say(as_text(what))
    if as_json:
        print_json([vars(item) for item in outcomes])
    else:
        say(_summary(outcomes))
    wrong = (*_WRONG, Verdict.SKIPPED) if raw_file_ids else _WRONG
    sys.exit(1 if any(item.verdict in wrong for item in outcomes) else 0)


def _summary(outcomes: list[VerifyOutcome]) -> str:
    counts = [sum(item.verdict is verdict for item in outcomes) for verdict in Verdict]
    size = sum(item.size_bytes for item in outcomes)
    each = ", ".join(
        f"{count} {verdict}" for count, verdict in zip(counts, Verdict, strict=True) if count
    )
    return f"{each or 'nothing to verify'}; {size} bytes read"


def _tell_dagster(services: Services, outcome: VerifyOutcome) -> None:
    """The check of the backup in Dagit, where this machine has a Dagster; MongoDB knows anyway."""
    home = dagster_home(services.config)
    if outcome.verdict not in PROOFS or not (home / "dagster.yaml").exists():
        return
    # Takes a second, which other commands need not wait for.
    from dagster import DagsterInstance  # noqa: PLC0415

    from kraken_dagster.orchestration.event_log import report  # noqa: PLC0415
    from kraken_dagster.retention.scrub_defs import verified  # noqa: PLC0415

    instrument_id = services.store.raw_files.get(outcome.raw_file_id).instrument_id
    with DagsterInstance.from_config(str(home)) as instance:
        report(instance, list(verified(instrument_id, outcome)))


@click.command()
@click.option("--instrument", "instruments", multiple=True, help="Only this one; repeatable.")
@click.option("--delete", "really", is_flag=True, help="Delete. Without it only the plan is shown.")
@json_option
@click.pass_obj
@reported
def purge(path: Path, instruments: tuple[str, ...], really: bool, as_json: bool) -> None:
    """Show what a purge would delete and why not the rest; --delete does it, with proof.

    Exit code 1 if an instrument stays short of space or can't be looked at, or a backup is damaged.
    """
    services = open_services(path)
    chosen_instruments(services, instruments)
    shown: list[dict[str, Any]] = []
    failed = False
    for instrument_id in instruments or tuple(services.config.instruments):
        try:
            with in_own_words(instrument_id):
                found = (
                    _purged(services, instrument_id)
                    if really
                    else _planned(services, instrument_id)
                )
        except KrakenError as error:
            say(f"kraken: {instrument_id}: {error}", err=True)
            failed = True
            shown.append(_shown(instrument_id, str(error), enough=False, error=error))
            continue
        shown.append(found)
        damaged = [item for item in found["kept"] if item["damaged"]]
        failed = failed or bool(damaged) or not found["enough"]
        if not as_json:
            _print_purge(found)
        for item in damaged:
            mismatch = VerifyOutcome(item["raw_file_id"], Verdict.MISMATCH, item["reason"])
            _tell_dagster(services, mismatch)
    if as_json:
        print_json(shown)
    sys.exit(1 if failed else 0)


def _planned(services: Services, instrument_id: str) -> dict[str, Any]:
    found: PurgePlan = plan(services, instrument_id, now=services.now())
    how_much = (
        f"{found.free_bytes / GB:.3f} GB are free, {found.wanted_bytes / GB:.3f} GB shall be; "
        f"{found.freed_bytes / GB:.3f} GB would be freed"
    )
    if found.obstacle is not None:
        how_much += f", but not now: {found.obstacle}"
    return _shown(
        instrument_id,
        f"nothing is purged: {found.reason}" if found.reason else how_much,
        enough=found.obstacle is None and (found.enough or found.reason is not None),
        to_delete=found.to_delete,
        kept=found.kept,
        error=found.obstacle,
    )


def _purged(services: Services, instrument_id: str) -> dict[str, Any]:
    lease_s, run_id = services.instrument(instrument_id).lease_s, _run_id()
    with at_work(services, purge_of(instrument_id), run_id=run_id, lease_s=lease_s):
        outcome: PurgeOutcome = purge_step(services, instrument_id, run_id=run_id)
    return _shown(
        instrument_id,
        outcome.reason,
        enough=outcome.enough,
        deleted=outcome.deleted,
        kept=outcome.kept,
        error=outcome.error,
    )


def _shown(
    instrument_id: str,
    summary: str,
    *,
    enough: bool,
    deleted: Sequence[Purged] = (),
    to_delete: Sequence[ToDelete] = (),
    kept: Sequence[NotDeleted] = (),
    error: KrakenError | None = None,
) -> dict[str, Any]:
    """One instrument, as `--json` has it."""
    return {
        "instrument": instrument_id,
        "summary": summary,
        "enough": enough,
        "deleted": [vars(item) for item in deleted],
        "to_delete": [vars(item) for item in to_delete],
        "kept": [vars(item) for item in kept],
        "error": None if error is None else str(error),
    }


def _print_purge(found: dict[str, Any]) -> None:
    say(f"{found['instrument']}: {as_text(found['summary'])}")
    rows = [
        *({**item, "what": "deleted"} for item in found["deleted"]),
        *({**item, "what": "would be deleted"} for item in found["to_delete"]),
        *({**item, "what": "kept"} for item in found["kept"]),
    ]
    if rows:
        print_table(rows, ["what", "raw_file_id", "size_bytes", "reason"])
