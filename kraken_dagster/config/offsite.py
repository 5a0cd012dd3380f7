"""The section `offsite` of instruments.yaml: a second copy of every backup on an S3 server.

No credentials stand here: the client takes them from the environment, a profile, or the machine.
"""

from datetime import time
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, model_validator

from kraken_dagster.config.alerts import HttpUrl
from kraken_dagster.config.times import Hours, TimeOfDay, TimeZone
from kraken_dagster.model.strict import Strict

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


class UploadHours(Hours):
    """When uploads run. One that the end finds at work stops after its part, and goes on later."""

    begin: TimeOfDay = Field(description="When uploads begin, like `20:00`.")
    end: TimeOfDay = Field(description="When uploads end, like `06:00`.")


class ObjectLock(Strict):
    """The server deletes a locked version for nobody until its date."""

    mode: Literal["governance", "compliance"] = Field(
        description="`governance`: those with a special right may delete; `compliance`: nobody."
    )
    days: int = Field(ge=1, description="Days for which an uploaded version is locked.")


class OffsiteProject(Strict):
    """What is different for one project's files."""

    bucket: BucketName | None = Field(None, description="The project's own bucket.")
    storage_class: str | None = Field(None, description="Its storage class.")
    upload: bool = Field(True, description="Off: files of this project are not uploaded.")


class Offsite(Strict):
    """A second copy of every backup on an S3 server."""

    endpoint: HttpUrl | None = Field(
        None, description="The server's URL, like https://s3.example.org. None: Amazon S3."
    )
    region: str = Field("us-east-1", description="The server's region.")
    bucket: BucketName | None = Field(None, description="One bucket for the files of all projects.")
    bucket_prefix: str | None = Field(
        None,
        description="A bucket for each project, `<prefix>-<project>`; `<prefix>--fallback` for "
        "files without one. Either this or `bucket`.",
    )
    profile: str | None = Field(
        None,
        description="A profile of ~/.aws/credentials. None: the environment, or the machine's "
        "role.",
    )
    verify_tls: bool = Field(True, description="Check the server's certificate.")
    ca_bundle: Path | None = Field(
        None, description="A file with the certificates that sign the server's."
    )
    proxy: HttpUrl | None = Field(None, description="The proxy, like http://proxy:3128.")
    storage_class: str | None = Field(
        None, description="The storage class of new objects, like `STANDARD_IA`."
    )
    object_lock: ObjectLock | None = Field(
        None, description="Lock what is uploaded; the bucket must have object lock switched on."
    )
    checksum: Literal["sha256"] | None = Field(
        None,
        description="Have the server compare and keep a SHA-256 of each part beside its MD5. None: "
        "the MD5 only. `kraken doctor --try-uploads` says whether the server has it.",
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        None,
        description="How the server is asked to encrypt. None: as the bucket has it.",
    )
    kms_key: str | None = Field(
        None, description="The key of `encryption: aws:kms`, by its id or ARN. None: the account's."
    )
    part_mb: int = Field(
        64,
        ge=5,
        le=5_120,
        description="MiB of a part; more where a file would have more than 10,000. Each upload "
        "holds `upload_threads` + 1 parts in memory.",
    )
    upload_threads: int = Field(2, ge=1, le=16, description="Parts of a file on the way at once.")
    slots: int = Field(1, ge=1, description="Files that are uploaded at once, of all instruments.")
    mb_per_s: float | None = Field(
        None, gt=0, description="Megabytes per second that all uploads together may take."
    )
    hours: UploadHours | None = Field(None, description="When uploads run. None: always.")
    timezone: TimeZone = Field("UTC", description="The time zone of the hours.")
    timeout_s: float = Field(
        60, gt=0, description="Seconds within which the server must go on with an answer."
    )
    abandoned_after_days: float = Field(
        7, gt=0, description="Days after which a begun upload is given up, and its parts removed."
    )
    look_every_days: float = Field(
        7, gt=0, description="Days within which the server is asked for every copy, by a HEAD."
    )
    read_gb_per_month: float = Field(
        0,
        ge=0,
        description="Gigabytes of copies that are read back and compared in a month, the oldest "
        "proof first. 0: none.",
    )
    projects: dict[str, OffsiteProject] = Field(
        default_factory=dict, description="What is different for a project, by its id."
    )

    @model_validator(mode="after")
    def _one_rule(self) -> "Offsite":
        if (self.bucket is None) == (self.bucket_prefix is None):
            raise ValueError("expected either `bucket` or `bucket_prefix`")
        return self

    @model_validator(mode="after")
    def _key_of_a_service(self) -> "Offsite":
        if self.kms_key is not None and self.encryption != "aws:kms":
            raise ValueError("expected `encryption: aws:kms` beside `kms_key`")
        return self

    @property
    def encryption_options(self) -> dict[str, str]:
        """As boto3 takes them with a new object."""
        options = {"ServerSideEncryption": self.encryption, "SSEKMSKeyId": self.kms_key}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def allowed_hours(self) -> tuple[time, time] | None:
        return None if self.hours is None else self.hours.times

    def of_project(self, project_id: str | None) -> OffsiteProject:
        return self.projects.get(project_id or "", OffsiteProject())
