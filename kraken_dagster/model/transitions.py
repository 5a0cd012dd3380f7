"""Which status of a raw file may follow which."""

from collections.abc import Mapping

from kraken_dagster.model.raw_file import Status

# What a step may do by itself. Any status but IGNORED may also become ERROR, and a final one is
# otherwise left only when a step is asked for again (`ASKED_AGAIN`).
_TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED_FOR_MONITORING: frozenset(
        {Status.MONITORING_ACQUISITION, Status.MONITORING_DONE, Status.IGNORED}
    ),
    Status.MONITORING_ACQUISITION: frozenset({Status.MONITORING_DONE, Status.IGNORED}),
    Status.MONITORING_DONE: frozenset(
        {
            Status.CHECKSUMMING,
            Status.COPYING,
            Status.ACQUISITION_FAILED,
            Status.QUEUED_FOR_MONITORING,  # its main file turned up after all
        }
    ),
    Status.CHECKSUMMING: frozenset({Status.CHECKSUMMING_DONE, Status.COPYING}),
    Status.CHECKSUMMING_DONE: frozenset({Status.COPYING}),
    Status.COPYING: frozenset({Status.COPYING, Status.COPYING_DONE, Status.ACQUISITION_FAILED}),
    Status.COPYING_DONE: frozenset(
        {
            Status.QUEUED_FOR_QUANTING,
            Status.DONE_NOT_QUANTED,
            Status.ACQUISITION_FAILED,
            # a backup that was found damaged is whole again, and the file had ended before
            Status.DONE,
            Status.QUANTING_FAILED,
        }
    ),
    Status.COMPUTING_MSQC: frozenset(
        {Status.QUEUED_FOR_QUANTING, Status.DONE_NOT_QUANTED, Status.ACQUISITION_FAILED}
    ),
    Status.QUEUED_FOR_QUANTING: frozenset(
        {
            Status.QUANTING,
            Status.QUANTING_FAILED,
            Status.DONE_NOT_QUANTED,
            # it had ended, was asked for again, and nothing of that was begun
            Status.DONE,
            Status.ACQUISITION_FAILED,
        }
    ),
    Status.QUANTING: frozenset(
        {Status.DONE, Status.QUANTING_FAILED, Status.QUEUED_FOR_QUANTING}  # a job is run again
    ),
}


ASKED_AGAIN: Mapping[Status, frozenset[Status]] = {
    Status.DONE: frozenset({Status.QUEUED_FOR_QUANTING, Status.COPYING}),
    Status.DONE_NOT_QUANTED: frozenset({Status.QUEUED_FOR_QUANTING, Status.COPYING}),
    Status.QUANTING_FAILED: frozenset({Status.QUEUED_FOR_QUANTING, Status.COPYING}),
    Status.ACQUISITION_FAILED: frozenset(
        {Status.QUEUED_FOR_QUANTING, Status.COPYING, Status.QUEUED_FOR_MONITORING}
    ),
    Status.ERROR: frozenset(
        {
            Status.QUEUED_FOR_MONITORING,
            Status.COPYING,
            Status.QUEUED_FOR_QUANTING,
            Status.DONE_NOT_QUANTED,
            Status.ACQUISITION_FAILED,
        }
    ),
    Status.IGNORED: frozenset({Status.QUEUED_FOR_MONITORING}),
}


def may_become(old: Status, new: Status) -> bool:
    """Whether the table of transitions allows it."""
    if new is Status.ERROR:  # also from a final status: a backup can be found damaged years later
        return old is not Status.IGNORED
    return new in _TRANSITIONS.get(old, frozenset()) | ASKED_AGAIN.get(old, frozenset())
