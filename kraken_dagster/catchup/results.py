"""Which files of an instrument have their results already."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kraken_dagster.fs.digests import exists
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.timeouts import beating
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.model.settings import AssignedSettings
from kraken_dagster.quant.decide import decision_on, in_scope
from kraken_dagster.quant.output_folder import planned_folder
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import gone_meanwhile, opened, require_unchanged


def with_every_result(services: Services, instrument_id: str, files: Sequence[RawFile]) -> set[str]:
    """Those whose every result stands in the output folder, and may be associated.

    Raises:
        StoreAway, CopyStalled: nothing is known of what stands there.
        OSError
    """
    wanted = _planned(services, files)
    if not wanted:
        return set()

    def scan(root: Path, beat: Callable[[int], None]) -> set[str]:
        found = set()
        for raw_file_id, places in wanted.items():
            beat(1)
            if all(exists(root / place) for place in places):
                found.add(raw_file_id)
        return found

    stall_s = services.instrument(instrument_id).copy_stall_s
    with opened(services, Role.OUTPUT) as root, gone_meanwhile(root):
        found = beating(lambda beat: scan(root.path, beat), stall_s=stall_s, what=root.path)
        require_unchanged(root)  # what was not found isn't there
    return found


def _planned(services: Services, files: Sequence[RawFile]) -> dict[str, list[str]]:
    """Of those that are to be processed, by id, where each result belongs below the output."""
    assigned: dict[str | None, Sequence[AssignedSettings]] = {}
    planned: dict[str, list[str]] = {}
    for raw_file in files:
        project = raw_file.project_id
        if project not in assigned:
            assigned[project] = services.store.catalog.assigned(project)
        settings = in_scope(services, raw_file, assigned[project])
        if decision_on(services, raw_file, has_settings=bool(settings)).process:
            planned[raw_file.id] = [planned_folder(raw_file, item) for item in settings]
    return planned
