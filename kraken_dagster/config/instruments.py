"""The options of instruments, and the defaults of the site."""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from kraken_dagster.config.copying import Gentleness
from kraken_dagster.config.engines import (
    ENGINE_LOCAL,
)
from kraken_dagster.config.patterns import why_not_pattern
from kraken_dagster.model.eligibility import DEFAULT_SKIP_PATTERN
from kraken_dagster.model.files.second_digest import DigestKind
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.strict import Strict


class OutputExistsMode(StrEnum):
    RAISE = "raise"
    OVERWRITE = "overwrite"
    ASSOCIATE = "associate"
    ADD = "add"


class PurgeProof(StrEnum):
    LOCAL = "local"
    LOCAL_AND_OFFSITE = "local_and_offsite"


class Options(Strict):
    """Options that a run can also be given in its run config."""

    consider_old_files_acquired: bool = Field(
        False,
        description="An acquisition is over if its file is more than 5 h older than the youngest.",
    )
    debug_max_file_age_in_hours: float = Field(
        -1, description="Older files are ignored: not backed up, not processed. -1: no limit."
    )
    backup_overwrite_file_id: str | None = Field(
        None,
        description="A raw file id, or INSTRUMENT_<id>: a different file that stands in its place "
        "in the backup is set aside and replaced.",
    )
    checksum_overwrite_file_id: str | None = Field(
        None,
        description="A raw file id, or INSTRUMENT_<id>: recorded checksums that differ from the "
        "source's are replaced.",
    )
    output_exists_mode: OutputExistsMode = Field(
        OutputExistsMode.RAISE,
        description="What to do where a result is: `raise`, `overwrite` (the old one is set "
        "aside), `associate` (a complete one is taken; else the job that still writes it is "
        "followed), `add` (a new `.runN`).",
    )

    min_free_space_gb: float = Field(
        -1, description="Purge the instrument until this much is free. 0 or less: off."
    )
    min_file_age_to_remove_in_days: float = Field(
        14, ge=0, description="Younger files are never purged."
    )
    debug_no_cluster_ssh: bool = Field(
        False,
        description="Make no connection to a cluster; jobs are recorded as skipped, and can be "
        "submitted later.",
    )
    move_files: bool = Field(True, description="Archive backed up files on the instrument.")
    move_failed: bool = Field(
        False,
        description="Archive failed and ignored acquisitions too. They have no backup, and are "
        "never purged.",
    )
    remove_files: bool = Field(True, description="Purge files that were archived.")
    purge_needs_complete_index: bool = Field(
        False,
        description="Purge only files whose backup could be read to the end of a complete index; "
        "not those of formats that don't tell.",
    )
    purge_proof: PurgeProof = Field(
        PurgeProof.LOCAL,
        description="What proves that a file may be purged: `local`, its backup; "
        "`local_and_offsite`, also the copy on the S3 server of `offsite`.",
    )


class Defaults(Gentleness):
    """Settings of an instrument; in `defaults` they hold for all of them."""

    engine: str = Field(ENGINE_LOCAL, description="Which of `engines` runs its jobs.")
    sensors: Literal["stopped", "running"] = Field(
        "stopped", description="Whether a new instrument's sensors start switched on."
    )
    skip_processing: bool = Field(False, description="Back up only; process nothing.")
    skip_quanting: bool = Field(False, description="An older name of `skip_processing`.")
    skip_processing_pattern: str = Field(
        DEFAULT_SKIP_PATTERN,
        description="A regular expression: files in whose names it is found are backed up only. "
        "Empty: none is left out.",
    )
    file_move_delay_m: float = Field(
        5, description="Minutes from the backup to the archiving. -1: never."
    )
    copy_slots: int = Field(
        2, ge=1, description="How many files are copied at once; a Dagster pool limit wins."
    )
    copy_threads: int = Field(
        4, ge=1, le=16, description="How many members of one Bruker folder are copied at once."
    )
    second_digest: DigestKind | None = Field(
        None,
        description="A digest of each member beside its MD5, taken in the same reading of the "
        "source: `sha256`, or `xxh3` (XXH3-128). Recorded, and compared wherever the MD5 is. "
        "Without it there is the MD5 only.",
    )
    catchup_threads: int = Field(
        4, ge=1, le=64, description="How many files a run over many of them works on at once."
    )
    files_per_run_from: int = Field(
        5,
        ge=0,
        description="From so many files on that are due on an instrument at once, one run does "
        "them all; fewer have a run each. 0: always a run each.",
    )
    watch_interval_s: int = Field(30, ge=1, description="Seconds between two looks at the folder.")
    folder_timeout_s: float = Field(
        20, gt=0, description="Seconds within which the folder must answer."
    )
    copy_stall_s: float = Field(
        600, gt=0, description="A copy in which no byte moves for this many seconds is given up."
    )
    lease_s: float = Field(
        90, gt=0, description="Seconds after which a run that died is replaced by another."
    )
    retry_after_s: float = Field(
        60, gt=0, description="Seconds until a failed step is tried again; doubles, up to 30 min."
    )
    scrub_every_days: float = Field(
        90, gt=0, description="Days within which every backup is read again, if `scrub` is on."
    )
    scrub_mb_per_s: float = Field(
        100, gt=0, description="Megabytes per second that reading backups again may take."
    )
    partition_window_days: float = Field(
        0,
        ge=0,
        description="Files that are final, and to which nothing happened for so many days, are "
        "taken out of Dagit; MongoDB keeps them. 0: never.",
    )

    @field_validator("skip_processing_pattern")
    @classmethod
    def _usable_pattern(cls, value: str) -> str:
        if problem := why_not_pattern(value):
            raise ValueError(problem)
        return value


class InstrumentEntry(Defaults, Options):
    """One mass spectrometer. What it doesn't say is taken from `options` and `defaults`."""

    type: Vendor = Field(description="thermo, bruker or sciex.")
    path: Path | None = Field(
        None,
        description="Its folder here, apart from every other's; else "
        "`<locations.instruments>/<id>`.",
    )
