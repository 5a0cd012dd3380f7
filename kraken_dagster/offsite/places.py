"""Where a raw file's copy belongs, and whether the bucket is fit to take it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.fs.stores.manifest import manifest_text
from kraken_dagster.model.errors import ConfigError, FileSystemLimit, OffsiteUnfit
from kraken_dagster.model.offsite import bucket_name, key_prefix
from kraken_dagster.model.raw_file import FALLBACK_PROJECT, RawFile
from kraken_dagster.offsite.client import S3, is_missing, no_bucket, s3_errors
from kraken_dagster.runtime.services import Services

MOST_KEY_BYTES = 1024
_SHOWN = 500  # characters


@dataclass(frozen=True)
class Place:
    """The bucket, and what stands before a member's path in its key."""

    bucket: str
    prefix: str

    def key(self, member: str) -> str:
        return self.prefix + member

    @property
    def path(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


def configured(services: Services) -> Offsite:
    """
    Raises:
        ConfigError: there is no second copy here.
    """
    if services.config.offsite is None:
        raise ConfigError(
            "No second copy is configured",
            next_step="add `offsite` to instruments.yaml; see docs/offsite.md.",
        )
    return services.config.offsite


def place_of(services: Services, raw_file: RawFile) -> Place:
    """Where a file's copy goes by the configuration of now.

    Raises:
        ConfigError: the project's bucket would have a name that S3 doesn't allow.
    """
    config = configured(services)
    own = config.of_project(raw_file.project_id).bucket
    project = raw_file.project_id or FALLBACK_PROJECT
    bucket = own or config.bucket or bucket_name(config.bucket_prefix or "", project)
    is_own = own is not None or (config.bucket is None and raw_file.project_id is not None)
    return Place(
        bucket,
        key_prefix(
            raw_file.id,
            instrument_id=raw_file.instrument_id,
            year_month=raw_file.year_month,
            has_project=is_own,
            is_grouped=services.rules(raw_file.instrument_id).has_companions,
        ),
    )


def content_of(raw_file: RawFile) -> str:
    """The MD5 of the manifest: the same content has the same, wherever it is."""
    text = manifest_text(raw_file.file_info)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def require_keys(place: Place, members: Iterable[str]) -> None:
    """
    Raises:
        FileSystemLimit: a member's key would be longer than S3 takes.
    """
    for member in members:
        size = len(place.key(member).encode())
        if size > MOST_KEY_BYTES:
            raise FileSystemLimit(
                "The key of a member would be longer than S3 takes",
                file=f"s3://{place.bucket}/{place.key(member)}"[:_SHOWN],
                expected=f"{MOST_KEY_BYTES} bytes at most",
                found=f"{size} bytes",
                next_step="keep a second copy of it by other means.",
            )


def require_fit(s3: S3, bucket: str) -> None:
    """Raises OffsiteUnfit where the bucket is missing, or would let an object be overwritten.

    Raises:
        OffsiteUnfit, OffsiteAway, OffsiteRefused
    """
    with s3_errors(f"s3://{bucket}"):
        try:
            s3.head_bucket(Bucket=bucket)
        except s3.exceptions.ClientError as error:
            if is_missing(error):
                raise no_bucket(f"s3://{bucket}") from error
            raise
        found = s3.get_bucket_versioning(Bucket=bucket).get("Status")
    if found != "Enabled":
        raise OffsiteUnfit(
            "The bucket keeps no versions, so whoever writes to it could overwrite a raw file",
            file=f"s3://{bucket}",
            expected="versioning Enabled",
            found=found or "never switched on",
            next_step="switch versioning on; tried again by itself.",
        )
