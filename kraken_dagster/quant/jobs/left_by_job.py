"""What a job has left in its folders: that it began, its id, its exit code, its result."""

from kraken_dagster.engines.job_script import BEGUN_FILE, EXIT_CODE_FILE, JOB_ID_FILE
from kraken_dagster.engines.slurm_output import is_job_id
from kraken_dagster.fs.copying.part_files import set_aside
from kraken_dagster.fs.digests import exists, is_empty, output_errors
from kraken_dagster.fs.result_files import read_text
from kraken_dagster.fs.stores.marker import Role
from kraken_dagster.fs.stores.store_probe import has_room
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.quant.output_folder import metrics_of
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import opened

_NO_ROOM_BYTES = 64 * 1024


def renew_folder(services: Services, job: QuantJob) -> None:
    """Sets aside what a job that is submitted again has left."""
    with opened(services, Role.OUTPUT) as root:
        folder = services.result_folder(job, root.path)
        with output_errors(folder):
            in_the_way = exists(folder) and not is_empty(folder)
        if in_the_way:
            set_aside(folder)


def exit_code_left_by(services: Services, job: QuantJob) -> int | None:
    """The exit code that Kraken's job script wrote last; None if that very job wrote none.

    Raises:
        StoreAway, OutputUnreadable: it can't be known.
    """
    with opened(services, Role.OUTPUT) as root:
        words = read_text(
            services.result_folder(job, root.path), EXIT_CODE_FILE, limit=1000
        ).split()
    if len(words) == 3 and words[2] == job.id and words[0].isdecimal():
        return int(words[0])
    return None


def has_begun(services: Services, job: QuantJob) -> bool:
    """Whether that very job found its stores where it ran, and began.

    Raises:
        StoreAway, OutputUnreadable: it can't be known.
    """
    with opened(services, Role.OUTPUT) as root:
        text = read_text(services.result_folder(job, root.path), BEGUN_FILE, limit=1000)
    return text.split() == [job.id]


def has_result(services: Services, job: QuantJob) -> bool:
    """Whether that very job began there, and its result is complete as far as can be seen.

    Raises:
        StoreAway, OutputUnreadable: it can't be known.
    """
    if not has_begun(services, job):
        return False
    with opened(services, Role.OUTPUT) as root:
        folder = services.result_folder(job, root.path)
        with output_errors(folder):
            names = {item.name for item in folder.iterdir()}
        ours = {BEGUN_FILE, JOB_ID_FILE, EXIT_CODE_FILE, job.log_name}
        return names > ours & names and not metrics_of(services, job, folder).problems


def output_is_full(services: Services) -> bool:
    """Whether the output takes no small file, as one that is full or over its quota.

    Raises:
        StoreAway, OutputUnreadable: it can't be known.
    """
    with opened(services, Role.OUTPUT) as root, output_errors(root.path):
        return not has_room(root.path, _NO_ROOM_BYTES)


def job_id_left_by(services: Services, job: QuantJob) -> str | None:
    """The cluster's id that was written as soon as there was a job of that name.

    Raises:
        StoreAway, OutputUnreadable: it can't be known.
    """
    with opened(services, Role.OUTPUT) as root:
        words = read_text(services.result_folder(job, root.path), JOB_ID_FILE, limit=1000).split()
    if len(words) == 2 and words[1] == job.id and is_job_id(words[0]):
        return words[0]
    return None
