"""A message to one channel, as it waits in MongoDB until it is sent. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

_FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)


class Delivery(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given_up"


class Message(BaseModel):
    """`id` is also the left part of its Message-ID, whatever becomes of the process that sends it.

    `tries` is counted before a try: what dies in its midst is tried again under the same id.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    id: str = Field(alias="_id")
    channel: str
    kind: str
    event: str
    severity: str
    alerts: tuple[str, ...] = ()
    subject: str
    text: str
    created_at: AwareDatetime
    next_try_at: AwareDatetime | None
    tries: int = 0
    state: Delivery = Delivery.WAITING
    error: str | None = None
    sent_at: AwareDatetime | None = None

    @property
    def is_tried(self) -> bool:
        """A try was begun, and its outcome is not recorded."""
        return self.tries > 0 and self.error is None and self.state is Delivery.WAITING

    def follows(self, other: "Message") -> bool:
        """Both are of the same alert and channel, and the other one comes first."""
        return (
            self.channel == other.channel
            and self.created_at > other.created_at
            and not set(self.alerts).isdisjoint(other.alerts)
        )

    @property
    def message_id(self) -> str:
        return f"<{self.id}@kraken>"


def pause_after(tries: int) -> timedelta:
    """Until the next try: 1, 2, 4, ... minutes, at most an hour."""
    doubled: int = 2 ** min(max(tries - 1, 0), 10)
    return min(_FIRST_PAUSE * doubled, LONGEST_PAUSE)


def is_hopeless(message: Message, *, give_up_after: timedelta, now: datetime) -> bool:
    return now - message.created_at >= give_up_after
