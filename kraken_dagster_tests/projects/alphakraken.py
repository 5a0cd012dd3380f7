"""AlphaKraken's side of a shared database: its documents as its versions left them, and its models.

The models are made of its fields' names, types and bounds with the library that it uses itself,
MongoEngine; what AlphaKraken reads and may save again is what they read and validate.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
from bson import ObjectId
from mongoengine import fields

ALIAS = "alphakraken"
MADE = datetime(2025, 5, 6, 7, 8, 9, tzinfo=UTC)

_TEXT = fields.StringField
# Collection: its fields, and whether AlphaKraken's model takes any further ones for its own.
_MODELS: Mapping[str, tuple[dict[str, Any], bool]] = {
    "project": (
        {
            "id": lambda: _TEXT(primary_key=True, required=True, min_length=3, max_length=16),
            "name": lambda: _TEXT(required=True, max_length=64),
            "description": lambda: _TEXT(max_length=512),
            "status": lambda: _TEXT(max_length=32),
            "created_at_": fields.DateTimeField,
        },
        False,
    ),
    "settings": (
        {
            "name": lambda: _TEXT(required=True, max_length=64, regex=r"^[a-zA-Z0-9_]+$"),
            "version": lambda: fields.IntField(min_value=1),
            "description": lambda: _TEXT(max_length=512),
            "fasta_file_name": lambda: _TEXT(required=True, max_length=128),
            "speclib_file_name": lambda: _TEXT(required=True, max_length=128),
            "config_file_name": lambda: _TEXT(max_length=128),
            "config_params": lambda: _TEXT(max_length=2048),
            "software_type": lambda: _TEXT(required=True, max_length=128),
            "software": lambda: _TEXT(required=True, max_length=128),
            "status": lambda: _TEXT(max_length=64),
            "created_at_": fields.DateTimeField,
        },
        False,
    ),
    "raw_file": (
        {
            "id": lambda: _TEXT(primary_key=True, required=True, max_length=255),
            "collision_flag": lambda: _TEXT(max_length=32),
            "original_name": lambda: _TEXT(required=True, max_length=255),
            "instrument_id": lambda: _TEXT(max_length=32),
            "project_id": lambda: _TEXT(max_length=32),
            "status": lambda: _TEXT(max_length=32),
            "status_details": lambda: _TEXT(max_length=512),
            "size": lambda: fields.IntField(min_value=-1),
            "backup_base_path": lambda: _TEXT(max_length=128),
            "backup_status": lambda: _TEXT(max_length=32),
            "instrument_file_status": lambda: _TEXT(max_length=16),
            "file_info": fields.DictField,
            "created_at": fields.DateTimeField,
            "created_at_": fields.DateTimeField,
            "updated_at_": fields.DateTimeField,
        },
        False,
    ),
    "metrics": (
        {
            "raw_file": lambda: fields.ReferenceField("AkRawFile"),
            "settings_name": lambda: _TEXT(max_length=64),
            "settings_version": lambda: fields.IntField(min_value=1),
            "type": lambda: _TEXT(max_length=32),
            "created_at_": fields.DateTimeField,
        },
        True,
    ),
    "project_settings": (
        {
            "project": lambda: fields.ReferenceField("AkProject", required=True),
            "settings": lambda: fields.ReferenceField("AkSettings", required=True),
            "scope": lambda: _TEXT(max_length=64),
            "excluded": lambda: fields.ListField(_TEXT(max_length=64)),
            "raw_file_id_filter": lambda: _TEXT(max_length=128),
            "created_at_": fields.DateTimeField,
        },
        False,
    ),
    "kraken_status": (
        {
            "id": lambda: _TEXT(primary_key=True, required=True, max_length=64),
            "status": lambda: _TEXT(max_length=64),
            "free_space_gb": lambda: fields.IntField(min_value=-1),
            "entity_type": lambda: _TEXT(max_length=16),
            "updated_at_": fields.DateTimeField,
        },
        False,
    ),
}


def _model(collection: str) -> type[mongoengine.Document]:
    given, is_dynamic = _MODELS[collection]
    base = mongoengine.DynamicDocument if is_dynamic else mongoengine.Document
    name = "Ak" + "".join(part.title() for part in collection.split("_"))
    meta = {
        "collection": collection,
        "db_alias": ALIAS,
        "auto_create_index": False,
        **({} if is_dynamic else {"strict": False}),
    }
    made = {field: kind() for field, kind in given.items()}
    return type(name, (base,), {**made, "meta": meta})


MODELS = {collection: _model(collection) for collection in _MODELS}


@contextmanager
def connected(uri: str) -> Iterator[None]:
    """AlphaKraken's models on the database of this URI."""
    mongoengine.connect(host=uri, alias=ALIAS)
    try:
        yield
    finally:
        mongoengine.disconnect(alias=ALIAS)


def raw_file(name: str, **changes: Any) -> dict[str, Any]:
    """A document of its latest version; a field that is changed to None is not there at all."""
    document = {
        "_id": name,
        "original_name": name,
        "instrument_id": "thermo1",
        "project_id": "OLD1",
        "status": "done",
        "size": 5,
        "backup_status": "copying_done",
        "instrument_file_status": "new",
        "file_info": {name: [5, "5d41402abc4b2a76b9719d911017c592"]},
        "created_at": MADE,
        "created_at_": MADE,
        "updated_at_": MADE + timedelta(hours=1),
        **changes,
    }
    return {key: value for key, value in document.items() if value is not None}


def settings(name: str, **changes: Any) -> dict[str, Any]:
    """Likewise of settings."""
    document = {
        "_id": ObjectId(),
        "name": name,
        "version": 1,
        "fasta_file_name": "",
        "speclib_file_name": "",
        "config_file_name": "",
        "config_params": "",
        "software_type": "custom",
        "software": name,
        "metrics_type": "custom",
        "job_engine": "slurm",
        "slurm_mem": "62G",
        "slurm_time": "02:00:00",
        "num_threads": 8,
        "status": "active",
        "created_at_": MADE,
        **changes,
    }
    return {key: value for key, value in document.items() if value is not None}
