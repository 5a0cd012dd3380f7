"""What a cluster answers, and whether it takes a job the way that jobs go."""

from collections.abc import Iterator

from kraken_dagster.config.engines import SlurmEngine
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.engines.slurm import Slurm
from kraken_dagster.model.errors import (
    KrakenError,
    SettingsRefused,
    SubmitFailed,
)
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.resources import Resources
from kraken_dagster.operations.doctor.finding import Finding
from kraken_dagster.operations.doctor.jobs import jobs_there
from kraken_dagster.runtime.services import Services

_MOST_SKEW_S = 5.0


def engine_findings(config: KrakenConfig, services: Services) -> Iterator[Finding]:
    for name, engine in services.engines.items():
        if isinstance(engine, Slurm):
            try:
                yield from _cluster(config, name, engine, now=services.now().timestamp())
                yield from jobs_there(config, name, engine)
            except KrakenError as error:
                yield Finding("error", f"engine {name}", str(error))


def _cluster(config: KrakenConfig, name: str, engine: Slurm, *, now: float) -> Iterator[Finding]:
    """What a cluster's head node says of itself and of the roots as it sees them."""
    what = f"engine {name}"
    engine.check()
    version = engine.run(["sbatch", "--version"]).stdout.strip()
    reported = f"the head node and the controller answer: {version}"
    if greeting := engine.greeting():
        reported += f"; what a login there prints is no part of any answer: {greeting[:200]!r}"
    entry = config.engines[name]
    partition = entry.partition if isinstance(entry, SlurmEngine) else None
    if partition is not None and engine.run(["scontrol", "show", "partition", partition]).exit_code:
        yield Finding("ok", what, reported)
        yield Finding("error", what, f"there is no partition {partition!r}; `sinfo` lists them")
    else:
        yield from _trial(config, name, engine, reported)
    skew = float(engine.run(["date", "+%s"]).stdout) - now
    if abs(skew) > _MOST_SKEW_S:
        yield Finding("warning", what, f"its clock differs by {skew:.0f} s: use NTP on both")
    accounting = engine.run(["sacct", "--noheader", "--allocations", "--format=JobID"])
    if accounting.exit_code:
        words = accounting.stderr.strip()
        yield Finding("warning", what, f"no accounting, so no memory metrics either: {words!r}")
    for root, right in (("backup", "-r"), ("output", "-w"), ("settings", "-r"), ("software", "-r")):
        location = getattr(config.locations, root)
        if location is not None and engine.run(["test", right, location.cluster_path]).exit_code:
            can = "write" if right == "-w" else "read"
            yield Finding(
                "error",
                what,
                f"its user can't {can} locations.{root} there: {location.cluster_path!r}; mount "
                "it, give the right, or set `cluster` to its path there",
            )


def _trial(config: KrakenConfig, name: str, engine: Slurm, reported: str) -> Iterator[Finding]:
    """Whether sbatch would take a job that is sent as all are, and what it says."""
    what, entry = f"engine {name}", config.engines[name]
    resources = entry.resources if isinstance(entry, SlurmEngine) else Resources()
    output = config.locations.output.cluster_path
    spec = JobSpec("kraken-doctor", ("true",), {"OUTPUT_PATH": output}, output, resources)
    try:
        answer = engine.try_submission(spec)
    except (SubmitFailed, SettingsRefused) as error:
        yield Finding("ok", what, reported)
        yield Finding("error", what, str(error))
        return
    words = f"{answer.stdout} {answer.stderr}".strip()[-1000:]
    if not answer.exit_code:
        yield Finding("ok", what, f"{reported}; sbatch would take a job: {words!r}")
        return
    yield Finding("ok", what, reported)
    yield Finding(
        "error",
        what,
        f"sbatch would refuse a job: {words!r}; mend what it complains of: the engine in "
        "instruments.yaml, or what the user's login there sets for sbatch",
    )
