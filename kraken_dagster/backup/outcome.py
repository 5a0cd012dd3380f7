"""What a backup is proven by: the outcome of a copy, and the reading of what is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kraken_dagster.backup import bruker_metadata as bruker
from kraken_dagster.backup.copying.plan import CopyResult
from kraken_dagster.fs.limited.child import call
from kraken_dagster.fs.stores.backup_reader import read_all
from kraken_dagster.fs.stores.read_only import protect_backup
from kraken_dagster.fs.tdf.index import INDEX_NAMES
from kraken_dagster.fs.timeouts import beating
from kraken_dagster.model.errors import FileFormatError, NotRecorded
from kraken_dagster.model.raw_file import FileFact, RawFile
from kraken_dagster.raw_readers.limited import limits_for_raw
from kraken_dagster.runtime.after_jobs import seen
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup

_BRUKER_FACTS = (
    "ClosedProperly",
    "AcquisitionDateTime",
    "InstrumentName",
    "InstrumentSerialNumber",
    "SampleName",
    "MethodName",
    "SimulatedBy",
)
_LONGEST_FACT = 1_000  # characters


@dataclass(frozen=True)
class BackupOutcome:
    """`done` with what was proven, or not, with the reason in words."""

    raw_file: RawFile
    done: bool
    reason: str
    facts: Mapping[str, FileFact] = field(default_factory=dict)
    copied_bytes: int = 0
    proven: int = 0
    seconds: float = 0.0
    manifest: Path | None = None
    set_aside: tuple[Path, ...] = ()
    instrument_facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(fact.size or 0 for fact in self.facts.values())


def verify(services: Services, raw_file: RawFile) -> BackupOutcome:
    """Reads the whole backup again and compares it with what MongoDB has recorded.

    Raises:
        NotRecorded, BackupDamaged, StoreAway
    """
    if not raw_file.file_info:
        raise NotRecorded("MongoDB has no digests of this backup", file=raw_file.id)
    stall_s = services.instrument(raw_file.instrument_id).copy_stall_s
    top = raw_file.id if services.rules(raw_file.instrument_id).is_folder else None
    with opened_backup(services, raw_file) as root:
        folder = services.backup_folder(raw_file, root.path)

        def read(beat: Callable[[int], None]) -> dict[str, FileFact]:
            facts = read_all(folder, raw_file.file_info, on_bytes=beat)
            protect_backup(folder, raw_file.file_info, top, services.backup_group)
            return facts

        found = beating(read, stall_s=stall_s, what=folder / raw_file.id)
        scan = seen(services, raw_file, root.path)
    services.store.retention.proven(raw_file, now=services.now(), seen=scan)
    return BackupOutcome(raw_file, True, "verified again", found, proven=len(found))


def instrument_facts(
    services: Services, raw_file: RawFile, result: CopyResult, root: Path
) -> dict[str, str]:
    """What Bruker's software says of the file, `ClosedProperly` first of all.

    Read from the backup, so that the source is read once only, and in a child process with limits.
    Why a database can't be read is recorded, and is no reason to refuse the backup: it is the
    instrument's file as it is.

    Raises:
        CopyStalled: the backup store gives no answer.
    """
    index = next((name for name in INDEX_NAMES if f"{raw_file.id}/{name}" in result.facts), None)
    if index is None:
        return {}
    folder = services.backup_folder(raw_file, root) / raw_file.id
    try:
        said = call(
            f"{bruker.__name__}:read_bruker_metadata",
            folder,
            limits=limits_for_raw(services.config.reading_limits),
            wall_s=services.instrument(raw_file.instrument_id).copy_stall_s,
            what=folder / index,
        )
    except FileFormatError as error:
        return {"ClosedProperly": "unknown", index: str(error)}
    return {name: said[name][:_LONGEST_FACT] for name in _BRUKER_FACTS if name in said}


def with_known(raw_file: RawFile, facts: Mapping[str, FileFact]) -> dict[str, FileFact]:
    """With the ETag that another program has recorded of the same bytes, and the second digest of
    an earlier copy where none was taken now."""
    return {name: _with_known(fact, raw_file.file_info.get(name)) for name, fact in facts.items()}


def _with_known(fact: FileFact, known: FileFact | None) -> FileFact:
    if known is None or known.md5 != fact.md5:
        return fact
    return fact.model_copy(update={"etag": known.etag, "second": fact.second or known.second})
