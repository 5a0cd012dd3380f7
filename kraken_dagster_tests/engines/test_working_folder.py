"""What a job gets to see of a backup, by what its user could do to it; on the machine that runs it.

The users are root, the owner of the files without any further right, and somebody else.
"""

import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kraken_dagster.engines.job_script import full_command, with_exports
from kraken_dagster.engines.local import LocalJobs
from kraken_dagster.fs.stores.read_only import protect
from kraken_dagster.model.files.vendors import Vendor
from kraken_dagster.model.jobs.job import JobSpec
from kraken_dagster.model.jobs.report import JobState
from kraken_dagster_tests.backup.copying.copying_cases import (
    BY_RIGHTS,
    NAMES,
    content,
    unavailable,
    write,
)
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS, wait_until

NOBODY = 65534
SOMEBODY_ELSE = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
USERS = {"root": (), "owner": BY_RIGHTS}
# What a program may try on the path that it is given: everything.
ALTER = """
import os, sys
top = sys.argv[1]
paths = [os.path.join(parent, name) for parent, folders, files in os.walk(top, topdown=False)
         for name in (*files, *folders)] + [top]
for path in paths:
    def append(): open(path, "ab").write(b"x")
    def overwrite(): open(path, "r+b").write(b"overwritten")
    def truncate(): os.truncate(path, 0)
    def add(): open(path + "-shm", "wb").write(b"x")
    def rename(): os.rename(path, path + ".renamed"); os.rename(path + ".renamed", path)
    def replace(): open(path + ".new", "wb").write(b"x"); os.replace(path + ".new", path)
    def remove(): os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
    for one in (append, overwrite, truncate, add, rename, replace, remove):
        try:
            one()
            print(one.__name__, os.path.basename(path))
        except OSError:
            pass
"""
COUNT = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])\n"
    "print(*c.execute('select count(*) from t').fetchone())"
)


def database(path: Path, *, rows: int, in_wal: int = 0, wal_mode: bool = False) -> Path:
    """A table of so many rows, of which the last are only in the -wal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name("making")
    connection = sqlite3.connect(making)
    if in_wal or wal_mode:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma wal_autocheckpoint=0")
    connection.execute("create table t(id integer primary key)")
    connection.executemany("insert into t values(?)", [(n,) for n in range(rows - in_wal)])
    connection.commit()
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.executemany("insert into t values(?)", [(n,) for n in range(rows - in_wal, rows)])
    connection.commit()
    if in_wal:
        path.with_name(f"{path.name}-wal").write_bytes(making.with_name("making-wal").read_bytes())
    path.write_bytes(making.read_bytes())
    connection.close()
    making.unlink()
    return path


@dataclass
class Bench:
    """A backup, closed to writing, and jobs that get its path."""

    folder: Path
    temporary: Path

    @property
    def backup(self) -> Path:
        return self.folder / "backup"

    def make(self, vendor: Vendor, name: str | None = None) -> Path:
        path = self.backup / (name or NAMES[vendor])
        if vendor is Vendor.BRUKER:
            database(path / "analysis.tdf", rows=50)
            write(path / "analysis.tdf_bin", 300_000)
            write(path / "1.m" / "inner" / "x.method", 20_000)
            database(path / "1.m" / "settings.sqlite", rows=3)
        else:
            write(path, 300_000)
        if vendor is Vendor.SCIEX:
            write(path.with_name(f"{path.name}.scan"), 50_000)
        self.close()
        return path

    def close(self) -> None:
        protect(self.backup.rglob("*"))

    def spec(self, raw_file: Path, *command: str, vendor: Vendor = Vendor.BRUKER) -> JobSpec:
        copied = (str(raw_file), f"{raw_file}.scan") if vendor is Vendor.SCIEX else ()
        environment = {"RAW_FILE_PATH": str(raw_file)}
        output = str(self.folder / "output")
        return JobSpec("job", command, environment, output, working_copy=copied)

    def run(
        self, spec: JobSpec, *, user: tuple[str, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """The job's command, as an engine starts it, by a user of this machine."""
        environment = {**os.environ, **spec.environment, "TMPDIR": str(self.temporary)}
        command = [*user, *full_command(spec)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="surrogateescape"
        )

    def python(
        self, script: str, raw_file: Path, *arguments: str, user: tuple[str, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """A program that gets the raw file's path and those of files in it."""
        given = arguments or (str(raw_file),)
        spec = self.spec(raw_file, "/usr/bin/env", "python3", "-c", script, *given)
        return self.run(spec, user=user)

    def working_folders(self) -> list[str]:
        return [str(path) for path in self.temporary.glob("kraken-*/*")]

    def facts(self) -> dict[str, tuple[int, int, int]]:
        """All of the backup but its bytes: inode, mode and mtime in ns."""
        paths = [self.backup, *sorted(self.backup.rglob("*"))]
        found = {str(path): path.lstat() for path in paths}
        return {name: (it.st_ino, it.st_mode, it.st_mtime_ns) for name, it in found.items()}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Below a folder that any user of the machine reaches; pytest's are closed to them."""
    made = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True)
    folder = Path(made.stdout.strip())
    folder.chmod(0o755)
    temporary = folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    (folder / "backup").mkdir()
    yield Bench(folder, temporary)
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    subprocess.run(["rm", "-rf", folder], check=True)


def needs_users() -> None:
    if os.geteuid() != 0:
        unavailable("only root can start a job as somebody else")


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
@pytest.mark.parametrize("vendor", list(Vendor), ids=str)
def test_whatever_a_job_tries_on_its_raw_file_the_backup_is_as_it_was(
    bench: Bench, vendor: Vendor, user: tuple[str, ...]
) -> None:
    raw_file = bench.make(vendor)
    before, facts = content(bench.backup), bench.facts()
    command = ("/usr/bin/env", "python3", "-c", ALTER, str(raw_file))
    found = bench.run(bench.spec(raw_file, *command, vendor=vendor), user=user)
    assert (found.returncode, found.stderr) == (0, "")
    assert "replace" in found.stdout  # it worked, on what was the job's own
    assert "remove" in found.stdout
    assert content(bench.backup) == before
    assert bench.facts() == facts
    assert bench.working_folders() == []


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
def test_a_job_of_the_local_engine_leaves_the_backup_as_it_was(
    bench: Bench, user: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(bench.temporary))
    raw_file = bench.make(Vendor.BRUKER)
    before, facts = content(bench.backup), bench.facts()
    jobs = LocalJobs(bench.folder / "jobs")
    jobs.submit(bench.spec(raw_file, *user, sys.executable, "-c", ALTER, str(raw_file)))
    wait_until(lambda: jobs.states(["job"])["job"].ended, "the job ends")
    assert jobs.states(["job"])["job"].state is JobState.SUCCEEDED
    assert (content(bench.backup), bench.facts()) == (before, facts)
    assert bench.working_folders() == []


def test_the_owner_gets_copies_of_databases_and_links_to_all_else(bench: Bench) -> None:
    raw_file = bench.make(Vendor.BRUKER)
    script = 'cd -- "$RAW_FILE_PATH" && pwd && find . -printf "%y %p %l\\n" | LC_ALL=C sort'
    found = bench.run(bench.spec(raw_file, "/bin/sh", "-c", script), user=BY_RIGHTS)
    assert found.stderr == ""
    place, *lines = found.stdout.splitlines()
    assert place.startswith(str(bench.temporary))
    assert lines == [
        "d . ",
        "d ./1.m ",
        "d ./1.m/inner ",
        "f ./1.m/settings.sqlite ",
        "f ./analysis.tdf ",
        f"l ./1.m/inner/x.method {raw_file}/1.m/inner/x.method",
        f"l ./analysis.tdf_bin {raw_file}/analysis.tdf_bin",
    ]


def test_kraken_rawqc_which_writes_nothing_and_follows_no_link_reads_the_backup(bench) -> None:
    raw_file = bench.make(Vendor.BRUKER)
    spec = bench.spec(raw_file, "kraken-rawqc", str(raw_file), "out")
    assert full_command(spec) == ["kraken-rawqc", str(raw_file), "out"]
    other = bench.spec(raw_file, "/site/kraken-rawqc", str(raw_file), "out")
    assert full_command(other)[0] == "/bin/bash"


def test_root_gets_copies_of_all_since_a_link_lets_root_write(bench: Bench) -> None:
    raw_file = bench.make(Vendor.BRUKER)
    found = bench.run(
        bench.spec(raw_file, "/bin/sh", "-c", 'find "$RAW_FILE_PATH" -type l; ls "$1"', "sh", "/")
    )
    assert (str(raw_file) in found.stdout, found.stderr) == (os.geteuid() != 0, "")


@pytest.mark.parametrize("vendor", [Vendor.THERMO, Vendor.BRUKER], ids=str)
def test_who_can_not_alter_the_backup_works_on_the_backup_itself(
    bench: Bench, vendor: Vendor
) -> None:
    needs_users()
    raw_file = bench.make(vendor)
    script = 'printf "%s\\n%s" "$1" "$RAW_FILE_PATH"'
    spec = bench.spec(raw_file, "/bin/sh", "-c", script, "sh", f"--f={raw_file}")
    found = bench.run(spec, user=SOMEBODY_ELSE)
    assert found.stdout.splitlines() == [f"--f={raw_file}", str(raw_file)]
    assert list(bench.temporary.iterdir()) == []


@pytest.mark.parametrize("user", [*USERS.values(), SOMEBODY_ELSE], ids=[*USERS.keys(), "other"])
@pytest.mark.parametrize(("in_wal", "wal_mode"), [(4900, True), (0, True), (0, False)])
def test_a_database_is_read_in_full_and_stays_as_it_was(
    bench: Bench, user: tuple[str, ...], in_wal: int, wal_mode: bool
) -> None:
    """One in WAL mode doesn't even open in a folder that can't be written."""
    needs_users()
    raw_file = bench.backup / "s.d"
    index = database(raw_file / "analysis.tdf", rows=5000, in_wal=in_wal, wal_mode=wal_mode)
    write(raw_file / "analysis.tdf_bin", 10_000)
    bench.close()
    before, facts = content(bench.backup), bench.facts()
    found = bench.python(COUNT, raw_file, str(index), user=user)
    assert (found.stdout, found.stderr) == ("5000\n", "")
    assert (content(bench.backup), bench.facts()) == (before, facts)
    assert bench.working_folders() == []


def test_a_journal_that_waits_to_be_rolled_back_is_rolled_back_in_a_copy(bench: Bench) -> None:
    needs_users()
    raw_file = bench.backup / "s.d"
    index = database(raw_file / "analysis.tdf", rows=50)
    crash = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('pragma cache_size=1'); c.execute('begin')\n"
        "c.execute('with recursive n(x) as (select 100 union all select x + 1 from n"
        " where x < 90000) insert into t select x from n'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", crash, index], check=True)
    assert index.with_name("analysis.tdf-journal").stat().st_size > 0
    bench.close()
    before = content(bench.backup)
    found = bench.python(COUNT, raw_file, str(index), user=SOMEBODY_ELSE)
    assert (found.stdout, found.stderr) == ("50\n", "")
    assert content(bench.backup) == before


@pytest.mark.parametrize("stem", HOSTILE_STEMS)
@pytest.mark.parametrize("vendor", list(Vendor), ids=str)
def test_whatever_names_there_are_the_job_finds_its_files(
    bench: Bench, vendor: Vendor, stem: str
) -> None:
    raw_file = bench.make(vendor, stem + Path(NAMES[vendor]).suffix)
    inner = raw_file
    if vendor is Vendor.BRUKER:
        inner = write(raw_file / f"{stem}.m" / stem / f"{stem}.bin", 3000)
        database(inner.with_name(f"{stem}.sqlite"), rows=2)
        bench.close()
    before = content(bench.backup)
    script = 'cat -- "$1" && printf x >> "$2" && test -w "$RAW_FILE_PATH"'
    spec = bench.spec(raw_file, "/bin/sh", "-c", script, "sh", str(inner), f"{inner}.sqlite")
    found = subprocess.run(
        full_command(spec),
        env={**os.environ, **spec.environment, "TMPDIR": str(bench.temporary)},
        cwd=bench.temporary,
        capture_output=True,
    )
    assert (found.stderr, found.stdout) == (b"", inner.read_bytes())
    assert content(bench.backup) == before
    assert [path.name for path in bench.temporary.iterdir()] == [
        path.name for path in bench.temporary.glob("kraken-*")
    ]


@pytest.mark.parametrize("vendor", [Vendor.THERMO, Vendor.BRUKER], ids=str)
def test_without_room_for_a_copy_the_job_gets_links_and_its_log_says_so(
    bench: Bench, vendor: Vendor
) -> None:
    needs_users()
    raw_file = bench.make(vendor)
    small = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(bench.temporary)]
    if subprocess.run(small, capture_output=True).returncode:
        unavailable("a tmpfs can't be mounted")
    try:
        found = bench.run(
            bench.spec(raw_file, "/bin/sh", "-c", 'find "$RAW_FILE_PATH" -type l -printf "%l\\n"')
        )
    finally:
        subprocess.run(["umount", "--lazy", bench.temporary], check=True)
    assert found.returncode == 0
    assert f"no room for a copy of {raw_file}" in found.stderr
    main = raw_file / "analysis.tdf_bin" if vendor is Vendor.BRUKER else raw_file
    assert str(main) in found.stdout.splitlines()


def test_a_raw_file_that_is_not_there_is_the_program_s_to_tell(bench: Bench) -> None:
    missing = bench.backup / "missing.d"
    found = bench.run(bench.spec(missing, "/bin/ls", str(missing)))
    assert (found.returncode, str(missing) in found.stderr) == (2, True)


def test_a_site_s_own_script_finds_the_path_that_it_may_write_to(bench: Bench) -> None:
    """It gets that in RAW_FILE_PATH and in CUSTOM_COMMAND, and runs but once in full."""
    raw_file = bench.make(Vendor.BRUKER, "it's a $HOME.d")
    command = ("/usr/bin/env", "python3", "-c", ALTER, str(raw_file))
    environment = {
        "RAW_FILE_PATH": str(raw_file),
        "CUSTOM_COMMAND": shlex.join(command),
        "OUTPUT_PATH": str(bench.folder),
    }
    site = (
        "#!/bin/sh\n#SBATCH --mem=1G\necho begun $#\n"
        'echo "$RAW_FILE_PATH"\neval "$CUSTOM_COMMAND" > /dev/null\nexit 5\n'
    )
    spec = JobSpec("job", command, environment, str(bench.folder))
    script = bench.folder / "script"
    script.write_bytes(with_exports(site, spec))
    script.chmod(0o755)
    before, facts = content(bench.backup), bench.facts()
    found = subprocess.run(
        [*BY_RIGHTS, script],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(bench.temporary)},
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (5, "")
    first, place = found.stdout.splitlines()
    assert (first, place.startswith(str(bench.temporary))) == ("begun 0", True)
    assert (content(bench.backup), bench.facts()) == (before, facts)
    assert bench.working_folders() == []
