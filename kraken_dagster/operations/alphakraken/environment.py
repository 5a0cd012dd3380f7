"""AlphaKraken's environment file: where its MongoDB is. Its passwords are never copied."""

from typing import Any

from kraken_dagster.model.printable import printable
from kraken_dagster.operations.alphakraken.notes import Notes, Verdict
from kraken_dagster.operations.alphakraken.places import MOUNTS_VARIABLE
from kraken_dagster.store.uri import is_understood

_DATABASE = "krakendb"
_IN_ITS_NETWORK = "mongodb-service"
_PLACES = ("MONGO_HOST", "MONGO_PORT")


def mongodb(environment: dict[str, str], notes: Notes) -> dict[str, Any]:
    """`mongodb` of instruments.yaml: the database as it is, its user and password elsewhere."""
    host, port = environment.get("MONGO_HOST", ""), environment.get("MONGO_PORT", "27017")
    uri = f"mongodb://{host}:{port}/{_DATABASE}"
    if not host or any(char in uri for char in "${}@<>") or not is_understood(uri):
        uri = f"mongodb://set-me.invalid/{_DATABASE}"
    for name, value in environment.items():
        if name == MOUNTS_VARIABLE:
            notes.add(Verdict.TAKEN, name, printable(f"the folder of all mounts: {value}"))
        elif name in _PLACES:
            notes.add(Verdict.TAKEN, name, f"mongodb.uri: {uri}")
        elif name.startswith("MONGO_"):
            notes.add(Verdict.LEFT, name, "users and passwords are in KRAKEN_MONGODB_URI")
        else:
            notes.add(Verdict.LEFT, name, "of its own services")
    notes.to_do.append(
        "set KRAKEN_MONGODB_URI where Kraken is started, with a user who may write: "
        f"{uri.replace('://', '://USER:PASSWORD@')}?authSource={_DATABASE}"
    )
    if host == _IN_ITS_NETWORK:
        notes.to_do.append(
            f"`{host}` is a name in AlphaKraken's own network: name the machine and the port that "
            "its docker-compose.yaml publishes."
        )
    return {"uri": f"${{KRAKEN_MONGODB_URI:-{uri}}}"}
