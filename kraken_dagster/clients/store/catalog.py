"""The collections `project`, `settings` and `project_settings`: what runs on which file."""

from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from kraken_dagster.clients.store.jobs import object_id
from kraken_dagster.clients.store.translation import translated
from kraken_dagster.domain.errors import UnknownSettings
from kraken_dagster.domain.processing import ScopedSettings
from kraken_dagster.domain.quant import SOFTWARE_TYPE_MSQC, AssignedSettings, Settings
from kraken_dagster.domain.raw_file import FALLBACK_PROJECT
from kraken_dagster.domain.vendors import Vendor

SETTINGS_INDEXES = (IndexModel([("name", ASCENDING), ("version", ASCENDING)], unique=True),)
PROJECT_SETTINGS_INDEXES = (IndexModel([("project", ASCENDING)]),)
ACTIVE = "active"

RAWQC_SETTINGS = Settings(
    name="rawqc",
    description="Kraken's own quality figures from Bruker's analysis.tdf",
    software_type=SOFTWARE_TYPE_MSQC,
    software="kraken-rawqc",
    metrics_type="msqc",
)

Document = dict[str, Any]


@translated
class Catalog:
    def __init__(self, database: "Database[Document]") -> None:
        self._projects: MongoCollection[Document] = database["project"]
        self._settings: MongoCollection[Document] = database["settings"]
        self._assignments: MongoCollection[Document] = database["project_settings"]

    def project_ids(self) -> list[str]:
        """The ids of all active projects."""
        found = self._projects.find({"status": ACTIVE}, {"_id": 1})
        return [document["_id"] for document in found if document["_id"] != FALLBACK_PROJECT]

    def assigned(self, project_id: str | None) -> list[AssignedSettings]:
        """The active settings of a project, in the order of their assignment."""
        query = {"project": project_id or FALLBACK_PROJECT}
        assigned = []
        order = [("created_at_", ASCENDING), ("_id", ASCENDING)]
        for line in self._assignments.find(query).sort(order):
            document = self._settings.find_one({"_id": line["settings"]})
            if document is None or document.get("status", ACTIVE) != ACTIVE:
                continue
            settings = Settings.model_validate(document)
            scope = ScopedSettings(
                settings=settings.name,
                software_type=settings.software_type,
                scope=line.get("scope") or "*",
                excluded=frozenset(line.get("excluded") or ()),
                raw_file_id_filter=line.get("raw_file_id_filter"),
            )
            assigned.append(AssignedSettings(settings=settings, scope=scope))
        return assigned

    def settings(self, name: str, version: int) -> Settings:
        """One version of settings, archived or not.

        Raises:
            UnknownSettings
        """
        document = self._settings.find_one({"name": name, "version": version})
        if document is None:
            raise UnknownSettings(
                "No such settings in MongoDB",
                file=f"{name} version {version}",
                next_step="restore them from a backup of MongoDB, or ask for `quant_job` again.",
            )
        return Settings.model_validate(document)

    def add_project(self, project_id: str, name: str, description: str, *, now: datetime) -> None:
        """Adds a project; one that is there already stays as it is."""
        document = {
            "_id": project_id,
            "name": name,
            "description": description,
            "status": ACTIVE,
            "created_at_": now,
        }
        _insert_once(self._projects, document)

    def add_settings(self, settings: Settings, *, now: datetime) -> None:
        """Adds a version of settings; a version that is there already is never changed."""
        document = {
            **settings.model_dump(),
            "_id": object_id("settings", settings.name, str(settings.version)),
            "created_at_": now,
        }
        _insert_once(self._settings, document)

    def assign(
        self, project_id: str, settings: Settings, *, scope: str = "*", now: datetime
    ) -> None:
        document = {
            "_id": object_id(
                "project_settings", project_id, settings.name, str(settings.version), scope
            ),
            "project": project_id,
            "settings": object_id("settings", settings.name, str(settings.version)),
            "scope": scope,
            "created_at_": now,
        }
        _insert_once(self._assignments, document)

    def seed(self, *, now: datetime) -> None:
        """In a database without any settings: Kraken's own program for every Bruker file."""
        if self._settings.find_one({}) is not None:
            return
        self.add_project(FALLBACK_PROJECT, "Fallback", "files that name no project", now=now)
        self.assign(FALLBACK_PROJECT, RAWQC_SETTINGS, scope=Vendor.BRUKER, now=now)
        self.add_settings(RAWQC_SETTINGS, now=now)


def _insert_once(collection: "MongoCollection[Document]", document: Document) -> None:
    try:
        collection.insert_one(document)
    except DuplicateKeyError:
        return
