"""Reads the recorded version of a member from the server, from any byte on."""

from collections.abc import Iterator

from kraken_dagster.model.errors import OffsiteAway
from kraken_dagster.model.offsite import MIB, StoredObject
from kraken_dagster.offsite.client import S3, s3_errors

_TRIES = 5  # in a row that bring nothing


def pieces_of(s3: S3, stored: StoredObject, *, begin: int = 0) -> Iterator[bytes]:
    """The bytes of a version from `begin` on; where the connection is lost it goes on from there.

    Raises:
        OffsiteAway, OffsiteRefused, OffsiteError
    """
    at, in_vain = begin, 0
    while at < stored.size:
        before = at
        try:
            for piece in _from(s3, stored, at):
                at += len(piece)
                yield piece
        except OffsiteAway:
            in_vain = 0 if at > before else in_vain + 1
            if in_vain == _TRIES:
                raise
            continue
        if at < stored.size:  # it is shorter than recorded, which its digest will tell
            return


def _from(s3: S3, stored: StoredObject, begin: int) -> Iterator[bytes]:
    with s3_errors(stored.shown):
        answer = s3.get_object(**stored.version, Range=f"bytes={begin}-")
        with answer["Body"] as body:
            while piece := body.read(MIB):
                yield piece
