"""What a process may take that reads files which Kraken did not write."""

from pydantic import Field

from kraken_dagster.model.errors import ReadingEnded
from kraken_dagster.model.strict import Strict


class ReadingLimits(Strict):
    """Limits for reading one file, or one result folder."""

    memory_mb: int = Field(
        4096, ge=256, description="Megabytes of memory, of the process and all that it starts."
    )
    cpu_s: int = Field(300, ge=1, description="Seconds of processor time.")
    written_mb: int = Field(
        1024,
        ge=1,
        description="Megabytes that it may write to one file, as a function of the site's own may.",
    )
    processes: int = Field(
        64, ge=1, description="Processes that it may start, as a function of the site's own may."
    )


def too_much_memory(path: object = None) -> ReadingEnded:
    return ReadingEnded(
        "Reading takes more memory than allowed",
        file=path,
        next_step="find out what made this file. If it is as it should be, raise "
        "`reading_limits.memory_mb` in instruments.yaml.",
    )
