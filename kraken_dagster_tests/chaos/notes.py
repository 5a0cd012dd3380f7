"""Notes that outlive whoever takes them: a JSON object a line, flushed to the disk one by one.

The instruments, the faults, the witness and every job's program write them. The system's own disk
holds them, which no fault touches.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

Note = dict[str, Any]


class Notebook:
    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **facts: Any) -> None:
        """Appends one line in one write, so that those of several writers stay apart."""
        line = json.dumps({"event": event, "at": time.time(), **facts}) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self.path, flags, 0o666)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> list[Note]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]
