"""Errors of jobs and engines."""

from kraken_dagster.model.errors.base import KrakenError


class JobError(KrakenError):
    """Something about a job, its input, or the engine that runs it."""


class SubmitFailed(JobError):
    """The engine refused a job."""

    transient = True


class OutputExists(JobError):
    """A result folder exists already, and the mode is `raise`."""


class UnknownSettings(JobError):
    """A version of settings that MongoDB does not have."""


class SettingsRefused(JobError):
    """A value in the settings that the cluster does not accept."""


class InputMissing(JobError):
    """A fasta, library or config that the settings name is not there."""

    transient = True


class OutputUnreadable(JobError):
    """The output store gives an error."""

    transient = True


class ClusterError(JobError):
    """The cluster can't be asked, or its answer is unclear."""

    transient = True


class SchedulerAway(ClusterError):
    """The head node answers; the scheduler does not, or not clearly."""


class ClusterReplyUnreadable(ClusterError):
    """An answer that can't be read; it is quoted."""


class ClusterUnreachable(ClusterError):
    """No head node answers; the command was not started."""


class AnswerLost(ClusterError):
    """The command may have been started; its end is not known."""


class LoginUnusable(ClusterError):
    """The user's login shell or profile does not run what is sent to it."""


class HostKeyRefused(ClusterError):
    """A head node's host key is unknown, or not the recorded one."""


class LoginRefused(ClusterError):
    """The head node rejects the user, or the key can't be used."""
