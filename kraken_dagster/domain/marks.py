"""What a look at a raw file's members shows of their content without reading it."""

import hashlib
from collections.abc import Mapping

Look = tuple[int, int, int]  # size in bytes, and the times of the last write and change in ns


def marks_of(looks: Mapping[str, Look]) -> str:
    """The same as long as nobody has written to a member, as far as a look can show it.

    One digest, whatever the number of members: a record has room for that.
    """
    found = hashlib.sha256()
    for name, look in sorted(looks.items()):
        found.update(f"{name}\0{look}\0".encode())
    return found.hexdigest()
