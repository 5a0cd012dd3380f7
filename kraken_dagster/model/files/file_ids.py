"""The ids of raw files: the flag on a collision, and Dagster's partition keys."""

import hashlib
import re
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from kraken_dagster.model.files.vendors import MAX_NAME_BYTES, VendorRules

# Room for the longest companion ending, a manifest's ending, and a temporary name.
_NAME_MARGIN_BYTES = 24
_ENCODED_PREFIX = "%enc:"
_FLAG = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{6}-(?=.)")


def collision_flag(now: datetime) -> str:
    """`YYYYMMDD-HHMMSS-ffffff-` in UTC."""
    return now.astimezone(UTC).strftime("%Y%m%d-%H%M%S-%f-")


def flag_of(file_id: str) -> str | None:
    """The collision flag at the beginning of an id; None if there is none."""
    found = _FLAG.match(file_id)
    return None if found is None else found[0]


def raw_file_id(vendor_rules: VendorRules, original_name: str, flag: str | None) -> str:
    """The id under which a raw file is known for ever: its name, behind the flag on a collision.

    A flagged name that no file system would take (over 255 bytes, of its companions too) is cut
    and marked with a digest of the whole.
    """
    if flag is None:
        return original_name
    name = flag + original_name
    # Companions' names are longer than the id.
    longest = MAX_NAME_BYTES - (_NAME_MARGIN_BYTES if vendor_rules.has_companions else 0)
    if len(name.encode()) <= longest:
        return name
    stem = vendor_rules.stem(original_name)
    extension = original_name[len(stem) :]
    mark = "~" + hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:8]
    room = MAX_NAME_BYTES - _NAME_MARGIN_BYTES - len((flag + mark + extension).encode())
    return flag + stem.encode()[:room].decode(errors="ignore") + mark + extension


def partition_key(file_id: str) -> str:
    """The Dagster partition key of a raw file.

    It is the id, but for ids that Dagster can't take (`...`, control characters): those are
    percent-encoded behind a prefix, and `raw_file_id_of` leads back.
    """
    hostile = "..." in file_id or any(not char.isprintable() for char in file_id)
    if hostile or file_id.startswith(_ENCODED_PREFIX):
        return _ENCODED_PREFIX + quote(file_id, safe=" ").replace("...", "%2E%2E%2E")
    return file_id


def raw_file_id_of(key: str) -> str:
    """The raw file id that a partition key stands for."""
    if key.startswith(_ENCODED_PREFIX):
        return unquote(key[len(_ENCODED_PREFIX) :])
    return key
