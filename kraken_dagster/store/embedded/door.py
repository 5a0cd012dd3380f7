"""Tries the door of a MongoDB as a stranger does who can reach it: no password, and a wrong one."""

import secrets
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from kraken_dagster.store.connection import DEFAULT_DATABASE

# What of a URI proves who one is.
_PROOFS = frozenset(
    {
        "authsource",
        "authmechanism",
        "authmechanismproperties",
        "tlscertificatekeyfile",
        "tlscertificatekeyfilepassword",
    }
)
_TIMEOUT_MS = 5000


class Door(StrEnum):
    CLOSED = "a stranger without a password, or with a wrong one, is refused"
    SILENT = "a stranger gets no answer"
    OPEN = "anybody who reaches it may read it, without a password"
    ANY_PASSWORD = "anybody who reaches it may read it, with any password"  # noqa: S105


def tried(uri: str) -> Door:
    """What a stranger comes to who knows the address, the database and the user's name.

    Nothing is written, and he reads one document's `_id` at most.
    """
    wrong = {"username": _user_of(uri), "password": secrets.token_hex(8)}
    found = [_reads(_without_proofs(uri)), _reads(_without_proofs(uri), **wrong)]
    if found[0]:
        return Door.OPEN
    if found[1]:
        return Door.ANY_PASSWORD
    return Door.CLOSED if found[0] is False else Door.SILENT


def _reads(uri: str, **proofs: Any) -> bool | None:
    """None where no answer came."""
    timeouts: dict[str, Any] = {
        "serverSelectionTimeoutMS": _TIMEOUT_MS,
        "connectTimeoutMS": _TIMEOUT_MS,
    }
    try:
        with MongoClient[dict[str, Any]](uri, **timeouts, **proofs) as client:
            database = client.get_default_database(DEFAULT_DATABASE)
            database["raw_file"].find_one({}, {"_id": 1})
    except OperationFailure:
        return False
    except PyMongoError:
        return None
    return True


def _user_of(uri: str) -> str:
    user, _, _ = urlsplit(uri).netloc.rpartition("@")[0].partition(":")
    return unquote(user) or "kraken"


def _without_proofs(uri: str) -> str:
    parts = urlsplit(uri)
    query = [item for item in parse_qsl(parts.query) if item[0].lower() not in _PROOFS]
    return parts._replace(
        netloc=parts.netloc.rpartition("@")[2], path=parts.path or "/", query=urlencode(query)
    ).geturl()
