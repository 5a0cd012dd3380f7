"""What no S3 server takes is found out before one is asked, and is not tried for ever."""

import pytest

from kraken_dagster.backup.backup import BackupOptions, back_up
from kraken_dagster.model.errors import FileSystemLimit
from kraken_dagster.model.offsite import OffsiteStatus
from kraken_dagster.model.raw_file import BackupStatus
from kraken_dagster.offsite.upload import upload_file
from kraken_dagster_tests.support.helpers import acquire, finish

NOWHERE = "http://127.0.0.1:9"


def test_what_s3_can_not_take_is_tried_once_and_told(copying_to):
    laboratory = copying_to(NOWHERE, bucket="kraken")
    acquire(laboratory, "bruker1", "x.d")
    folder = laboratory.instrument_folder("bruker1") / "x.d"
    deep = folder.joinpath(*[letter * 220 for letter in "abcde"])
    deep.mkdir(parents=True)
    (deep / "method.xml").write_text("x")
    finish(laboratory, "bruker1")
    back_up(laboratory, "x.d", run_id="backup", options=BackupOptions())

    def due() -> list[str]:
        found = laboratory.store.offsite.due("bruker1", laboratory.now(), limit=10)
        return [item.id for item in found]

    assert due() == ["x.d"]
    with pytest.raises(FileSystemLimit, match="longer than S3 takes"):
        upload_file(laboratory, None, "x.d", run_id="upload")
    after = laboratory.store.raw_files.get("x.d")
    assert after.backup_status is BackupStatus.UPLOAD_FAILED
    assert after.offsite is not None
    assert (after.offsite.status, after.offsite.retry_at) == (OffsiteStatus.FAILED, None)
    laboratory.now.forward(days=1)
    assert due() == []
    # A backup that is made anew has other members, perhaps.
    changes = {"backup_status": BackupStatus.COPYING_DONE}
    laboratory.store.raw_files.update(after, changes, now=laboratory.now(), note="made anew")
    assert due() == ["x.d"]
