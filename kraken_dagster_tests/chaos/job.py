"""The program that every job of a fault run is: it notes what it was given, and leaves metrics.

    job.py LEDGER RAW OUTPUT

Opens a Bruker's index as a careless program does, so that SQLite may write beside it. Exit codes:
0 metrics written; 1 something can't be read or written; 7 the name contains `_FAIL_`.
"""

import hashlib
import json
import os
import random
import sqlite3
import sys
import time
from pathlib import Path


def main() -> int:
    ledger, raw, output = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    who = {
        "job": _job_name(),
        "raw_file": os.environ.get("RAW_FILE_ID", raw.name),
        "settings": os.environ.get("SETTINGS_NAME", ""),
        "pid": os.getpid(),
    }
    code = 1
    _note(ledger, "start", **who)
    try:
        main_file = raw / "analysis.tdf_bin" if raw.is_dir() else raw
        with main_file.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        _note(ledger, "saw", **who, input=str(raw), md5=digest)
        code = _work(raw, output)
    except (OSError, sqlite3.Error) as error:
        print(f"job: {error}", file=sys.stderr)
    _note(ledger, "end", **who, exit=code)
    return code


def _work(raw: Path, output: Path) -> int:
    frames = 0
    if raw.is_dir():
        with sqlite3.connect(raw / "analysis.tdf") as index:
            (frames,) = index.execute("SELECT COUNT(*) FROM Frames").fetchone()
    time.sleep(random.uniform(0.5, 6))
    if "_FAIL_" in raw.name:
        print("job: it fails, as its name says", file=sys.stderr)
        return 7
    with (output / "msqc_results.tsv").open("w") as table:
        table.write(f"ms1_scans\tgradient_length\n{frames or 5}\t21.0\n")
        table.flush()
        os.fsync(table.fileno())
    return 0


def _job_name() -> str:
    """That of the cluster, or that of the job's folder on this machine; each try has its own."""
    folder = os.environ.get("KRAKEN_LOCAL_JOB", "")
    return os.environ.get("SLURM_JOB_NAME") or os.path.basename(folder)


def _note(ledger: Path, event: str, **facts: object) -> None:
    """As `notes.Notebook` does, which would cost an import at every job."""
    line = json.dumps({"event": event, "at": time.time(), **facts}) + "\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
