"""Copies off-site that are looked at again, and read back within a budget; uploads given up.

A HEAD costs next to nothing, so that every copy is asked for within days. Reading costs what the
provider asks for bytes that leave it, so that a month has a bound.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from kraken_dagster.fs.rate_limit import RateLimit
from kraken_dagster.model.errors import OffsiteAway, OffsiteDiffers, OffsiteError
from kraken_dagster.model.offsite import StoredObject
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.offsite.check import differs, forget, head_of, require_copy
from kraken_dagster.offsite.client import S3, is_missing, s3_errors
from kraken_dagster.offsite.cold import readiness
from kraken_dagster.offsite.places import configured
from kraken_dagster.offsite.reading import pieces_of
from kraken_dagster.runtime.exclusive_runs import offsite_of
from kraken_dagster.runtime.services import Services
from kraken_dagster.store.raw_files.offsite import CopyAge

_GB = 10**9
_READ_AGAIN_AFTER = timedelta(days=30)  # however much the budget has room for
_NEVER = datetime.min.replace(tzinfo=UTC)


class Look(StrEnum):
    SEEN = "seen"
    READ = "read"
    WRONG = "not what was recorded"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Looked:
    """What came of one copy, or one upload that was given up; `bytes` were read."""

    raw_file_id: str
    look: Look
    reason: str
    bytes: int = 0


def scrub(services: Services, s3: S3) -> Iterator[Looked]:
    """Asks for every copy that is due, then reads what the month's budget has room for.

    Raises:
        OffsiteAway: the server is away; the next one goes on.
        StoreUnavailable
    """
    config, now = configured(services), services.now()
    copies = services.store.offsite.copies(list(services.config.instruments))
    limit = now - timedelta(days=config.look_every_days)
    for known in sorted(copies, key=lambda item: item.seen_at or _NEVER):
        if known.seen_at is None or known.seen_at < limit:
            yield _looked(services, known, lambda raw_file: _seen(services, s3, raw_file))
    yield from _read_some(services, s3, copies)


def _read_some(services: Services, s3: S3, copies: Sequence[CopyAge]) -> Iterator[Looked]:
    config, month = configured(services), f"{services.now():%Y-%m}"
    if not config.read_gb_per_month:
        return
    rate, again = RateLimit(config.mb_per_s), services.now() - _READ_AGAIN_AFTER
    due = [item for item in copies if (item.verified_at or _NEVER) < again]
    for known in sorted(due, key=lambda item: item.verified_at or _NEVER):
        left = config.read_gb_per_month * _GB - services.store.offsite.read_in(month)
        if known.bytes > left:  # and not a smaller one in its place, or it never has its turn
            return
        yield _looked(services, known, lambda raw_file: _read(services, s3, raw_file, month, rate))


def _looked(services: Services, known: CopyAge, look: Callable[[RawFile], Looked]) -> Looked:
    """One copy's trouble stops no other; a server that is away is no copy's trouble."""
    raw_file = services.store.raw_files.get(known.raw_file_id)
    try:
        return look(raw_file)
    except OffsiteAway:
        raise
    except OffsiteDiffers as error:
        return Looked(raw_file.id, Look.WRONG, str(error))
    except OffsiteError as error:
        return Looked(raw_file.id, Look.UNKNOWN, str(error))


def _seen(services: Services, s3: S3, raw_file: RawFile) -> Looked:
    state = require_copy(services, s3, raw_file)
    return Looked(raw_file.id, Look.SEEN, f"the server has {state.in_words}")


def _read(services: Services, s3: S3, raw_file: RawFile, month: str, rate: RateLimit) -> Looked:
    """Reads the whole copy; of one that lies in cold storage only a HEAD is asked for."""
    state = require_copy(services, s3, raw_file)
    objects = services.store.offsite.objects(raw_file.id)
    for path in sorted(raw_file.file_info):
        with s3_errors(objects[path].shown):
            if not readiness(head_of(s3, objects[path])).is_ready:
                return Looked(raw_file.id, Look.SEEN, f"{path!a} lies in cold storage, and stays")
    size = 0
    for path in sorted(raw_file.file_info):
        try:
            size += _compared(services, s3, objects[path], month, rate)
        except OffsiteDiffers as error:
            forget(services, raw_file, path, error)
            raise
    now = services.now()
    read = state.model_copy(update={"seen_at": now, "verified_at": now})
    services.store.offsite.seen(raw_file.id, read)
    return Looked(raw_file.id, Look.READ, f"every byte of {state.in_words} read back", size)


def _compared(services: Services, s3: S3, stored: StoredObject, month: str, rate: RateLimit) -> int:
    """Reads one object, and counts it whatever comes of it.

    Raises:
        OffsiteDiffers
    """
    md5, size = hashlib.md5(usedforsecurity=False), 0
    try:
        for piece in pieces_of(s3, stored):
            md5.update(piece)
            size += len(piece)
            rate.took(len(piece))
    finally:
        services.store.offsite.was_read(month, size)
    if (size, md5.hexdigest()) != (stored.size, stored.md5):
        raise differs(stored, f"{size} bytes, MD5 {md5.hexdigest()}, when it was read back")
    return size


def sweep(services: Services, s3: S3) -> Iterator[str]:
    """Gives up uploads in parts that Kraken began and nobody has ended for a while.

    Only those that MongoDB has as Kraken's own; another program's are never touched.

    Raises:
        OffsiteError, StoreUnavailable
    """
    now = services.now()
    limit = now - timedelta(days=configured(services).abandoned_after_days)
    for begun in services.store.offsite.begun_before(limit):
        if services.store.exclusive_runs.get(offsite_of(begun.raw_file)).held(now):
            continue
        what = f"s3://{begun.bucket}/{begun.key}"
        with s3_errors(what):
            try:
                s3.abort_multipart_upload(Bucket=begun.bucket, Key=begun.key, UploadId=begun.id)
            except s3.exceptions.ClientError as error:
                if not is_missing(error):
                    raise
        services.store.offsite.ended(begun.id)
        yield f"the upload of {what} that was begun at {begun.begun_at:%Y-%m-%d} is given up"
