"""The collections of quality control: annotations, exclusions, guide sets, and verdicts.

A document is written once. All that ever changes is that it is withdrawn; a run that is judged
again gets a further verdict, and the older one stays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.quality import Annotation, Exclusion, GuideSet, Verdict
from kraken_dagster.store.errors import translated
from kraken_dagster.store.quant.jobs import object_id
from kraken_dagster.store.raw_files.documents import DATES

INDEXES = {
    "qc_annotation": (IndexModel([("instrument_id", ASCENDING), ("begins_at", ASCENDING)]),),
    "qc_exclusion": (IndexModel([("raw_file", ASCENDING)]),),
    "qc_guide_set": (IndexModel([("series.instrument_id", ASCENDING)]),),
    "qc_verdict": (
        IndexModel([("raw_file", ASCENDING)]),
        IndexModel([("series.instrument_id", ASCENDING), ("acquired_at", DESCENDING)]),
    ),
}
_AT_ONCE = 100  # `$in` over more costs the embedded server more than it saves

Document = dict[str, Any]
D = TypeVar("D", bound=BaseModel)
Key = tuple[str, str, int]  # raw file, settings' name and version


@translated
class Quality:
    def __init__(self, database: "Database[Document]") -> None:
        self._annotations: MongoCollection[Document] = database["qc_annotation"]
        self._exclusions: MongoCollection[Document] = database["qc_exclusion"]
        self._guide_sets: MongoCollection[Document] = database["qc_guide_set"]
        self._verdicts: MongoCollection[Document] = database["qc_verdict"]
        self._raw_files: MongoCollection[Document] = database["raw_file"]
        self._metrics: MongoCollection[Document] = database["metrics"]

    def annotate(self, annotation: Annotation) -> None:
        _insert_once(self._annotations, annotation)

    def annotations(self, instrument_id: str) -> list[Annotation]:
        """Those that hold, oldest first."""
        query = {"instrument_id": instrument_id, "withdrawn_at": None}
        found = _read(Annotation, self._annotations.find(query))
        return sorted(found, key=lambda item: item.begins_at)

    def exclude(self, exclusion: Exclusion) -> bool:
        """False if that is excluded already."""
        place = {"raw_file": exclusion.raw_file, "metric": exclusion.metric, "withdrawn_at": None}
        if self._exclusions.find_one(place) is not None:
            return False
        return _insert_once(self._exclusions, exclusion)

    def exclusions(self, raw_files: Sequence[str]) -> list[Exclusion]:
        """Those that hold."""
        query = {"withdrawn_at": None}
        return _read(Exclusion, _in(self._exclusions, "raw_file", raw_files, query))

    def add_guide_set(self, guide_set: GuideSet) -> bool:
        """False if somebody else made the same one, which stays."""
        return _insert_once(self._guide_sets, guide_set)

    def guide_sets(self, instrument_id: str) -> list[GuideSet]:
        """All that were ever made, oldest first."""
        found = _read(GuideSet, self._guide_sets.find({"series.instrument_id": instrument_id}))
        return sorted(found, key=lambda item: item.at)

    def withdraw(self, document_id: str, *, by: str, now: datetime) -> str | None:
        """Takes back an annotation, exclusion or guide set; what it was, None if there is none."""
        kinds = {
            "annotation": self._annotations,
            "exclusion": self._exclusions,
            "guide set": self._guide_sets,
        }
        change = {"$set": {"withdrawn_at": now, "withdrawn_by": by}}
        for kind, collection in kinds.items():
            query = {"_id": document_id, "withdrawn_at": None}
            if collection.update_one(query, change).modified_count == 1:
                return kind
        return None

    def record(self, verdict: Verdict) -> bool:
        """False if somebody else recorded a verdict of that revision, which stays."""
        series = verdict.series
        parts = (verdict.raw_file, series.settings_name, str(series.settings_version))
        document = verdict.model_dump()
        document["_id"] = object_id("qc_verdict", *parts, str(verdict.revision))
        try:
            self._verdicts.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    def verdicts_of(self, raw_file: str) -> list[Verdict]:
        """Every verdict of a run, oldest first."""
        found = _read(Verdict, self._verdicts.find({"raw_file": raw_file}))
        return sorted(found, key=lambda item: item.at)

    def latest(self, raw_files: Sequence[str], *, in_short: bool = False) -> dict[Key, Verdict]:
        """The last verdict of each run in each of its settings; `in_short`: without its metrics."""
        fields = {"metrics": 0, "compared": 0} if in_short else None
        return _last(_read(Verdict, _in(self._verdicts, "raw_file", raw_files, {}, fields)))

    def newest(
        self, instrument_id: str, *, sample_class: str | None = None, limit: int
    ) -> list[Verdict]:
        """The last verdicts of the runs that were acquired last, newest first."""
        query: Document = {"series.instrument_id": instrument_id}
        if sample_class is not None:
            query["series.sample_class"] = sample_class
        # a run has a verdict for each settings and each time that it was judged
        fields = {"raw_file": 1, "acquired_at": 1}
        ids: dict[str, None] = {}
        for document in self._verdicts.find(query, fields).sort("acquired_at", DESCENDING):
            ids[str(document["raw_file"])] = None
            if len(ids) > limit:
                break
        found = self.latest(list(ids)[:limit]).values()
        return sorted(found, key=lambda item: (item.acquired_at, item.raw_file), reverse=True)

    def has_class(self, sample_class: str) -> bool:
        """Whether a run was ever judged as of this sample class."""
        return self._verdicts.find_one({"series.sample_class": sample_class}) is not None

    def files(self, instrument_id: str, *, limit: int | None) -> Iterator[Document]:
        """`_id`, `DATES`, `original_name`, `project_id`, `instrument_id`, newest first."""
        found = self._raw_files.find({"instrument_id": instrument_id}, _OF_A_FILE)
        yield from found.sort("created_at", DESCENDING).limit(limit or 0)

    def files_of(self, raw_files: Sequence[str]) -> list[Document]:
        """The same of these files."""
        return list(_in(self._raw_files, "_id", raw_files, {}, _OF_A_FILE))

    def results(
        self, raw_files: Sequence[str], names: Iterable[str] | None = None
    ) -> dict[str, list[Document]]:
        """The results of each file, newest first, with these metrics, or with all."""
        fields = None if names is None else dict.fromkeys((*names, *_OF_A_RESULT), 1)
        found: dict[str, list[Document]] = {}
        for document in _in(self._metrics, "raw_file", raw_files, {}, fields):
            found.setdefault(str(document["raw_file"]), []).append(document)
        for documents in found.values():
            documents.sort(key=lambda item: item["created_at_"], reverse=True)
        return found

    def refile(self, old: str, new: str) -> None:
        """Gives what one instrument has to another id."""
        self._annotations.update_many({"instrument_id": old}, {"$set": {"instrument_id": new}})
        for collection in (self._guide_sets, self._verdicts):
            query = {"series.instrument_id": old}
            collection.update_many(query, {"$set": {"series.instrument_id": new}})


_OF_A_FILE = {**DATES, "original_name": 1, "project_id": 1, "instrument_id": 1}
_OF_A_RESULT = (
    "raw_file",
    "settings_name",
    "settings_version",
    "created_at_",
    "provenance.problem",
)


def _in(
    collection: "MongoCollection[Document]",
    field: str,
    values: Sequence[str],
    query: Mapping[str, Any],
    fields: Document | None = None,
) -> Iterator[Document]:
    for start in range(0, len(values), _AT_ONCE):
        part = {**query, field: {"$in": list(values[start : start + _AT_ONCE])}}
        yield from collection.find(part, fields)


def _read(model: type[D], documents: Iterable[Document]) -> list[D]:
    return [model.model_validate({"id": item.get("_id"), **item}) for item in documents]


def _last(verdicts: Iterable[Verdict]) -> dict[Key, Verdict]:
    found: dict[Key, Verdict] = {}
    for item in sorted(verdicts, key=lambda item: item.revision):
        found[item.raw_file, item.series.settings_name, item.series.settings_version] = item
    return found


def _insert_once(
    collection: "MongoCollection[Document]", item: Annotation | Exclusion | GuideSet
) -> bool:
    document = item.model_dump(exclude={"id"})
    try:
        collection.insert_one({**document, "_id": item.id})
    except DuplicateKeyError:
        return False
    return True
