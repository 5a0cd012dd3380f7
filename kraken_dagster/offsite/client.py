"""A connection to the S3 server, and its errors in the project's words. Only this imports boto3."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kraken_dagster.config.offsite import Offsite
from kraken_dagster.model.errors import (
    ConfigError,
    OffsiteAway,
    OffsiteError,
    OffsiteRefused,
    OffsiteUnfit,
)

_TRIES = 5  # of one request, within seconds; what takes longer is tried again by the next run
_CONNECT_S = 10.0
_IN_TROUBLE = frozenset({"SlowDown", "RequestTimeout", "Throttling", "RequestTimeTooSkewed"})
_DAMAGED_ON_THE_WAY = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"})
_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
    }
)

_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"  # as OpenSSL names it
_AGAIN = " Tried again by itself."
_LOCK = "make a bucket with object lock, or leave `offsite.object_lock` out."
_REGION = "set `offsite.region` to the region of the bucket."
_PARTS = "change `offsite.part_mb`: the server has other limits of a part than Amazon's."
_KEYS = (
    "see that the key of `offsite.kms_key`, or of the bucket's encryption, is there, and that "
    "Kraken may use it."
)
# Of Amazon (an action's name) and of radosgw, whose codes are those of other things.
_OF_A_KEY = re.compile(r"\b(kms:[A-Z]|kms-keyid|KMS managed key)")
_FULL = "make room on the server, or raise the bucket's quota."
_OPTIONS = (
    "see that the server has what `storage_class`, `object_lock` and `part_mb` of `offsite` ask "
    "for; its log has more."
)
# By the error's class in botocore, or the code in the server's answer.
_NEXT_STEPS = {
    "ProfileNotFound": "add the profile to ~/.aws/credentials of Kraken's user, or correct "
    "`offsite.profile`.",
    "InvalidStorageClass": "name a storage class that the server has in `offsite.storage_class`.",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "EntityTooSmall": _PARTS,
    "EntityTooLarge": _PARTS,
    "ObjectLockConfigurationNotFoundError": _LOCK,
    "InvalidRetentionPeriod": _LOCK,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "KMS.NotFoundException": _KEYS,
    "KMS.DisabledException": _KEYS,
    "NotImplemented": "the server lacks what was asked of it; leave `storage_class` or "
    "`object_lock` of `offsite` out, or use another server.",
    "InvalidArgument": _OPTIONS,
    "InvalidRequest": _OPTIONS,
    "InvalidBucketName": "correct `bucket` or `bucket_prefix` of `offsite`.",
}

# A client of boto3, which makes its methods when it runs and has no types.
S3 = Any


def connect(config: Offsite) -> S3:
    """A client, safe to share between threads; nothing is sent before the first use.

    Raises:
        ConfigError: boto3 is not installed, or the profile is unknown.
    """
    try:
        from boto3.session import Session  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "`offsite` needs boto3, which is not installed",
            next_step="pip install 'kraken-dagster[s3]'.",
        ) from error
    options = Config(
        retries={"mode": "standard", "max_attempts": _TRIES},
        connect_timeout=min(_CONNECT_S, config.timeout_s),
        read_timeout=config.timeout_s,
        max_pool_connections=max(10, config.upload_threads),
        proxies={"http": config.proxy, "https": config.proxy} if config.proxy else None,
        # Each part has its Content-MD5; a second checksum would cost as much again.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "auto" if config.endpoint is None else "path"},
    )
    try:
        session = Session(profile_name=config.profile, region_name=config.region)
        verify = _verify(config)
        return session.client("s3", endpoint_url=config.endpoint, verify=verify, config=options)
    except (BotoCoreError, ValueError, OSError) as error:
        raise ConfigError(
            "No connection to the S3 server can be made of `offsite` in instruments.yaml",
            found=error,
            next_step=_NEXT_STEPS.get(
                type(error).__name__,
                "correct `endpoint`, `region`, `profile`, `ca_bundle` or `proxy` there, whichever "
                "the message names.",
            ),
        ) from error


def _verify(config: Offsite) -> bool | str:
    """By which certificates the server's is checked, if at all."""
    if not config.verify_tls or config.ca_bundle is None:
        return config.verify_tls
    if not config.ca_bundle.is_file():
        raise ConfigError(
            "The certificates of `offsite.ca_bundle` are not there",
            file=config.ca_bundle,
            next_step="correct the path, or leave it out if a public authority signs.",
        )
    return str(config.ca_bundle)


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """What goes wrong with `what`, like `s3://bucket/key`, as the project's errors.

    Raises:
        OffsiteAway, OffsiteRefused, OffsiteUnfit, OffsiteError
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

    try:
        yield
    except ClientError as error:
        raise _of_answer(error.response, what) from error
    except BotoCoreError as error:
        if type(error).__name__ in _NO_CREDENTIALS:
            raise _refused(what, str(error)) from error
        if _UNTRUSTED in str(error):
            raise _untrusted(what, str(error)) from error
        raise _away(what, str(error)) from error


def is_missing(error: Exception) -> bool:
    """Whether an error of boto3 says that the object, the version or the upload isn't there."""
    answer: dict[str, Any] = getattr(error, "response", {})
    return bool(answer) and _status(answer) == 404


def error_code(error: Exception) -> str:
    """The code in the server's answer, like `NoSuchUpload`; empty if it didn't answer."""
    answer: dict[str, Any] = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


def _status(answer: dict[str, Any]) -> int:
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _of_answer(answer: dict[str, Any], what: str) -> OffsiteError:
    status, error = _status(answer), answer.get("Error", {})
    code = str(error.get("Code", status))
    found = f"HTTP {status}, {code}: {error.get('Message') or ''}".rstrip(": ")
    if code == "RequestTimeTooSkewed":
        return OffsiteRefused(
            "This machine's clock differs from the S3 server's",
            file=what,
            found=found,
            next_step="set both by NTP; tried again by itself.",
        )
    if status in (400, 403) and _OF_A_KEY.search(str(error.get("Message"))):
        return _without_key(what, found)
    if status == 501 or code in _NEXT_STEPS:
        return _refuses(what, found, code)
    if status >= 500 or status == 429 or code in _IN_TROUBLE or code in _DAMAGED_ON_THE_WAY:
        return _away(what, found)
    if status in (401, 403):
        return _refused(what, found)
    if code == "NoSuchBucket":
        return no_bucket(what)
    return _refuses(what, found, code)


def _refuses(what: str, found: str, code: str) -> OffsiteError:
    unknown = f"look {code} up in the server's documentation, and see its log."
    return OffsiteError(
        "The S3 server refuses this request",
        file=what,
        found=found,
        next_step=_NEXT_STEPS.get(code, unknown) + _AGAIN,
    )


def no_bucket(what: str) -> OffsiteUnfit:
    return OffsiteUnfit(
        "The bucket is not there",
        file=what,
        next_step="create it, with versioning, or correct `offsite` in instruments.yaml; tried "
        "again by itself.",
    )


def _away(what: str, found: str) -> OffsiteAway:
    return OffsiteAway(
        "The S3 server is away or in trouble",
        file=what,
        found=found,
        next_step="check the network and the server; tried again by itself, and goes on with the "
        "parts that are there. Nothing else waits for it.",
    )


def _untrusted(what: str, found: str) -> OffsiteRefused:
    return OffsiteRefused(
        "The S3 server's certificate is not trusted, so nothing is sent",
        file=what,
        found=found,
        next_step="have it renewed if it has expired, or name the certificates that sign it in "
        "`offsite.ca_bundle`. Tried again by itself.",
    )


def _without_key(what: str, found: str) -> OffsiteRefused:
    return OffsiteRefused(
        "The S3 server can't use the key that it encrypts with",
        file=what,
        found=found,
        next_step=_KEYS + _AGAIN,
    )


def _refused(what: str, found: str) -> OffsiteRefused:
    return OffsiteRefused(
        "The S3 server doesn't let Kraken in",
        file=what,
        found=found,
        next_step="check the credentials in the environment or the profile, and their rights; "
        "docs/offsite.md lists them. Tried again by itself.",
    )
