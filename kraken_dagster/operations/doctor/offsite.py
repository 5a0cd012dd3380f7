"""What `kraken doctor` says of the S3 server and its buckets. It writes nothing there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from kraken_dagster.config.instruments import PurgeProof
from kraken_dagster.config.offsite import Offsite
from kraken_dagster.model.errors import ConfigError, OffsiteError
from kraken_dagster.model.offsite import bucket_name
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.offsite.client import S3, connect, is_missing, s3_errors
from kraken_dagster.offsite.places import require_fit
from kraken_dagster.operations.doctor.finding import Finding
from kraken_dagster.runtime.services import Services

_MOST_SKEW_S = 60.0


def offsite_findings(services: Services) -> Iterator[Finding]:
    """Of each bucket: whether it is there, keeps versions, lets Kraken look, and deletes nothing
    by itself; and the server's clock."""
    config = services.config.offsite
    if config is None:
        return
    try:
        s3 = connect(config)
        buckets = sorted(buckets_of(services, config))
    except ConfigError as error:
        yield Finding("error", "offsite", str(error))
        return
    yield from _never_purged(services, config)
    for bucket in buckets:
        yield from _bucket(s3, config, bucket)


def _never_purged(services: Services, config: Offsite) -> Iterator[Finding]:
    """Projects whose files are not uploaded, where a purge asks for the copy."""
    entries = map(services.config.instrument, services.config.instruments)
    if not any(item.purge_proof is PurgeProof.LOCAL_AND_OFFSITE for item in entries):
        return
    for name, project in sorted(config.projects.items()):
        if not project.upload:
            found = (
                f"files of project {name!r} are not uploaded, so they are never purged where "
                "`purge_proof` is `local_and_offsite`; have them uploaded, or use `local`"
            )
            yield Finding("warning", "purge_proof", found)


def buckets_of(services: Services, config: Offsite) -> set[str]:
    own = {item.bucket for item in config.projects.values() if item.bucket is not None}
    if config.bucket is not None:
        return {config.bucket, *own}
    prefix = config.bucket_prefix or ""
    names = [FALLBACK_PROJECT, *(item.id for item in services.store.catalog.projects())]
    without = [
        name
        for name in names
        if config.of_project(name).bucket is None and config.of_project(name).upload
    ]
    return {*own, *(bucket_name(prefix, name) for name in without)}


def _bucket(s3: S3, config: Offsite, bucket: str) -> Iterator[Finding]:
    what = f"offsite {bucket}"
    try:
        require_fit(s3, bucket)
        with s3_errors(f"s3://{bucket}"):
            answer = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=1)
            rules = _lifecycle(s3, bucket)
            locks = config.object_lock is None or _has_lock(s3, bucket)
    except OffsiteError as error:
        yield Finding("error", what, str(error))
        return
    yield Finding("ok", what, "it is there, keeps versions, and lets Kraken look at it")
    if not locks:
        yield Finding(
            "error", what, "object_lock is set, and the bucket has none; make one that has it"
        )
    for rule in rules:
        yield Finding(
            "warning", what, f"its lifecycle rule {rule!r} deletes objects; see that none is a copy"
        )
    yield from _clock(what, answer)


def _lifecycle(s3: S3, bucket: str) -> list[str]:
    """The rules that would delete objects, or versions, by themselves."""
    try:
        found = s3.get_bucket_lifecycle_configuration(Bucket=bucket).get("Rules", [])
    except s3.exceptions.ClientError as error:
        if is_missing(error):
            return []
        raise
    deletes = ("Expiration", "NoncurrentVersionExpiration")
    return [
        str(rule.get("ID", "without a name"))
        for rule in found
        if rule.get("Status") == "Enabled" and any(key in rule for key in deletes)
    ]


def _has_lock(s3: S3, bucket: str) -> bool:
    try:
        found = s3.get_object_lock_configuration(Bucket=bucket)
    except s3.exceptions.ClientError as error:
        if is_missing(error):
            return False
        raise
    return bool(found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled")


def _clock(what: str, answer: dict[str, Any]) -> Iterator[Finding]:
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        return
    skew = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    if abs(skew) > _MOST_SKEW_S:
        yield Finding("warning", what, f"the server's clock differs by {skew:.0f} s: use NTP")
