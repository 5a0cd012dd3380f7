"""`kraken init-store`: makes a backup store or an output known by a marker in its root."""

import sys
from pathlib import Path
from typing import Any

import click

from kraken_dagster.cli.common import (
    as_text,
    json_option,
    open_services,
    print_json,
    reported,
    say,
    user_name,
)
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.model.errors import CopyStalled, InitRefused
from kraken_dagster.operations.init_store import Initialised, InitOptions
from kraken_dagster.operations.init_store import init_store as init_step


@click.command(name="init-store")
@click.argument("role", required=False, type=click.Choice([role.value for role in Role]))
@click.option("--empty", is_flag=True, help="A new store; only where MongoDB has nothing of one.")
@click.option("--another", is_flag=True, help="A further store; what there is stays on the others.")
@click.option("--incomplete", is_flag=True, help="This is the store, and most of it is lost.")
@click.option("--adopt", metavar="ID", help="Use the store of another MongoDB, by its marker's id.")
@json_option
@click.pass_obj
@reported
def init_store(
    path: Path,
    role: str | None,
    *,
    empty: bool,
    another: bool,
    incomplete: bool,
    adopt: str | None,
    as_json: bool,
) -> None:
    """Make the backup store or the output known by a marker in its root; both if none is named.

    A store is adopted for the recorded backups, or results, that stand in it. 1 if one is refused.
    """
    if another and (empty or adopt or incomplete):
        raise click.UsageError("--another, or --empty, --incomplete, --adopt: not together")
    if adopt and role is None:
        raise click.UsageError("--adopt needs the store: backup or output")
    services = open_services(path)
    options = InitOptions(empty=empty, another=another, incomplete=incomplete, adopt=adopt)
    rows: list[dict[str, Any]] = []
    for item in [Role(role)] if role else list(Role):
        try:
            done = init_step(services, item, by=user_name(), options=options)
            rows.append({**vars(done), "reason": _in_words(done)})
        except (InitRefused, CopyStalled) as error:
            rows.append({"role": item, "result": "refused", "reason": str(error)})
    if as_json:
        print_json(rows)
    for row in rows:
        if not as_json:
            say(f"{row['role']}: {row['result']}: {as_text(row['reason'])}")
    sys.exit(1 if any(row["result"] == "refused" for row in rows) else 0)


def _in_words(done: Initialised) -> str:
    what = "backups" if done.role is Role.BACKUP else "results"
    stands = f"{done.standing} of {done.looked_at} recorded {what} that were looked for stand there"
    mount = "" if done.is_mount else "; the folder is no mount of its own"
    return f"{done.path} is the store {done.store_id}; {stands}{mount}"
