"""The collection `quant_job` (ours): one document per job."""

import re
from collections.abc import Collection
from datetime import datetime
from hashlib import md5
from typing import Any

from bson import ObjectId
from pydantic import ValidationError
from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.errors import StatusConflict
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.jobs.report import JobReport, JobState
from kraken_dagster.store.errors import translated

INDEXES = (
    IndexModel([("engine", ASCENDING), ("uncollected", ASCENDING)]),
    IndexModel([("engine", ASCENDING), ("unaccounted", ASCENDING)]),
    IndexModel([("raw_file", ASCENDING), ("created_at", ASCENDING)]),
)
Document = dict[str, Any]


@translated
class QuantJobs:
    """`uncollected` stays on a job until its result is in MongoDB, whatever became of it."""

    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def intend(self, job: QuantJob) -> QuantJob:
        """Records that a job is about to be submitted; finds the record that is there already."""
        document = job.model_dump(by_alias=True)
        if job.state is not JobState.SKIPPED:
            document["uncollected"] = True
        try:
            self._collection.insert_one(document)
        except DuplicateKeyError:
            return self.get(job.id)
        return job

    def get(self, name: str) -> QuantJob:
        return QuantJob.model_validate(self._collection.find_one({"_id": name}))

    def withdraw(self, job: QuantJob) -> None:
        """Takes back an intention that was never submitted."""
        self._collection.delete_one({"_id": job.id, "state": JobState.INTENDED})

    def refused(self, job: QuantJob) -> None:
        """Takes back an intention that was refused; that of another try stays one."""
        if not job.resubmission:
            return self.withdraw(job)
        self._collection.update_one(
            {"_id": job.id, "state": JobState.INTENDED},
            {"$set": {"tried_at": None, "missing_since": None}},
        )
        return None

    def trying(self, job: QuantJob, *, location: str, now: datetime) -> None:
        """Submitting is about to begin; what was missing before is looked for anew.

        Args:
            location: the code location that submits it.

        Raises:
            StatusConflict: somebody else began, or the job is not intended any more.
        """
        result = self._collection.update_one(
            {"_id": job.id, "state": JobState.INTENDED, "tried_at": job.tried_at},
            {"$set": {"tried_at": now, "missing_since": None, "location": location}},
        )
        if result.matched_count == 0:
            raise StatusConflict(
                "The job is being submitted by another run",
                file=job.id,
                next_step="nothing: it goes on by itself.",
            )

    def missing(self, job: QuantJob, *, now: datetime) -> None:
        """The engine has no job of that name, and it is not known whether it will have."""
        self._collection.update_one(
            {"_id": job.id, "state": JobState.INTENDED}, {"$set": {"missing_since": now}}
        )

    def submitted(self, job: QuantJob, cluster_job_id: str) -> None:
        self._collection.update_one(
            {"_id": job.id, "state": JobState.INTENDED},
            {"$set": {"state": JobState.WAITING, "cluster_job_id": cluster_job_id}},
        )

    def engines_in_use(self) -> list[str]:
        """The engines that have jobs whose result is not in MongoDB yet."""
        return sorted(self._collection.distinct("engine", {"uncollected": True}))

    def uncollected(self, engine: str) -> list[QuantJob]:
        """Every job of an engine whose result is not in MongoDB yet."""
        return self._readable({"engine": engine, "uncollected": True})[0]

    def unreadable(self, engine: str) -> list[str]:
        """The names of documents that are no job of ours, and hold up nothing."""
        return self._readable({"engine": engine, "uncollected": True})[1]

    def _readable(self, query: Document) -> tuple[list[QuantJob], list[str]]:
        jobs: list[QuantJob] = []
        names: list[str] = []
        for item in self._collection.find(query):
            try:
                jobs.append(QuantJob.model_validate(item))
            except ValidationError:
                names.append(str(item["_id"]))
        return jobs, names

    def of(self, raw_file_id: str) -> list[QuantJob]:
        """A file's jobs, oldest first.

        A document that can't be read is left out: `unreadable` has it.
        """
        jobs, _ = self._readable({"raw_file": raw_file_id})
        return sorted(jobs, key=lambda job: job.created_at)

    def folders_below(self, folder: str) -> list[tuple[str, str]]:
        """Raw file and output folder of each job that writes, or wrote, somewhere below a folder.

        Relative to the output root.
        """
        query = {"relative_output_path": {"$regex": f"^{re.escape(folder)}/"}}
        found = self._collection.find(query, {"raw_file": 1, "relative_output_path": 1})
        return [(str(item["raw_file"]), str(item["relative_output_path"])) for item in found]

    def give_up(self, job: QuantJob, *, reason: str, now: datetime) -> None:
        """Ends an open job of which nobody will ever know what became."""
        changes = {
            "state": JobState.CANCELLED,
            "detail": reason,
            "ended_at": now,
            "collected_at": now,
            "result_error": reason,
        }
        self._collection.update_one(
            {"_id": job.id, "state": job.state}, {"$set": changes, "$unset": {"uncollected": ""}}
        )

    def report(self, job: QuantJob, report: JobReport, *, now: datetime) -> None:
        """Keeps what the engine says, unless the job's state changed meanwhile."""
        changes = {
            "state": report.state,
            "exit_code": report.exit_code,
            "started_at": report.started_at,
            "ended_at": report.ended_at,
            "elapsed_s": report.elapsed_s,
            "node": report.node,
            "peak_memory_bytes": report.peak_memory_bytes,
            "detail": report.detail,
            "unknown_since": (job.unknown_since or now) if report.is_missing else None,
        }
        if report.ended:
            changes["unaccounted"] = True
        self._collection.update_one({"_id": job.id, "state": job.state}, {"$set": changes})

    def could_not_be_asked(self, jobs: Collection[QuantJob]) -> None:
        """Time in which nobody could be asked is none in which nobody knew of them."""
        names = [job.id for job in jobs if job.unknown_since is not None]
        if names:
            self._collection.update_many(
                {"_id": {"$in": names}, "state": JobState.UNKNOWN},
                {"$set": {"unknown_since": None}},
            )

    def unaccounted(self, engine: str) -> list[QuantJob]:
        """Ended jobs of which it is not known yet what they used."""
        return self._readable({"engine": engine, "unaccounted": True})[0]

    def account(self, job: QuantJob, used: JobReport | None) -> None:
        """Keeps what a job used, or that nobody will ever know."""
        change: Document = {"$unset": {"unaccounted": ""}}
        if used is not None:
            change["$set"] = {
                "peak_memory_bytes": used.peak_memory_bytes,
                "node": job.node or used.node,
            }
        self._collection.update_one({"_id": job.id}, change)

    def collected(self, job: QuantJob, *, now: datetime, result_error: str | None) -> None:
        facts = {
            "collected_at": now,
            "result_error": result_error,
            "error_codes": job.error_codes,
            "log_tail": job.log_tail,
        }
        self._collection.update_one(
            {"_id": job.id},
            {
                "$set": facts,
                "$unset": {"uncollected": ""},
            },
        )


def object_id(*parts: str) -> ObjectId:
    """A deterministic ObjectId: AlphaKraken's models take no other kind of id here."""
    return ObjectId(md5("\0".join(parts).encode(), usedforsecurity=False).digest()[:12])


def open_jobs(jobs: Collection[QuantJob]) -> list[QuantJob]:
    return [job for job in jobs if job.is_open]
