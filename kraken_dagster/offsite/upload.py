"""The copy off-site of one raw file: made, or gone on with, from its local backup."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kraken_dagster.backup.verify import verify_backup
from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.fs.stores.backup_reader import Backup
from kraken_dagster.model.errors import BackupDamaged, KrakenError, StoreError
from kraken_dagster.model.files.dates import local
from kraken_dagster.model.offsite import (
    BegunUpload,
    OffsiteState,
    OffsiteStatus,
    StoredObject,
    is_within,
    next_begin,
)
from kraken_dagster.model.raw_file import RawFile, short_details
from kraken_dagster.model.retention.rules import require_record
from kraken_dagster.offsite.client import S3
from kraken_dagster.offsite.member import upload_member
from kraken_dagster.offsite.places import (
    Place,
    configured,
    content_of,
    place_of,
    require_fit,
    require_keys,
)
from kraken_dagster.offsite.transfer import BegunUploads, Transfer
from kraken_dagster.runtime.ending import ends
from kraken_dagster.runtime.exclusive_runs import at_work, offsite_of
from kraken_dagster.runtime.failures import unexpected_of, wait
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened_backup

_LONGEST_PROBLEM = 4_000  # characters


class _Paused(Exception):
    """The upload goes on later, and nothing is wrong."""


@dataclass(frozen=True)
class UploadOutcome:
    """`state` is None where there was nothing to do, for the reason that is told."""

    raw_file: RawFile
    reason: str
    state: OffsiteState | None = None
    sent_bytes: int = 0


def upload_file(
    services: Services, s3: S3, raw_file_id: str, *, run_id: str, by_hand: bool = True
) -> UploadOutcome:
    """Uploads a raw file's backup, member by member, each to a key and a version of its own.

    The file's own lease is not taken: nothing else that is due on it waits for an upload.

    Raises:
        OffsiteError, BackupUnwritable, BackupDamaged: it was not done; `offsite` of the document
            says why and when it is tried again.
        LeaseHeld: another run uploads it.
        StoreUnavailable
    """
    raw_file = services.store.raw_files.current(raw_file_id)
    if reason := why_not(services, raw_file):
        return UploadOutcome(raw_file, reason)
    lease_s = services.instrument(raw_file.instrument_id).lease_s
    name = offsite_of(raw_file_id)
    with at_work(services, name, run_id=run_id, lease_s=lease_s):
        outcome = _upload(services, s3, raw_file_id, run_id, by_hand=by_hand)
    services.store.exclusive_runs.forget(name)
    return outcome


def why_not(services: Services, raw_file: RawFile) -> str | None:
    """Why a file is not uploaded, by what MongoDB and the configuration say."""
    if not raw_file.is_backed_up or not raw_file.file_info:
        return f"there is no verified backup to be uploaded: {raw_file.backup_status or 'nothing'}"
    if not configured(services).of_project(raw_file.project_id).upload:
        return f"files of project {raw_file.project_id!a} are not uploaded"
    return None


def _upload(
    services: Services, s3: S3, raw_file_id: str, run_id: str, *, by_hand: bool
) -> UploadOutcome:
    raw_file = services.store.raw_files.current(raw_file_id)
    before = raw_file.offsite
    if before is not None and before.has(content_of(raw_file)):
        objects = services.store.offsite.objects(raw_file.id)
        return _record(services, raw_file, before, list(objects.values()), run_id, sent=0)
    place, sent = place_of(services, raw_file), [0]
    _tell(services, raw_file, OffsiteStatus.IN_PROGRESS, place)
    try:
        require = _leave(services, run_id, by_hand=by_hand)
        objects_made = _members(services, s3, raw_file, place, require=require, sent=sent)
    except _Paused as reason:
        _tell(services, raw_file, OffsiteStatus.IN_PROGRESS, place, problem=str(reason))
        return UploadOutcome(raw_file, str(reason))
    except BackupDamaged as error:
        _record_failure(services, raw_file, place, error, run_id)
        # It is read once more, under the file's lease, and recorded as damaged.
        verify_backup(services, raw_file.id, run_id=run_id, rate_limit=RateLimit())
        raise
    except StoreError:
        raise
    except KrakenError as error:
        _record_failure(services, raw_file, place, error, run_id)
        raise
    except Exception as error:
        unexpected = unexpected_of(error, raw_file.id)
        _record_failure(services, raw_file, place, unexpected, run_id)
        raise unexpected from error
    state = _state_of(services, raw_file, place, objects_made)
    return _record(services, raw_file, state, objects_made, run_id, sent=sent[0])


def _state_of(
    services: Services, raw_file: RawFile, place: Place, made: Sequence[StoredObject]
) -> OffsiteState:
    return OffsiteState(
        status=OffsiteStatus.DONE,
        at=services.now(),
        bucket=place.bucket,
        prefix=place.prefix,
        content=content_of(raw_file),
        files=len(made),
        bytes=sum(item.size for item in made),
        seen_at=services.now(),
    )


def _members(
    services: Services,
    s3: S3,
    raw_file: RawFile,
    place: Place,
    *,
    require: Callable[[], None],
    sent: list[int],
) -> list[StoredObject]:
    config = configured(services)
    vendor = services.instrument(raw_file.instrument_id).type
    require_record(vendor, raw_file.id, raw_file.file_info)
    require_keys(place, raw_file.file_info)
    require_fit(s3, place.bucket)
    rate = None if config.mb_per_s is None else config.mb_per_s / config.slots

    def took(count: int) -> None:
        sent[0] += count

    begun = _begun_of(services, raw_file.id, place.bucket)
    transfer = Transfer(s3, config, place, RateLimit(rate), services.now, require, took, begun)
    storage_class = config.of_project(raw_file.project_id).storage_class
    had = services.store.offsite.objects(raw_file.id)
    made: list[StoredObject] = []
    with (
        opened_backup(services, raw_file) as root,
        Backup.open(services.backup_folder(raw_file, root.path)) as backup,
    ):
        for path, fact in sorted(raw_file.file_info.items()):
            known = had.get(path)
            if known is None or not _is_of(known, place, fact.md5):
                require()
                known = upload_member(transfer, backup, path, fact, storage_class=storage_class)
                services.store.offsite.keep_object(raw_file.id, known)
            made.append(known)
    return made


def _begun_of(services: Services, raw_file_id: str, bucket: str) -> BegunUploads:
    store = services.store.offsite

    def began(key: str, upload_id: str) -> None:
        begun = BegunUpload(
            raw_file=raw_file_id, bucket=bucket, key=key, id=upload_id, begun_at=services.now()
        )
        store.began(begun)

    ids = frozenset(item.id for item in store.begun(raw_file_id))
    return BegunUploads(ids, began, store.ended)


def _is_of(known: StoredObject, place: Place, md5: str | None) -> bool:
    """Whether a member was uploaded already, by a run that ended before the last one."""
    return (known.bucket, known.key, known.md5) == (place.bucket, place.key(known.path), md5)


def _leave(services: Services, run_id: str, *, by_hand: bool) -> Callable[[], None]:
    """What stops an upload between two parts: the end of its run, or of the hours for uploads."""
    config = configured(services)

    def require() -> None:
        if ends(run_id):
            raise _Paused("the run was told to end; the next one goes on with the parts there are")
        hours, now = config.allowed_hours, services.now().astimezone(config.zone)
        if hours is not None and not by_hand and not is_within(hours, now):
            raise _Paused(f"goes on at {local(next_begin(hours, now))}, when uploads run again")

    return require


def _tell(
    services: Services,
    raw_file: RawFile,
    status: OffsiteStatus,
    place: Place,
    *,
    problem: str | None = None,
) -> None:
    before = raw_file.offsite
    state = OffsiteState(
        status=status,
        at=services.now(),
        bucket=place.bucket,
        prefix=place.prefix,
        problem=problem,
        failures=0 if before is None else before.failures,
    )
    services.store.offsite.tell(raw_file, state, now=services.now())


def _record_failure(
    services: Services, raw_file: RawFile, place: Place, error: KrakenError, run_id: str
) -> None:
    """Of the copy off-site alone: what the file's status and its local backup are, they stay."""
    failures = 1 + (0 if raw_file.offsite is None else raw_file.offsite.failures)
    state = OffsiteState(
        status=OffsiteStatus.FAILED,
        at=services.now(),
        bucket=place.bucket,
        prefix=place.prefix,
        problem=str(error)[:_LONGEST_PROBLEM],
        failures=failures,
        retry_at=services.now() + wait(services, raw_file.instrument_id, failures=failures)
        if error.transient or isinstance(error, BackupDamaged)
        else None,
    )
    note = short_details(f"not uploaded: {error}")
    with suppress(StoreError):
        services.store.offsite.tell(raw_file, state, now=services.now(), note=note, run_id=run_id)


def _record(
    services: Services,
    raw_file: RawFile,
    state: OffsiteState,
    objects: list[StoredObject],
    run_id: str,
    *,
    sent: int,
) -> UploadOutcome:
    note = f"off-site: {state.in_words}"
    kept = services.store.offsite.done(
        raw_file, state, objects, now=services.now(), note=short_details(note), run_id=run_id
    )
    if not kept:
        return UploadOutcome(raw_file, "its backup changed meanwhile, and is uploaded anew")
    return UploadOutcome(services.store.raw_files.current(raw_file.id), state.in_words, state, sent)
