"""A look at a folder in which nothing happens costs a stat.

What a watcher knows of its folder is kept in this process only; without it the look is a whole one.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from kraken_dagster.acquisition.identity import require_settled
from kraken_dagster.acquisition.watch import FolderScan, look_at
from kraken_dagster.model.errors import FolderError
from kraken_dagster.model.files.folder import Listing
from kraken_dagster.model.raw_file import OPEN_ACQUISITION
from kraken_dagster.runtime.services import Services


@dataclass(frozen=True)
class _Calm:
    """The last whole look, if it found nothing that goes on.

    `stood_still`: the one before it saw the same stamp. A disk may count its times in seconds, so
    that a name which came just after the first listing has not changed the stamp: the second
    listing has that name.
    """

    scan: FolderScan
    at: datetime
    stood_still: bool


class QuietLooks:
    """The looks of one watcher at its instrument's folder."""

    def __init__(self) -> None:
        self._calm: _Calm | None = None

    def look_at(self, services: Services, instrument_id: str) -> FolderScan:
        """As `watch.look_at`, which it is whenever anything is open, new, wrong or long ago.

        Raises:
            FolderError, StoreUnavailable
        """
        before, self._calm = self._calm, None
        if before is not None and self._nothing_happened(services, instrument_id, before):
            self._calm = before
            return before.scan
        scan = look_at(services, instrument_id)
        if scan.stamp is None or scan.open or scan.ended or scan.registered or scan.problem:
            return scan
        stood_still = before is not None and before.scan.stamp == scan.stamp
        told = replace(scan, newly_left_alone=())
        self._calm = _Calm(told, services.now(), stood_still)
        return scan

    def _nothing_happened(self, services: Services, instrument_id: str, before: _Calm) -> bool:
        """Whether all is as it was; it is recorded then that the folder was looked at."""
        now = services.now()
        is_late = not before.at <= now < before.at + services.config.timing.whole_look
        if is_late or not before.stood_still:
            return False
        try:
            require_settled(services, instrument_id)
            found = _stat(services, instrument_id)
        except FolderError:
            return False  # the whole look that follows tells of it
        if services.store.raw_files.in_status(instrument_id, OPEN_ACQUISITION):
            return False
        return found.stamp == before.scan.stamp and services.store.health.still_well(
            instrument_id, free_bytes=found.free_bytes, total_bytes=found.total_bytes, now=now
        )


def _stat(services: Services, instrument_id: str) -> Listing:
    """The folder itself, without what is in it."""
    return services.lister(
        str(services.instrument_folder(instrument_id)),
        timeout_s=services.instrument(instrument_id).folder_timeout_s,
        entries=False,
    )
