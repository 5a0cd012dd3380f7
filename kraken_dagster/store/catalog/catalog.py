"""The collections `project` and `project_settings`, with the settings: what runs on which file."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database

from kraken_dagster.model.eligibility import ANY_SCOPE, ScopedSettings
from kraken_dagster.model.errors import SettingsRefused, UnknownProject
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.programs import MSQC
from kraken_dagster.model.projects import Project
from kraken_dagster.model.raw_file import FALLBACK_PROJECT
from kraken_dagster.model.settings import (
    ARCHIVED,
    AssignedSettings,
    Settings,
)
from kraken_dagster.store.catalog.documents import (
    insert_once,
    project_of,
    scope_of,
)
from kraken_dagster.store.catalog.settings_versions import SettingsVersions
from kraken_dagster.store.errors import translated
from kraken_dagster.store.quant.jobs import object_id

PROJECT_SETTINGS_INDEXES = (
    IndexModel([("project", ASCENDING)]),
    IndexModel([("settings", ASCENDING)]),
)

RAWQC_SETTINGS = Settings(
    name="rawqc",
    description="Kraken's own quality metrics from Bruker's analysis.tdf",
    software_type=MSQC.name,
    software="kraken-rawqc",
    metrics_type="msqc",
)
Document = dict[str, Any]


@dataclass(frozen=True)
class BrokenAssignment:
    """An assignment of which the settings can't be read or are gone, by the document's id."""

    id: str
    problem: str


@translated
class Catalog(SettingsVersions):
    def __init__(self, database: "Database[Document]") -> None:
        super().__init__(database["settings"], database["settings_number"])
        self._projects: MongoCollection[Document] = database["project"]
        self._assignments: MongoCollection[Document] = database["project_settings"]

    def projects(self) -> list[Project]:
        """All projects, by id."""
        return sorted(map(project_of, self._projects.find({})), key=lambda item: item.id)

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
        return project_of(document)

    def project_ids(self) -> list[str]:
        """The ids of all active projects that a file's name may speak of."""
        found = [item for item in self.projects() if item.is_active]
        return [item.id for item in found if item.id != FALLBACK_PROJECT]

    def add_project(self, project: Project, *, now: datetime) -> bool:
        """Adds a project; False if there is one of that id, which stays as it is."""
        document = {**project.model_dump(by_alias=True), "created_at_": now}
        return insert_once(self._projects, document)

    def archive_project(self, project_id: str) -> None:
        self._projects.update_one({"_id": project_id}, {"$set": {"status": ARCHIVED}})

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
                scope = scope_of(line, settings)
                item = AssignedSettings(settings=settings, scope=scope, id=str(line["_id"]))
                found.append(item)
        return found, broken

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
                insert_once(self._assignments, line)

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
        return insert_once(self._assignments, document)

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

    def seed(self, *, now: datetime) -> None:
        """In a database without any settings: Kraken's own program for every Bruker file."""
        if self._settings.find_one({}) is not None:
            return
        self.add_project(fallback_project(), now=now)
        self.assign(FALLBACK_PROJECT, RAWQC_SETTINGS, scope=Vendor.BRUKER, now=now)
        self.add_settings(RAWQC_SETTINGS, now=now)


def fallback_project() -> Project:
    return Project(id=FALLBACK_PROJECT, name="Fallback", description="files that name no project")
