"""Reads documents of projects, settings and assignments, also those of older AlphaKrakens."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.eligibility import ANY_SCOPE, ScopedSettings
from kraken_dagster.model.errors import SettingsRefused
from kraken_dagster.model.programs import ALPHADIA
from kraken_dagster.model.projects import Project
from kraken_dagster.model.settings import ACTIVE, Settings

Document = dict[str, Any]


def project_of(document: Document) -> Project:
    """A project of whatever stands there: an odd one must not hide the others."""
    known = {key: str(document.get(key) or "") for key in ("name", "description")}
    status = str(document.get("status") or ACTIVE)
    return Project(id=str(document["_id"]), status=status, **known)


def version_of(document: Document) -> Any:
    return document.get("version") or 1


def readable_settings(
    documents: Iterable[Document],
) -> tuple[list[Settings], list[SettingsRefused]]:
    found: list[Settings] = []
    problems: list[SettingsRefused] = []
    for document in documents:
        try:
            found.append(settings_of(document))
        except SettingsRefused as error:
            problems.append(error)
    return found, problems


def settings_of(document: Document) -> Settings:
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


def scope_of(line: Document, settings: Settings) -> ScopedSettings:
    return ScopedSettings(
        settings=settings.name,
        software_type=settings.software_type,
        scope=line.get("scope") or ANY_SCOPE,
        excluded=frozenset(line.get("excluded") or ()),
        raw_file_id_filter=line.get("raw_file_id_filter") or None,
    )


def insert_once(collection: "MongoCollection[Document]", document: Document) -> bool:
    """Adds a document; False if its id, or its place in an index, is taken already."""
    try:
        collection.insert_one(document)
    except DuplicateKeyError:
        return False
    return True
