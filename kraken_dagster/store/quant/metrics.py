"""The collection `metrics`: what was read from results and raw files."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.metric_values import TYPE_RAW
from kraken_dagster.store.errors import translated
from kraken_dagster.store.quant.jobs import Document, object_id

INDEXES = (
    IndexModel([("raw_file", ASCENDING), ("created_at_", ASCENDING)]),
    IndexModel([("created_at_", ASCENDING)]),
)

# What differs each time that the same result is read.
_OF_READING = ("created_at_", "provenance")


@translated
class Metrics:
    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def add(
        self,
        job: QuantJob,
        metrics: Mapping[str, Any],
        *,
        provenance: Mapping[str, Any],
        now: datetime,
    ) -> None:
        """Adds a result, however often this is asked. Only if other metrics were read of the same
        job than before is there another one of it.
        """
        document = {
            **metrics,
            "raw_file": job.raw_file,
            "settings_name": job.settings_name,
            "settings_version": job.settings_version,
            "type": job.metrics_type,
            "output_path": job.relative_output_path,
            "created_at_": now,
            "provenance": dict(provenance),
        }
        self.add_document(document, job.id)

    def add_document(self, document: Document, *of: str) -> None:
        """Adds one, however often this is asked; `of` is what it is the result of."""
        for reading in itertools.count(1):
            parts = ("metrics", *of) if reading == 1 else ("metrics", *of, str(reading))
            try:
                self._collection.insert_one({**document, "_id": object_id(*parts)})
            except DuplicateKeyError:
                known = self._collection.find_one({"_id": object_id(*parts)}) or {}
                if _says(known) == _says(document):
                    return
            else:
                return

    def of_job(self, job: QuantJob) -> Document | None:
        """The newest result of one job."""
        found = self.of(job.raw_file)
        return next((it for it in found if it.get("provenance", {}).get("job") == job.id), None)

    def of(self, raw_file_id: str) -> list[Document]:
        """All results of a file's jobs, newest first."""
        return [item for item in self._found(raw_file_id) if item.get("type") != TYPE_RAW]

    def of_raw_file(self, raw_file_id: str) -> list[Document]:
        """The metrics from the raw file itself, newest first."""
        return [item for item in self._found(raw_file_id) if item.get("type") == TYPE_RAW]

    def _found(self, raw_file_id: str) -> list[Document]:
        """By an index, which not every server uses for a type as well."""
        found = self._collection.find({"raw_file": raw_file_id})
        return list(found.sort("created_at_", DESCENDING))


def current_results(results: Sequence[Document]) -> list[Document]:
    """Of each settings the newest complete result, so that a failed rerun hides nothing; of those
    that never were complete the newest.

    Args:
        results: of one file, newest first. Those of other programs count as complete.
    """
    chosen: dict[tuple[Any, ...], Document] = {}
    for item in results:
        settings = (
            item.get("type") == TYPE_RAW,
            item.get("settings_name"),
            item.get("settings_version"),
        )
        if settings not in chosen or (_problem(chosen[settings]) and not _problem(item)):
            chosen[settings] = item
    return list(chosen.values())


def _says(result: Document) -> Document:
    """The metrics of a result, and what could not be read."""
    kept = {key: value for key, value in result.items() if key not in ("_id", *_OF_READING)}
    return {**kept, "problem": _problem(result)}


def _problem(result: Document) -> str | None:
    problem: str | None = (result.get("provenance") or {}).get("problem")
    return problem
