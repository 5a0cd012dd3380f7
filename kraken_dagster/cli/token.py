"""`kraken token`: what programs ask Kraken with."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from kraken_dagster.cli.common import (
    json_option,
    open_services,
    print_json,
    print_table,
    reported,
    say,
    user_name,
)
from kraken_dagster.model.api_tokens import TokenScope
from kraken_dagster.operations.tokens import add_token, revoke_token
from kraken_dagster.runtime.services import utc_now

_MOST_DAYS = 3650


class Expiry(click.ParamType):
    """`90d`, a date, or `never`; a moment in UTC, or None."""

    name = "expiry"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,  # noqa: ARG002 - click's
        ctx: click.Context | None,  # noqa: ARG002
    ) -> datetime | None:
        text = str(value)
        if text == "never":
            return None
        days = re.fullmatch(r"([0-9]{1,4})d", text)
        if days is not None and 1 <= int(days[1]) <= _MOST_DAYS:
            return utc_now() + timedelta(days=int(days[1]))
        try:
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            self.fail(f"{text!r} is no date like 2027-01-31, no time like 90d, nor never")


@click.group()
def token() -> None:
    """Tokens for programs that ask by REST."""


@token.command()
@click.argument("name")
@click.option("--scope", type=click.Choice([item.value for item in TokenScope]), required=True)
@click.option(
    "--expires", type=Expiry(), default="90d", show_default=True, help="A date, 90d, or never."
)
@click.pass_obj
@reported
def add(path: Path, name: str, scope: str, expires: datetime | None) -> None:
    """Make a token, and print it: it is shown this once."""
    services = open_services(path)
    made = add_token(services, name, TokenScope(scope), expires_at=expires, by=user_name())
    until = "for ever" if expires is None else f"until {expires:%Y-%m-%d %H:%M} UTC"
    say(f"token {name}, {scope}, {until}; it is not shown again:", err=True)
    click.echo(made)


@token.command("list")
@json_option
@click.pass_obj
@reported
def list_tokens(path: Path, as_json: bool) -> None:
    """All tokens that were made, without what they are."""
    services = open_services(path)
    now = services.now()
    rows = [
        {**item.model_dump(exclude={"digest"}), "holds": item.holds(now)}
        for item in services.store.api_tokens.all()
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ["name", "scope", "holds", "created_at", "created_by", "expires_at"]
        print_table(rows, [*columns, "revoked_at", "last_used_at"])


@token.command()
@click.argument("name")
@click.pass_obj
@reported
def revoke(path: Path, name: str) -> None:
    """End a token, at once."""
    services = open_services(path)
    revoke_token(services, name, by=user_name())
    say(f"token {name} is revoked")


@token.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="Actions.")
@json_option
@click.pass_obj
@reported
def actions(path: Path, limit: int, as_json: bool) -> None:
    """What was asked to be done by REST, by whom, newest first."""
    rows = open_services(path).store.api_tokens.actions(limit=limit)
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ["at", "by", "action", "subject", "status"])
