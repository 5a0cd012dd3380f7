"""The base of every error that Kraken raises on purpose, and errors of others."""

from kraken_dagster.model.printable import printable, printable_lines


class KrakenError(Exception):
    """An error that says what, which file, expected and found, and what to do next.

    Args:
        what: one sentence, without the file's name.
        file: path or raw file id.
        expected, found: what should have been and what was.
        next_step: what the reader can do about it.

    All of them are kept as `printable` shows them: they are for people, and names stand in them.
    """

    transient = False
    of_several_lines = False  # `what` has a line for each problem
    unsorted = False  # nobody knows whether time cures it, so it is tried a few times only
    stays: str | None = None  # the status of a file of which nothing was begun

    def __init__(
        self,
        what: str,
        *,
        file: object = None,
        expected: object = None,
        found: object = None,
        next_step: str | None = None,
    ) -> None:
        self.what = printable_lines(what) if self.of_several_lines else printable(what)
        file = getattr(file, "shown", file)  # a path through an open root is for this process only
        self.file = None if file is None else printable(file)
        self._quoted_file = printable(repr(str(file)))
        self.expected = None if expected is None else printable(expected)
        self.found = None if found is None else printable(found)
        self.next_step = None if next_step is None else printable(next_step)
        super().__init__(self._message())

    def _message(self) -> str:
        text = self.what.rstrip(".")
        if self.file is not None:
            text += f": {self._quoted_file}"
        text += "."
        if self.expected is not None:
            text += f" Expected {self.expected}."
        if self.found is not None:
            text += f" Found {self.found}."
        if self.next_step is not None:
            text += f" Next: {self.next_step}"
        return text

    def __str__(self) -> str:  # KeyError's own would quote the message
        return str(self.args[0])


class ConfigError(KrakenError):
    """instruments.yaml can't be used; the message has file, line, key and what was expected."""

    of_several_lines = True


class Unexpected(KrakenError):
    """An error of another library or of the operating system, with its text."""

    transient = True


class Unsorted(Unexpected):
    """One that `errors.kinds` does not list. It is tried a few times."""

    unsorted = True


class Lasting(Unexpected):
    """One that time does not cure."""

    transient = False


class InitRefused(KrakenError):
    """A folder is not adopted as a store, because it may be another one."""


class RenameRefused(KrakenError):
    """An instrument is not renamed, retired or accepted now."""


class ChannelFailed(KrakenError):
    """A message of an alert was not accepted."""

    transient = True
