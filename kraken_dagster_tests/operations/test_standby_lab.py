"""Two instances as processes, each with a MongoDB, over one set of folders: one stands in."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from kraken_dagster.model.raw_file import InstrumentFileStatus, Status
from kraken_dagster_tests.support.helpers import wait_until
from kraken_dagster_tests.support.laboratory import PATIENCE_S, Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.nightly,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]
BIG_MB = 300
MOVED = InstrumentFileStatus.MOVED


@pytest.fixture
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Lab]]:
    folder = tmp_path_factory.mktemp("stand_in")
    first, second = (Lab(folder / name, root=folder) for name in ("first", "second"))
    second.configure(move_files=False, remove_files=False, output_exists_mode="associate")
    _move_at_once(first)
    yield first, second
    for lab in (first, second):
        lab.kill_everything()
        print(lab.log[-5000:])  # for who reads of a failed test
    for path in folder.rglob("big*.raw"):
        path.unlink()


def _move_at_once(lab: Lab) -> None:
    settings = yaml.safe_load(lab.config_path.read_text())
    settings["defaults"]["file_move_delay_m"] = 0
    lab.config_path.write_text(yaml.safe_dump(settings))


def _digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """MD5 of every file of these raw files, by its path within `folder`."""
    roots = [folder / name for name in names]
    paths = [path for root in roots for path in (root, *root.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in paths
    }


def _backed_up(lab: Lab) -> dict[str, int]:
    """Every file of the backup, with its inode: another one if it was written again."""
    return {
        str(path.relative_to(lab.backup)): path.stat().st_ino
        for path in lab.backup.rglob("*")
        if path.is_file()
    }


def _jobs(*labs: Lab) -> int:
    folders = [lab.home / "jobs" / "local" for lab in labs]
    return sum(len(list(folder.iterdir())) for folder in folders if folder.exists())


def _wait_until_moved(lab: Lab, names: Sequence[str]) -> None:
    def moved() -> bool:
        files = [lab.file(name) for name in names]
        return all(item and item.instrument_file_status is MOVED for item in files)

    wait_until(moved, f"{list(names)} are archived", timeout_s=PATIENCE_S, every_s=0.5)


def test_a_second_instance_stands_in_and_hands_back(labs: tuple[Lab, Lab]) -> None:
    first, second = labs
    thermo, bruker = (first.folders / "instruments" / name for name in ("thermo1", "bruker1"))
    first.up()
    before = [first.add_thermo("before.raw")]
    first.wait_until_done(before)
    _wait_until_moved(first, before)
    big = first.add_thermo("big.raw", megabytes=BIG_MB)
    first.mid_copy(at_least_bytes=20_000_000)
    first.kill_everything()

    second.up()
    meanwhile = [first.add_thermo("meanwhile.raw"), first.add_bruker("meanwhile.d")]
    names = [big, *meanwhile]
    written = _digests(thermo, names) | _digests(bruker, names)
    second.wait_until_done(names)
    assert second.file("before.raw") is None
    assert [name for name in names if second.file(name).instrument_file_status is MOVED] == []
    assert _digests(thermo, names) | _digests(bruker, names) == written
    assert second.stop() == 0
    second.wait_until_ended()
    backup = _backed_up(first)
    assert _jobs(first, second) == 4

    first.configure(consider_old_files_acquired=True, output_exists_mode="associate")
    first.up()
    first.wait_until_done([*before, *names])
    _wait_until_moved(first, names)
    assert _backed_up(first) == backup  # written once, and no leftover beside it
    assert _jobs(first, second) == 4  # each file was processed once
    for name in (*before, *names):
        assert len(first.store.metrics.of(name)) == 1
    aside = (thermo / "Backup", bruker / "Backup")
    assert _digests(aside[0], names) | _digests(aside[1], names) == written
    assert first.status(big) is Status.DONE
