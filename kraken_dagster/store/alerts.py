"""The collections of alerts: `alert`, `alert_message` (the queue of what is to be sent),
`alert_silence`, `alert_monitor` (the looks) and `disk_sample` (how full disks were)."""

from datetime import datetime, timedelta
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from kraken_dagster.model.alerts.alert import Alert, Silence, State
from kraken_dagster.model.alerts.outbox import LONGEST_PAUSE, Delivery, Message
from kraken_dagster.model.raw_file import short_details
from kraken_dagster.store.errors import translated

INDEXES = {
    "alert": (
        IndexModel([("state", ASCENDING)]),
        IndexModel([("kind", ASCENDING), ("subject", ASCENDING), ("number", DESCENDING)]),
        IndexModel([("instrument", ASCENDING), ("opened", DESCENDING)]),
    ),
    "alert_message": (IndexModel([("state", ASCENDING), ("next_try_at", ASCENDING)]),),
    "alert_silence": (IndexModel([("until", ASCENDING)]),),
    "disk_sample": (IndexModel([("disk", ASCENDING), ("at", ASCENDING)]),),
}
_MONITOR = "monitor"
_LONGEST_QUIET = timedelta(days=1)  # what was not tried yet may wait for the end of quiet hours
_UNRESOLVED = [State.OPEN.value, State.ACKNOWLEDGED.value, State.SILENCED.value]

Document = dict[str, Any]


@translated
class Alerts:
    def __init__(self, database: "Database[Document]") -> None:
        self._alerts: MongoCollection[Document] = database["alert"]
        self._silences: MongoCollection[Document] = database["alert_silence"]
        self._monitor: MongoCollection[Document] = database["alert_monitor"]
        self._samples: MongoCollection[Document] = database["disk_sample"]

    def current(self) -> list[Alert]:
        """Those that are not resolved, oldest first."""
        found = self._alerts.find({"state": {"$in": _UNRESOLVED}})
        return sorted(map(_alert, found), key=lambda item: item.opened)

    def untold(self) -> list[Alert]:
        """Those of which a message is to be made."""
        found = self._alerts.find({"pending.0": {"$exists": True}})
        return sorted(map(_alert, found), key=lambda item: item.opened)

    def latest(
        self, *, instrument: str | None = None, kind: str | None = None, limit: int = 100
    ) -> list[Alert]:
        """The newest first, also those that are resolved."""
        wanted = {"instrument": instrument, "kind": kind}
        query = {name: value for name, value in wanted.items() if value is not None}
        found = self._alerts.find(query).sort("opened", DESCENDING).limit(limit)
        return list(map(_alert, found))

    def get(self, alert_id: str) -> Alert | None:
        document = self._alerts.find_one({"_id": alert_id})
        return None if document is None else _alert(document)

    def last_of(self, kind: str, subject: str) -> Alert | None:
        """The last episode of a kind on a subject."""
        query = {"kind": kind, "subject": subject}
        document = self._alerts.find_one(query, sort=[("number", DESCENDING)])
        return None if document is None else _alert(document)

    def open(self, alert: Alert) -> bool:
        """False if somebody else has opened the same one, which stays."""
        try:
            self._alerts.insert_one(alert.model_dump(by_alias=True))
        except DuplicateKeyError:
            return False
        return True

    def change(self, before: Alert, after: Alert) -> bool:
        """False if somebody else has changed it meanwhile: look at it again."""
        query = {"_id": before.id, "version": before.version}
        document = after.model_dump(by_alias=True)
        return self._alerts.replace_one(query, document).matched_count == 1

    def silences(self, *, now: datetime) -> list[Silence]:
        """Those that hold, or will."""
        found = self._silences.find({"until": {"$gt": now}, "withdrawn_at": None})
        return [Silence.model_validate(item) for item in found]

    def silence(self, silence: Silence) -> None:
        self._silences.insert_one(silence.model_dump(by_alias=True))

    def end_silence(self, silence_id: str, *, now: datetime) -> bool:
        query = {"_id": silence_id, "withdrawn_at": None}
        return self._silences.update_one(query, {"$set": {"withdrawn_at": now}}).matched_count == 1

    def began_at(self, now: datetime) -> datetime:
        """When alerts were first looked after on this MongoDB."""
        change = {"$setOnInsert": {"began_at": now}}
        self._monitor.update_one({"_id": _MONITOR}, change, upsert=True)
        found: datetime = (self._monitor.find_one({"_id": _MONITOR}) or {}).get("began_at", now)
        return found

    def looked(
        self,
        *,
        by: str,
        from_dagster: bool,
        stood_by: bool = False,
        watching_since: datetime,
        ticking_since: datetime | None = None,
        now: datetime,
    ) -> None:
        fields: Document = {"looked_at": now, "looked_by": by, "watching_since": watching_since}
        fields |= {"stood_by": stood_by, "ticking_since": ticking_since}
        if from_dagster:
            fields["dagster_looked_at"] = now
        self._monitor.update_one({"_id": _MONITOR}, {"$set": fields}, upsert=True)

    def last_look(self) -> Document:
        """`looked_at`, `looked_by`, `stood_by`, `dagster_looked_at`, `watching_since` (the
        first look after which there was no gap), `ticking_since` (the same of the looks by
        Dagster's sensor) and `digest`, as far as they are known."""
        return self._monitor.find_one({"_id": _MONITOR}) or {}

    def digest_made(self, day: str) -> None:
        self._monitor.update_one({"_id": _MONITOR}, {"$set": {"digest": day}}, upsert=True)

    def sample(self, disk: str, *, free_gb: float, at: datetime) -> None:
        """Keeps how much is free, once an hour."""
        hour = at.replace(minute=0, second=0, microsecond=0)
        fields = {"disk": disk, "at": hour, "free_gb": free_gb}
        change = {"$setOnInsert": fields}
        self._samples.update_one({"_id": f"{disk} {hour.isoformat()}"}, change, upsert=True)

    def samples(
        self, disk: str, *, since: datetime, until: datetime
    ) -> list[tuple[datetime, float]]:
        """Times, and GB that were free then, oldest first; none of a clock that was ahead."""
        query = {"disk": disk, "at": {"$gte": since, "$lte": until}}
        found = self._samples.find(query).sort("at", ASCENDING)
        return [(item["at"], float(item["free_gb"])) for item in found]

    def forget_samples(self, *, before: datetime) -> None:
        self._samples.delete_many({"at": {"$lt": before}})


@translated
class Outbox:
    """The queue of messages, one for each channel."""

    def __init__(self, collection: "MongoCollection[Document]") -> None:
        self._collection = collection

    def add(self, message: Message) -> bool:
        """False if it is there already, in whatever state."""
        try:
            self._collection.insert_one(message.model_dump(by_alias=True))
        except DuplicateKeyError:
            return False
        return True

    def due(self, now: datetime) -> list[Message]:
        """Those whose next try has come, oldest first.

        One further away than any pause was planned while the clock was wrong, and is due as well.
        """
        times: list[Document] = [
            {"next_try_at": {"$lte": now}},
            {"next_try_at": {"$gt": now + _LONGEST_QUIET}},
            {"next_try_at": {"$gt": now + 2 * LONGEST_PAUSE}, "tries": {"$gt": 0}},
        ]
        query = {"state": Delivery.WAITING, "$or": times}
        found = self._collection.find(query).sort("created_at", ASCENDING)
        return [Message.model_validate(item) for item in found]

    def waiting(self) -> list[Message]:
        found = self._collection.find({"state": Delivery.WAITING}).sort("created_at", ASCENDING)
        return [Message.model_validate(item) for item in found]

    def many(self, ids: list[str]) -> dict[str, Message]:
        found = self._collection.find({"_id": {"$in": ids}})
        return {str(item["_id"]): Message.model_validate(item) for item in found}

    def claim(self, message: Message, *, next_try_at: datetime) -> bool:
        """Counts a try before it is made; False if somebody else has begun one meanwhile."""
        query = {"_id": message.id, "state": Delivery.WAITING, "tries": message.tries}
        change = {"$set": {"tries": message.tries + 1, "next_try_at": next_try_at}}
        return self._collection.update_one(query, change).matched_count == 1

    def postpone(self, channel: str, *, until: datetime) -> None:
        """Leaves a channel alone until then."""
        query = {"channel": channel, "state": Delivery.WAITING, "next_try_at": {"$lt": until}}
        self._collection.update_many(query, {"$set": {"next_try_at": until}})

    def sent(self, message: Message, *, now: datetime, remark: str | None = None) -> None:
        """`remark`: for whom it was refused."""
        fields = {"state": Delivery.SENT, "sent_at": now, "error": remark, "next_try_at": None}
        self._collection.update_one({"_id": message.id}, {"$set": fields})

    def failed(self, message: Message, *, error: str) -> None:
        change = {"$set": {"error": short_details(error)}}
        self._collection.update_one({"_id": message.id, "state": Delivery.WAITING}, change)

    def give_up(self, message: Message) -> None:
        change = {"$set": {"state": Delivery.GIVEN_UP, "next_try_at": None}}
        self._collection.update_one({"_id": message.id, "state": Delivery.WAITING}, change)


def _alert(document: Document) -> Alert:
    return Alert.model_validate(document)
