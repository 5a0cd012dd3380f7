"""The collection `settings`: every version of all settings.

A version is written once; all that ever changes of it is its status. Documents of AlphaKraken's
older versions lack fields; what they mean then stands in `documents.settings_of`.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection

from kraken_dagster.model.errors import SettingsRefused, UnknownSettings
from kraken_dagster.model.settings import ARCHIVED, Settings
from kraken_dagster.store.catalog.documents import (
    insert_once,
    readable_settings,
    settings_of,
    version_of,
)
from kraken_dagster.store.errors import translated
from kraken_dagster.store.quant.jobs import object_id

# Sparse: AlphaKraken's first settings have neither field.
INDEXES = (IndexModel([("name", ASCENDING), ("version", ASCENDING)], unique=True, sparse=True),)
# Fields that AlphaKraken's models want to be there, empty or not.
_NEVER_NULL = ("fasta_file_name", "speclib_file_name", "config_file_name")

Document = dict[str, Any]


@translated
class SettingsVersions:
    def __init__(
        self, settings: "MongoCollection[Document]", numbers: "MongoCollection[Document]"
    ) -> None:
        self._settings = settings
        self._numbers = numbers  # one document for each number that is taken

    def all_settings(self) -> tuple[list[Settings], list[str]]:
        """Every version of all settings, in order; and the titles of unreadable documents."""
        found, problems = readable_settings(self._settings.find({}))
        names = [str(problem.file) for problem in problems]
        return sorted(found, key=lambda item: (item.name, item.version)), names

    def settings(self, name: str, version: int) -> Settings:
        """One version of settings, archived or not.

        Raises:
            UnknownSettings
        """
        document = self._document_of(name, version)
        if document is not None:
            return settings_of(document)
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
        found, problems = readable_settings(self._documents_of(name))
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
        numbers = [version_of(item) for item in self._documents_of(name)]
        return 1 + max((item for item in numbers if isinstance(item, int)), default=0)

    def add_settings(self, settings: Settings, *, now: datetime) -> bool:
        """Adds a version of settings; False if there is that version, which is never changed."""
        document = {
            **settings.model_dump(),
            **{key: getattr(settings, key) or "" for key in _NEVER_NULL},
            "_id": object_id("settings", settings.name, str(settings.version)),
            "created_at_": now,
        }
        if not insert_once(self._settings, document):
            return False
        self._number(document["_id"])
        return True

    def _number(self, settings_id: ObjectId) -> None:
        """Gives settings the next number; the taken ones have a document each, which no two get."""
        top = self._settings.find_one({"number": {"$ne": None}}, sort=[("number", DESCENDING)])
        number = 1 if top is None else int(top["number"]) + 1
        while not insert_once(self._numbers, {"_id": number, "settings": settings_id}):
            number += 1
        self._settings.update_one({"_id": settings_id}, {"$set": {"number": number}})

    def archive_settings(self, settings: Settings) -> None:
        change = {"$set": {"status": ARCHIVED}}
        self._settings.update_one({"_id": self._id_of(settings)}, change)

    def _settings_with(self, settings_id: Any) -> Settings:
        document = self._settings.find_one({"_id": settings_id})
        if document is None:
            raise SettingsRefused("MongoDB has no such settings", file=settings_id)
        return settings_of(document)

    def _id_of(self, settings: Settings) -> Any:
        document = self._document_of(settings.name, settings.version)
        if document is not None:
            return document["_id"]
        return object_id("settings", settings.name, str(settings.version))

    def _document_of(self, name: str, version: int) -> Document | None:
        found = self._documents_of(name)
        return next((item for item in found if version_of(item) == version), None)

    def _documents_of(self, name: str) -> Iterator[Document]:
        yield from self._settings.find({"name": name})
        # AlphaKraken's first had their name as their id.
        yield from self._settings.find({"_id": name})
