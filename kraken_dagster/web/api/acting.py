"""What an operator may have done: the same steps as the commands and the page take."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from kraken_dagster.alerts.actions import acknowledge as acknowledge_step
from kraken_dagster.alerts.actions import row as alert_row
from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.model.errors import InputRefused, LeaseHeld
from kraken_dagster.model.quality import AnnotationKind
from kraken_dagster.operations.process_again import process_again
from kraken_dagster.operations.retry import retry as retry_step
from kraken_dagster.projects.settings import settings_by
from kraken_dagster.quality.statements import annotate as annotate_step
from kraken_dagster.web.api.endpoint import Asked
from kraken_dagster.web.operate.actions import MODES, VERIFIED, verified
from kraken_dagster.web.operate.errands import MOST_WAITING, Errands
from kraken_dagster.web.queries.period import Moment
from kraken_dagster.web.queries.plain import plain

_MOST_SETTINGS = 20
_Reference = Annotated[str, Field(min_length=1, max_length=300)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Nothing(_Body):
    pass


class Retry(_Body):
    mode: str | None = Field(
        None,
        json_schema_extra={"enum": [*MODES, None]},
        description="What is to become of results that are there: then also a file that has ended "
        "well is processed once more. None: only what failed; with `settings`, `add`.",
    )
    settings: list[_Reference] | None = Field(
        None,
        min_length=1,
        max_length=_MOST_SETTINGS,
        description="Process it once more with these settings, whatever its project uses: `NAME` "
        "(the newest version that is not archived) or `NAME:VERSION`, one for each software type. "
        "Only a file that has ended, and is backed up. None: those of its project.",
    )


class Annotate(_Body):
    instrument: str = Field(max_length=300, description="The id of an instrument.")
    kind: AnnotationKind = Field(description="What happened.")
    text: str = Field(pattern=r"\S", max_length=2_000, description="For people.")
    begins_at: Moment | None = Field(None, description="None: now.")
    ends_at: Moment | None = Field(None, description="Runs in between are not judged.")
    new_guide_set: StrictBool = Field(False, description="The first good runs after it make one.")


def retry(asked: Asked) -> Any:
    services, mode, named = asked.services, _mode(asked.body.mode), asked.body.settings
    if named is None:
        _, follows = retry_step(services, asked.id, asked_by=asked.by, mode=mode)
    else:
        settings = [settings_by(services, item) for item in named]
        _, follows = process_again(
            services, asked.id, settings, asked_by=asked.by, mode=mode or OutputExistsMode.ADD
        )
    return {"file": asked.id, "asked_for": follows}


def _mode(name: str | None) -> OutputExistsMode | None:
    if name is None:
        return None
    if name not in MODES:
        raise InputRefused(
            "There is no such mode", expected=", ".join(MODES), found=name, next_step="name one."
        )
    return MODES[name]


def verify(asked: Asked) -> Any:
    errands: Errands = asked.request.app.state.errands
    services, file_id, by = asked.services, asked.id, asked.by
    services.store.raw_files.current(file_id)
    if not errands.begin(file_id, VERIFIED, lambda: verified(services, file_id, by)):
        raise LeaseHeld(
            "Too many actions are waiting",
            found=f"{MOST_WAITING} wait",
            next_step="ask again later.",
        )
    return {"file": file_id, "asked_for": f"{VERIFIED}; `errand` of the file tells what is found"}


def annotate(asked: Asked) -> Any:
    body, known = asked.body, asked.services.config.instruments
    if body.instrument not in known:
        raise InputRefused(
            "There is no such instrument",
            expected=", ".join(known),
            found=body.instrument,
            next_step="name one of instruments.yaml.",
        )
    made = annotate_step(
        asked.services,
        body.instrument,
        body.kind,
        body.text,
        begins_at=body.begins_at,
        ends_at=body.ends_at,
        new_guide_set=body.new_guide_set,
        by=asked.by,
    )
    return plain(made)


def acknowledge(asked: Asked) -> Any:
    found = acknowledge_step(asked.services, asked.id, by=asked.by)
    return plain(alert_row(asked.services, found))
