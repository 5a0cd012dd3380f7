"""Errors of MongoDB, its records and leases."""

from kraken_dagster.model.errors.base import KrakenError


class StoreError(KrakenError):
    """Something about MongoDB and what it records."""


class StoreUnavailable(StoreError):
    """MongoDB can't be reached."""

    transient = True


class StoreRefused(StoreError):
    """MongoDB answers with an error. It is tried a few times."""

    transient = True
    unsorted = True


class RecordRefused(StoreRefused):
    """MongoDB can't hold what is to be recorded."""

    transient = False
    unsorted = False


class UnknownRawFile(StoreError):
    """There is no such document."""


class StatusConflict(StoreError):
    """Another process has changed the status meanwhile."""


class NotNeeded(StatusConflict):
    """A file need not be deleted any more."""


class LeaseHeld(StoreError):
    """Another run works on the file."""


class LeaseLost(StoreError):
    """This run's lease was taken over; the run must stop."""
