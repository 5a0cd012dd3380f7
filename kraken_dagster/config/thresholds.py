"""The section `alerts.thresholds` of instruments.yaml. Where AlphaKraken has such an alert, the
default is AlphaKraken's (`monitoring/alerts/config.py` there)."""

from typing import Annotated

from pydantic import Field, StringConstraints

from kraken_dagster.model.strict import Strict

_InstrumentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]


class Thresholds(Strict):
    """From when on something is an alert. GB are 1024**3 bytes."""

    stale_minutes: float = Field(
        15, gt=0, description="An instrument, disk or engine that wasn't looked at for longer."
    )
    purge_stale_hours: float = Field(
        24, gt=0, description="No purge for longer, where one is configured."
    )
    instrument_free_gb: float = Field(
        200, ge=0, description="Less free space on an instrument's disk."
    )
    backup_free_gb: float = Field(500, ge=0, description="Less free space on the backup store.")
    output_free_gb: float = Field(300, ge=0, description="Less free space on the output.")
    local_free_gb: float = Field(
        10, ge=0, description="Less free space on this machine, where Kraken's home is."
    )
    pile_up_files: int = Field(
        5, ge=0, description="More files of an instrument in one status that is not final."
    )
    pile_up_quanting: int = Field(10, ge=0, description="The same for the status `quanting`.")
    not_moved_files: int = Field(
        30, ge=0, description="More files that were not archived on the instrument."
    )
    not_moved_hours: float = Field(
        6, ge=0, description="Only files older than this count for `not_moved_files`."
    )
    stall_instruments: list[_InstrumentId] = Field(
        default_factory=list,
        description="Instruments that measure around the clock, so that silence is an alert.",
    )
    stall_hours: float = Field(2, gt=0, description="No new file on such an instrument.")
    queue_stop_pauses: float = Field(
        3, gt=0, description="A pause of more than so many gradients: the queue has stopped."
    )
    queue_stop_gradient_hours: float = Field(
        2.5, gt=0, description="Two files further apart than this are of two queues."
    )
    pump_rise_bar: float = Field(
        20, gt=0, description="A greater rise of the pump's pressure over `pump_window` files."
    )
    pump_window: int = Field(5, ge=1, description="Files between the two that are compared.")
    pump_bar: float = Field(480, gt=0, description="A pressure from which on a file is named.")
    pump_days: float = Field(1, gt=0, description="Files of so many days are looked at.")
    error_failures: int = Field(
        3,
        ge=1,
        description="A file whose failed step is tried again by itself is told of after so many "
        "failures in a row; one that waits for a person at once.",
    )
    jobs_failed_files: int = Field(
        1,
        ge=1,
        description="So many files of an instrument, or more, of which a job failed and was not "
        "tried again.",
    )
    jobs_failed_hours: float = Field(
        24, gt=0, description="A job that failed longer ago is no news, and not counted any more."
    )
    no_backup_hours: float = Field(
        24, gt=0, description="A file that is known for longer and has no backup."
    )
    sensor_silent_minutes: float = Field(
        10, gt=0, description="A sensor that is on and didn't tick for longer."
    )
    daemon_silent_minutes: float = Field(
        5, gt=0, description="No sign of life of Dagster's daemon for longer."
    )
    jobs_unknown_minutes: float = Field(
        60, gt=0, description="A job that its engine doesn't know for longer."
    )
    clock_difference_s: float = Field(
        300, gt=0, description="A greater difference of an instrument's clock from ours, in s."
    )
    disk_full_days: float = Field(
        7, gt=0, description="A disk that is full in fewer days, by the last week's trend."
    )
    expires_days: float = Field(30, gt=0, description="A certificate that expires in fewer days.")
