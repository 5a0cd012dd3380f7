"""The faults: each does its harm to real parts, and returns what undoes it."""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from kraken_dagster_tests.chaos.facts import PART_PREFIX, content_of, is_ours
from kraken_dagster_tests.chaos.laboratory import ChaosLab
from kraken_dagster_tests.chaos.mounts import Disk, run
from kraken_dagster_tests.chaos.plan import PlannedFault
from kraken_dagster_tests.support.files import files_below

Undo = Callable[[], None]
PROGRAMS = {
    "daemon": "dagster-daemon",
    "web server": "kraken_dagster.dagit",
    "code server": "dagster api grpc",
    "runs": "execute_run",
    "MongoDB": "secantusd-py",
}
ERRORS = ("EIO", "ESTALE", "EACCES", "EHOSTDOWN", "ENOTCONN", "EROFS")
PROGRAM = b"/chaos/job.py"
FILLER = "filler-of-a-fault-run"
_KEPT_FREE = 4096


class NotNow(Exception):
    """Nothing is there that this fault could act on."""


def begin(lab: ChaosLab, fault: PlannedFault, chance: random.Random) -> Undo:
    """Does the harm.

    Raises:
        NotNow, OSError: nothing was done.
    """
    if fault.target:
        return _on_mount(lab, lab.disks[fault.target], fault.kind)
    verb, _, whom = fault.kind.partition(" ")
    if verb in ("kill", "stop") and whom in PROGRAMS:
        return _signalled(_found(lab, PROGRAMS[whom]), stops=verb == "stop")
    return _OTHERS[fault.kind](lab, chance)


def nothing() -> None:
    """Undoes what mends itself, or what is to be mended by Kraken."""


def _on_mount(lab: ChaosLab, disk: Disk, kind: str) -> Undo:
    if kind == "hangs":
        disk.signal_server(signal.SIGSTOP)
        return lambda: disk.signal_server(signal.SIGCONT)
    if kind in ERRORS:
        disk.control.write_text(kind)
        return disk.control.unlink
    if kind == "away":
        disk.hide()
        return disk.show
    if kind == "full":
        return fill(disk.root)
    if kind == "read-only":
        return _read_only(disk)
    disk.cover("tmpfs", "mode=0755,size=64m")
    if kind == "another disk":
        (disk.mountpoint / "of somebody else").mkdir()
        (disk.mountpoint / "of somebody else" / "notes.txt").write_text("another disk")
    return disk.uncover


def _read_only(disk: Disk) -> Undo:
    """As the server says it of a share; of a disk here, the kernel."""
    if disk.through_fuse:
        disk.control.write_text("EROFS")
        return disk.control.unlink
    run("mount", "-o", "remount,bind,ro", disk.mountpoint)
    return lambda: run("mount", "-o", "remount,bind,rw", disk.mountpoint)


def fill(root: Path, *, keep_free: int = _KEPT_FREE) -> Undo:
    """Fills a disk but for so many bytes."""
    free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
    filler = root / FILLER
    try:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(_KEPT_FREE, free - keep_free))
    except OSError:  # somebody else took the room meanwhile: what was allocated must not stay
        filler.unlink(missing_ok=True)
        raise
    return filler.unlink


def _home_full(lab: ChaosLab, chance: random.Random) -> Undo:
    return fill(lab.home)


def _found(lab: ChaosLab, program: str) -> list[int]:
    pids = [pid for pid, line in lab.processes().items() if program in line]
    if not pids:
        raise NotNow(f"no {program} runs")
    return pids


def _signalled(pids: list[int], *, stops: bool) -> Undo:
    _signal(pids, signal.SIGSTOP if stops else signal.SIGKILL)
    return lambda: _signal(pids, signal.SIGCONT) if stops else None


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill_everything(lab: ChaosLab, chance: random.Random) -> Undo:
    lab.kill_everything()
    return lab.up


def _restart(lab: ChaosLab, chance: random.Random) -> Undo:
    lab.stop()
    return lab.up


def _delete_dagsters_home(lab: ChaosLab, chance: random.Random) -> Undo:
    """While it runs; who deleted it restarts Kraken, as docs/operations.md says."""
    shutil.rmtree(lab.home / "dagster", ignore_errors=True)

    def restart() -> None:
        lab.stop()
        shutil.rmtree(lab.home / "dagster", ignore_errors=True)
        lab.up()

    return restart


def _jobs(lab: ChaosLab) -> Iterator[tuple[int, bool, str]]:
    """Processes of jobs: id, whether it is the program and not its shell, raw file id."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
            if os.fsencode(lab.folder) + b"/" not in command:
                continue
            for line in environment:
                if line.startswith(b"RAW_FILE_ID="):
                    is_program = PROGRAM in command
                    yield int(folder.name), is_program, os.fsdecode(line.partition(b"=")[2])


def _on_job(lab: ChaosLab, chance: random.Random, number: signal.Signals, *, program: bool) -> Undo:
    found = [(pid, raw_file) for pid, is_it, raw_file in _jobs(lab) if is_it == program]
    if not found:
        raise NotNow("no job is at work")
    pid, raw_file = chance.choice(found)
    if number is signal.SIGKILL:
        lab.notes.write("job hurt", raw_file=raw_file)
    _signal([pid], number)
    return lambda: _signal([pid], signal.SIGCONT) if number is signal.SIGSTOP else None


def _kill_shell(lab: ChaosLab, chance: random.Random) -> Undo:
    return _on_job(lab, chance, signal.SIGKILL, program=False)


def _kill_program(lab: ChaosLab, chance: random.Random) -> Undo:
    return _on_job(lab, chance, signal.SIGKILL, program=True)


def _stop_job(lab: ChaosLab, chance: random.Random) -> Undo:
    return _on_job(lab, chance, signal.SIGSTOP, program=True)


def _flip_in_backup(lab: ChaosLab, chance: random.Random) -> Undo:
    """Only while the original still stands in the instrument's folder, so that nothing is lost."""
    root = lab.disks["backup"].root
    chosen = [
        path
        for path in sorted(files_below(root))
        if path.suffix == ".raw"
        and not is_ours(str(path.relative_to(root)))
        and (lab.disks[path.parts[len(root.parts)]].root / path.name).exists()
    ]
    if not chosen:
        raise NotNow("no backup of a file that is still in its folder")
    path = chance.choice(chosen)
    _flip(path, chance)
    lab.notes.write("flipped", path=str(path.relative_to(root)), md5=content_of(path).md5)
    return nothing


def _flip_in_part(lab: ChaosLab, chance: random.Random) -> Undo:
    root = lab.disks["backup"].root
    parts = [path for path in files_below(root) if path.name.startswith(PART_PREFIX)]
    if not parts:
        raise NotNow("no copy is at work")
    _flip(chance.choice(parts), chance)
    return nothing


def _flip(path: Path, chance: random.Random) -> None:
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            at = chance.randrange(size) if size else 0
            file.seek(at)
            found = file.read(1)
            if found:
                file.seek(at)
                file.write(bytes([found[0] ^ 1]))
    except FileNotFoundError as error:
        raise NotNow("the copy ended meanwhile") from error


_OTHERS: dict[str, Callable[[ChaosLab, random.Random], Undo]] = {
    "kill everything": _kill_everything,
    "restart": _restart,
    "kill job's shell": _kill_shell,
    "kill job's program": _kill_program,
    "stop job": _stop_job,
    "flip in backup": _flip_in_backup,
    "flip in part": _flip_in_part,
    "home full": _home_full,
    "delete Dagster's home": _delete_dagsters_home,
}
