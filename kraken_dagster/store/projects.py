"""The collections `project`, `settings` and `project_settings`: what runs on which file.

A version of settings is written once; all that ever changes of it is its status. Documents of
AlphaKraken's older versions lack fields; what they mean then stands in `_settings_of`.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pydantic import ValidationError
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.eligibility import ANY_SCOPE, ScopedSettings
from kraken_dagster.model.errors import SettingsRefused, UnknownProject, UnknownSettings
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.programs import ALPHADIA, MSQC
from kraken_dagster.model.projects import Project
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import (
    ACTIVE,
    ARCHIVED,
    AssignedSettings,
    Settings,
)
from kraken_dagster.store.errors import translated
from kraken_dagster.store.jobs import object_id

# Sparse: AlphaKraken's first settings have neither field.
SETTINGS_INDEXES = (
    IndexModel([("name", ASCENDING), ("version", ASCENDING)], unique=True, sparse=True),
)
PROJECT_SETTINGS_INDEXES = (
    IndexModel([("project", ASCENDING)]),
    IndexModel([("settings", ASCENDING)]),
)

RAWQC_SETTINGS = Settings(
    name="rawqc",
    description="Kraken's own quality figures from Bruker's analysis.tdf",
    software_type=MSQC.name,
    software="kraken-rawqc",
    metrics_type="msqc",
)
# Fields that AlphaKraken's models want to be there, empty or not.
_NEVER_NULL = ("fasta_file_name", "speclib_file_name", "config_file_name")

Document = dict[str, Any]


@dataclass(frozen=True)
class BrokenAssignment:
    """An assignment of which the settings can't be read or are gone, by the document's id."""

    id: str
    problem: str


@translated
class Catalog:
    def __init__(self, database: "Database[Document]") -> None:
        self._projects: MongoCollection[Document] = database["project"]
        self._settings: MongoCollection[Document] = database["settings"]
        self._assignments: MongoCollection[Document] = database["project_settings"]
        self._numbers: MongoCollection[Document] = database["settings_number"]

    def projects(self) -> list[Project]:
        """All projects, by id."""
        return sorted(map(_project_of, self._projects.find({})), key=lambda item: item.id)

    def project(self, project_id: str) -> Project:
        """
        Raises:
            UnknownProject
        """
        document = self._projects.find_one({"_id": project_id})
        if document is None:
            raise UnknownProject(
                "No such project",
                file=project_id,
                next_step="`kraken project list` lists them; `kraken project add` adds one.",
            )
        return _project_of(document)

    def project_ids(self) -> list[str]:
        """The ids of all active projects that a file's name may speak of."""
        found = [item for item in self.projects() if item.is_active]
        return [item.id for item in found if item.id != FALLBACK_PROJECT]

    def add_project(self, project: Project, *, now: datetime) -> bool:
        """Adds a project; False if there is one of that id, which stays as it is."""
        document = {**project.model_dump(by_alias=True), "created_at_": now}
        return _insert_once(self._projects, document)

    def archive_project(self, project_id: str) -> None:
        self._projects.update_one({"_id": project_id}, {"$set": {"status": ARCHIVED}})

    def all_settings(self) -> tuple[list[Settings], list[str]]:
        """Every version of all settings, in order; and the titles of unreadable documents."""
        found, problems = _readable(self._settings.find({}))
        names = [str(problem.file) for problem in problems]
        return sorted(found, key=lambda item: (item.name, item.version)), names

    def settings(self, name: str, version: int) -> Settings:
        """One version of settings, archived or not.

        Raises:
            UnknownSettings
        """
        document = self._document_of(name, version)
        if document is not None:
            return _settings_of(document)
        raise UnknownSettings(
            "No such settings in MongoDB",
            file=f"{name} version {version}",
            next_step="`kraken settings list` lists them. What a file was processed with must come "
            "from a backup of MongoDB; else ask for `quant_job` again.",
        )

    def versions(self, name: str) -> list[Settings]:
        """All versions of settings, oldest first.

        Raises:
            UnknownSettings: there is none.
        """
        found, problems = _readable(self._documents_of(name))
        if not found and problems:
            raise problems[0]
        if not found:
            raise UnknownSettings(
                "No such settings",
                file=name,
                next_step="`kraken settings list` lists them; `kraken settings add` adds some.",
            )
        return sorted(found, key=lambda item: item.version)

    def next_version(self, name: str) -> int:
        """The number of a further version; documents that can't be read count too."""
        numbers = [_version_of(item) for item in self._documents_of(name)]
        return 1 + max((item for item in numbers if isinstance(item, int)), default=0)

    def add_settings(self, settings: Settings, *, now: datetime) -> bool:
        """Adds a version of settings; False if there is that version, which is never changed."""
        document = {
            **settings.model_dump(),
            **{key: getattr(settings, key) or "" for key in _NEVER_NULL},
            "_id": object_id("settings", settings.name, str(settings.version)),
            "created_at_": now,
        }
        if not _insert_once(self._settings, document):
            return False
        self._number(document["_id"])
        return True

    def _number(self, settings_id: ObjectId) -> None:
        """Gives settings the next number; the taken ones have a document each, which no two get."""
        top = self._settings.find_one({"number": {"$ne": None}}, sort=[("number", DESCENDING)])
        number = 1 if top is None else int(top["number"]) + 1
        while not _insert_once(self._numbers, {"_id": number, "settings": settings_id}):
            number += 1
        self._settings.update_one({"_id": settings_id}, {"$set": {"number": number}})

    def archive_settings(self, settings: Settings) -> None:
        change = {"$set": {"status": ARCHIVED}}
        self._settings.update_one({"_id": self._id_of(settings)}, change)

    def assigned(self, project_id: str | None) -> list[AssignedSettings]:
        """The settings of a project, in the order of their assignment.

        Archived ones too: they are not assigned anew, and go on where they are.

        Raises:
            SettingsRefused: one of them can't be read, or is gone.
        """
        assigned, broken = self.assignments(project_id)
        if broken:
            raise SettingsRefused(
                f"What project {project_id or FALLBACK_PROJECT} is assigned can't be used",
                found=broken[0].problem,
                next_step="`kraken project unassign` it by its id, as `kraken project show` shows "
                "it, or restore the settings from a backup of MongoDB.",
            )
        return assigned

    def assignments(
        self, project_id: str | None
    ) -> tuple[list[AssignedSettings], list[BrokenAssignment]]:
        """The same, with those apart of which the settings can't be read or are gone."""
        query = {"project": project_id or FALLBACK_PROJECT}
        order = [("created_at_", ASCENDING), ("_id", ASCENDING)]
        lines = list(self._assignments.find(query).sort(order))
        found: list[AssignedSettings] = []
        broken: list[BrokenAssignment] = []
        for line in lines or self._assigned_by_the_project_itself(query["project"]):
            try:
                settings = self._settings_with(line["settings"])
            except SettingsRefused as error:
                broken.append(BrokenAssignment(str(line["_id"]), str(error)))
            else:
                scope = _scope_of(line, settings)
                item = AssignedSettings(settings=settings, scope=scope, id=str(line["_id"]))
                found.append(item)
        return found, broken

    def _settings_with(self, settings_id: Any) -> Settings:
        document = self._settings.find_one({"_id": settings_id})
        if document is None:
            raise SettingsRefused("MongoDB has no such settings", file=settings_id)
        return _settings_of(document)

    def _assigned_by_the_project_itself(self, project_id: str) -> list[Document]:
        """AlphaKraken's older documents: a project names its settings, or they name it."""
        project = self._projects.find_one({"_id": project_id}) or {}
        query = {"project": project_id, "status": {"$ne": ARCHIVED}}
        named = [project.get("settings"), *(item["_id"] for item in self._settings.find(query))]
        return [
            {
                "_id": object_id("project_settings", project_id, str(settings)),
                "project": project_id,
                "settings": settings,
                "scope": ANY_SCOPE,
                "created_at_": project.get("created_at_"),
            }
            for settings in dict.fromkeys(item for item in named if item is not None)
        ]

    def settle(self, project_id: str) -> None:
        """Writes assignments that only older documents speak of as what they are, so that the next
        one stands beside them and can be changed like any other."""
        if self._assignments.find_one({"project": project_id}) is None:
            for line in self._assigned_by_the_project_itself(project_id):
                _insert_once(self._assignments, line)

    def used_by(self, settings: Settings) -> list[str]:
        """The projects that this version is assigned to."""
        settings_id = self._id_of(settings)
        lines = self._assignments.find({"settings": settings_id}, {"project": 1})
        old = self._projects.find({"settings": settings_id}, {"_id": 1})
        return sorted({*(str(item["project"]) for item in lines), *(str(it["_id"]) for it in old)})

    def assign(
        self,
        project_id: str,
        settings: Settings,
        *,
        now: datetime,
        scope: str = ANY_SCOPE,
        excluded: Collection[str] = (),
        raw_file_id_filter: str | None = None,
    ) -> bool:
        """Assigns settings; False if the project has a version of them at that very place."""
        place = ScopedSettings(
            settings=settings.name,
            software_type=settings.software_type,
            scope=scope,
            excluded=frozenset(excluded),
            raw_file_id_filter=raw_file_id_filter or None,
        )
        if any(item.scope == place for item in self.assigned(project_id)):
            return False
        parts = (scope, raw_file_id_filter or "", *sorted(excluded))
        document = {
            "_id": object_id("project_settings", project_id, settings.name, *parts),
            "project": project_id,
            "settings": self._id_of(settings),
            "scope": scope,
            "excluded": sorted(excluded),
            "raw_file_id_filter": raw_file_id_filter or "",
            "created_at_": now,
        }
        return _insert_once(self._assignments, document)

    def unassign(self, assignment_id: str) -> bool:
        """Takes an assignment back; False if somebody else was quicker."""
        result = self._assignments.delete_one({"_id": ObjectId(assignment_id)})
        return result.deleted_count == 1

    def upgrade(self, assigned: AssignedSettings, settings: Settings) -> bool:
        """Has an assignment use another version; False if somebody else changed it meanwhile."""
        result = self._assignments.update_one(
            {"_id": ObjectId(assigned.id), "settings": self._id_of(assigned.settings)},
            {"$set": {"settings": self._id_of(settings)}},
        )
        return result.matched_count == 1

    def _id_of(self, settings: Settings) -> Any:
        document = self._document_of(settings.name, settings.version)
        if document is not None:
            return document["_id"]
        return object_id("settings", settings.name, str(settings.version))

    def _document_of(self, name: str, version: int) -> Document | None:
        found = self._documents_of(name)
        return next((item for item in found if _version_of(item) == version), None)

    def _documents_of(self, name: str) -> Iterator[Document]:
        yield from self._settings.find({"name": name})
        # AlphaKraken's first had their name as their id.
        yield from self._settings.find({"_id": name})

    def seed(self, *, now: datetime) -> None:
        """In a database without any settings: Kraken's own program for every Bruker file."""
        if self._settings.find_one({}) is not None:
            return
        self.add_project(fallback_project(), now=now)
        self.assign(FALLBACK_PROJECT, RAWQC_SETTINGS, scope=Vendor.BRUKER, now=now)
        self.add_settings(RAWQC_SETTINGS, now=now)


def fallback_project() -> Project:
    return Project(id=FALLBACK_PROJECT, name="Fallback", description="files that name no project")


def _project_of(document: Document) -> Project:
    """A project of whatever stands there: an odd one must not hide the others."""
    known = {key: str(document.get(key) or "") for key in ("name", "description")}
    status = str(document.get("status") or ACTIVE)
    return Project(id=str(document["_id"]), status=status, **known)


def _version_of(document: Document) -> Any:
    return document.get("version") or 1


def _readable(documents: Iterable[Document]) -> tuple[list[Settings], list[SettingsRefused]]:
    found: list[Settings] = []
    problems: list[SettingsRefused] = []
    for document in documents:
        try:
            found.append(_settings_of(document))
        except SettingsRefused as error:
            problems.append(error)
    return found, problems


def _settings_of(document: Document) -> Settings:
    """Settings of a document, also of one that an older AlphaKraken wrote: it knew one program
    only, one version of each, and named the document after the settings."""
    known = {key: value for key, value in document.items() if value is not None}
    known.setdefault("name", str(document["_id"]))
    known.setdefault("software_type", ALPHADIA.name)
    known.setdefault("metrics_type", known["software_type"])
    try:
        return Settings.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsRefused(
            "Settings in MongoDB can't be read",
            file=f"{known['name']} version {known.get('version', 1)}",
            expected=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            found=repr(first["input"]),
            next_step="add a new version of these settings, and upgrade the project to it.",
        ) from error


def _scope_of(line: Document, settings: Settings) -> ScopedSettings:
    return ScopedSettings(
        settings=settings.name,
        software_type=settings.software_type,
        scope=line.get("scope") or ANY_SCOPE,
        excluded=frozenset(line.get("excluded") or ()),
        raw_file_id_filter=line.get("raw_file_id_filter") or None,
    )


def _insert_once(collection: "MongoCollection[Document]", document: Document) -> bool:
    try:
        collection.insert_one(document)
    except DuplicateKeyError:
        return False
    return True
