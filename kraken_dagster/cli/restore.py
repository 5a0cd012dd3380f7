"""`kraken restore`: a backup, or the copy off-site, copied out."""

import sys
from pathlib import Path

import click

from kraken_dagster.backup.restore import restore as restore_step
from kraken_dagster.cli.common import as_text, open_services, reported, say
from kraken_dagster.cli.screens.progress_bar import progress_bar
from kraken_dagster.fs.copying.progress import Progress as Copied
from kraken_dagster.offsite.client import connect
from kraken_dagster.offsite.cold import TIERS
from kraken_dagster.offsite.fetch import restore_offsite
from kraken_dagster.offsite.places import configured
from kraken_dagster.runtime.services import Services


@click.command()
@click.argument("raw_file_id")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    type=click.Choice(["backup", "offsite"]),
    default="backup",
    help="`offsite`: the copy on the S3 server.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 365),
    default=7,
    help="How long the server keeps what it gets out of cold storage.",
)
@click.option("--tier", type=click.Choice(TIERS), default=TIERS[0], help="How fast it gets it out.")
@click.pass_obj
@reported
def restore(
    path: Path, raw_file_id: str, folder: Path, *, source: str, days: int, tier: str
) -> None:
    """Copy the backup of a raw file into the folder DIR, and prove the copy.

    With `--from offsite` it is fetched from the S3 server. What lies in cold storage is asked for
    first; exit code 1 then, and the same command fetches it once the server has it.
    """
    services = open_services(path)
    if source == "offsite":
        _restore_offsite(services, raw_file_id, folder.absolute(), days=days, tier=tier)
        return
    size = services.store.raw_files.get(raw_file_id).size or 0
    with progress_bar("restoring", total=size, unit_is_files=False) as (_, count):
        before = [0]

        def moved(progress: Copied) -> None:
            count(progress.done_bytes - before[0])
            before[0] = progress.done_bytes

        result = restore_step(services, raw_file_id, folder.absolute(), on_progress=moved)
    target = folder.absolute() / raw_file_id
    say(
        f"{as_text(target)}: {len(result.facts)} files, {result.copied} copied, "
        f"{result.proven} there already; every byte as recorded"
    )
    for refusal in result.refused:
        say(f"Refused there, and no part of the proof: {as_text(refusal)}")


def _restore_offsite(
    services: Services, raw_file_id: str, folder: Path, *, days: int, tier: str
) -> None:
    s3 = connect(configured(services))
    size = services.store.raw_files.get(raw_file_id).size or 0
    with progress_bar("fetching", total=size, unit_is_files=False) as (_, count):
        result = restore_offsite(
            services, s3, raw_file_id, folder, days=days, tier=tier, on_bytes=count
        )
    if result.cold is not None:
        words = f"{result.cold.in_words}. Give the same command again then."
        say(f"{as_text(raw_file_id)}: {as_text(words)}")
        sys.exit(1)
    say(
        f"{as_text(folder / raw_file_id)}: {result.files} files, {result.fetched} fetched, "
        f"{result.proven} there already; every byte as recorded"
    )
