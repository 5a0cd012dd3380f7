"""`kraken login`: lets a person into Dagit."""

from pathlib import Path

import click

from kraken_dagster.cli.common import own_config, reported, say
from kraken_dagster.config.dagit import Role
from kraken_dagster.dagit.access import DAGIT, PAGE, Access
from kraken_dagster.runtime.services import utc_now


@click.command()
@click.option("--viewer", is_flag=True, help="For somebody who looks, and changes nothing.")
@click.option(
    "--revoke", is_flag=True, help="End all logins, void older links, and make the tokens anew."
)
@click.option("--page", is_flag=True, help="For the laboratory's page, in place of Dagit.")
@click.pass_obj
@reported
def login(path: Path, viewer: bool, revoke: bool, page: bool) -> None:
    """Print a link that logs into Dagit, or the page, whoever opens it first, within an hour."""
    access = Access(own_config(path).home)
    if revoke:
        access.revoke()
        say("All logins have ended; links of before are void, and the tokens are new.")
        return
    role = Role.VIEWER if viewer else Role.OPERATOR
    say(access.new_link(role, now=utc_now(), to=PAGE if page else DAGIT))
