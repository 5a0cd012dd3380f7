"""The section `alerts` of instruments.yaml: who is told of what, how, and from which threshold on.

Secrets are no part of it: a channel names the environment variable that holds its URL or password.
"""

from enum import StrEnum
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, model_validator

from kraken_dagster.config.thresholds import Thresholds
from kraken_dagster.config.times import TimeOfDay, TimeZone
from kraken_dagster.model.alerts.alert import Severity
from kraken_dagster.model.strict import Strict

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Address = Annotated[str, StringConstraints(pattern=r"^[^@\s,;<>]+@[^@\s,;<>]+$")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$")]
Initials = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}$")]


class Weekday(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class _Channel(Strict):
    names: bool = Field(
        True,
        description="Whether names of files and projects are told there; `false` for services "
        "outside the laboratory.",
    )


class SmtpChannel(_Channel):
    """Mail, by the server of `alerts.smtp`."""

    type: Literal["smtp"] = Field(description="`smtp`: mail, by the server of `alerts.smtp`.")
    to: list[Address] = Field(min_length=1, description="Who gets the mail.")


class WebhookChannel(_Channel):
    """A POST of JSON."""

    type: Literal["webhook"] = Field(description="`webhook`: a POST of JSON.")
    url: HttpUrl | None = Field(None, description="Its URL, where that holds no secret.")
    url_variable: VariableName | None = Field(
        None, description="The environment variable that holds the URL."
    )

    @model_validator(mode="after")
    def _one_url(self) -> "WebhookChannel":
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("expected either `url` or `url_variable`")
        return self


class AppriseChannel(_Channel):
    """Whatever apprise reaches: Teams, Slack, ntfy, Matrix and many others."""

    type: Literal["apprise"] = Field(
        description="`apprise`: Teams, Slack, ntfy, Matrix and others; needs the extra `alerts`."
    )
    url_variable: VariableName = Field(
        description="The environment variable that holds apprise's URL."
    )


Channel = Annotated[SmtpChannel | WebhookChannel | AppriseChannel, Field(discriminator="type")]


class Audiences(Strict):
    """Who is told: lists of channels."""

    operations: list[Channel] = Field(
        default_factory=list,
        description="Those who keep Kraken running: disks, shares, failures, Dagster.",
    )
    laboratory: list[Channel] = Field(
        default_factory=list,
        description="Those who measure: instruments that stand still, pump pressure, quality.",
    )


class Smtp(Strict):
    """The server that takes mail."""

    host: str = Field("localhost", description="The mail server.")
    port: int = Field(25, ge=1, le=65535, description="Its port; 587 with `starttls`, 465 `tls`.")
    security: Literal["none", "starttls", "tls"] = Field(
        "none", description="`none` for a server on this machine, else `starttls` or `tls`."
    )
    user: str | None = Field(None, description="The user, where the server asks for a login.")
    password_variable: VariableName | None = Field(
        None, description="The environment variable that holds the password."
    )
    sender: Address = Field("kraken@localhost", description="The address in `From`.")


class QuietHours(Strict):
    """When only what is severe is told at once; the rest waits until they are over."""

    begin: TimeOfDay = Field(description="When they begin, like `20:00`.")
    end: TimeOfDay = Field(description="When they end, like `07:00`.")
    breaks_through: Severity = Field(
        Severity.CRITICAL, description="What is told at once all the same: this and what is worse."
    )


class Digest(Strict):
    """A summary on working days, also when all is well: that it comes says that alerts work."""

    at: TimeOfDay | None = Field("07:30", description="When, in `timezone`. Null: no digest.")
    days: list[Weekday] = Field(
        default_factory=lambda: list(Weekday)[:5], description="The working days."
    )


class Alerts(Strict):
    """Who is told of what is wrong."""

    audiences: Audiences = Field(
        default_factory=Audiences,
        description="Channels by audience. None: alerts are recorded, and nobody is told.",
    )
    users: dict[Initials, list[Channel]] = Field(
        default_factory=dict,
        description="Channels of operators, by the initials between `_` in their files' names.",
    )
    smtp: Smtp = Field(default_factory=Smtp, description="The server that takes mail.")
    timezone: TimeZone = Field("UTC", description="Of quiet hours, digest and times in messages.")
    quiet_hours: QuietHours | None = Field(
        None, description="When only what is severe is told at once. None: never."
    )
    digest: Digest = Field(default_factory=Digest, description="A summary on working days.")
    look_every_s: int = Field(60, ge=1, description="Seconds between two looks at everything.")
    remind_after_hours: float = Field(
        24, gt=0, description="Hours until a reminder, if nobody has acknowledged; then again."
    )
    more_after_minutes: float = Field(
        60, ge=0, description="Minutes until an open alert tells of further files or runs."
    )
    give_up_after_hours: float = Field(
        72, gt=0, description="Hours after which a message that can't be sent is given up."
    )
    page_url: HttpUrl | None = Field(
        None, description="Kraken's page, for links in messages and in Dagit."
    )
    dagit_url: HttpUrl | None = Field(None, description="Dagit, for links in messages.")
    health_urls: list[HttpUrl] = Field(
        default_factory=list,
        description="Pages that must answer with 200, like the page's own `/healthz`.",
    )
    heartbeat_url_variable: VariableName | None = Field(
        None,
        description="The environment variable that holds a URL which is asked after each good "
        "look: a service that misses it tells you that Kraken's alerts are silent.",
    )
    thresholds: Thresholds = Field(
        default_factory=Thresholds, description="From when on something is an alert."
    )

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)
