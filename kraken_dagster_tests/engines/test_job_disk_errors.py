"""A job's end is written down although the disks that take it give errors for a while."""

import errno
from types import SimpleNamespace

import pytest

from kraken_dagster.fs.processes import job_keeper
from kraken_dagster.fs.processes.job_keeper import ENDED, EXIT_CODE, EXIT_CODE_BYTES
from kraken_dagster_tests.file_systems.test_share_errors import erring

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_the_end_of_a_job_is_written_down_once_its_disk_answers_again(
    tmp_path, monkeypatch, number
):
    """Neither its own folder nor the output can be looked at when its program ends."""
    disk = tmp_path / "disk"
    for name in ("job", "output"):
        (disk / name).mkdir(parents=True)
    (disk / "job" / EXIT_CODE).write_bytes(b" " * EXIT_CODE_BYTES)
    keeper = job_keeper._Keeper(disk / "job", disk / "output", "j")
    with erring(disk) as share:
        share.answers("getattr", "/", number)
        # its own name only: other threads of the tests sleep, too
        monkeypatch.setattr(job_keeper, "time", SimpleNamespace(sleep=lambda _: share.is_well()))
        keeper._write_down(3)
        assert (disk / "job" / EXIT_CODE).read_text().split() == ["3", ENDED]
