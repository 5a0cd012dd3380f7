"""Judges the messages that came, by what was done to the laboratory. Pure, and it knows nothing of
Kraken but the lines of its messages.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TOLD_WITHIN_S = 120.0
_FAILED_RUN = "the last run of .* failed"
_REACHES_S = 60.0  # until what was killed is there again
RESOLVED = "RESOLVED: "
_LEVEL = re.compile(r"^(CRITICAL|INFO): ")


@dataclass(frozen=True)
class Received:
    """A message: by which channel, when (epoch) and under which id it came; its first line."""

    channel: str
    at: float
    id: str
    line: str

    @property
    def is_end(self) -> bool:
        return self.line.startswith(RESOLVED)

    @property
    def summary(self) -> str:
        return _LEVEL.sub("", self.line.removeprefix(RESOLVED))

    def is_of(self, line: str) -> bool:
        """Whether it tells of an alert whose first line the regular expression matches."""
        return re.match(line, self.summary) is not None


@dataclass(frozen=True)
class Episode:
    """A fault from when it was put in until everything was well again.

    Args:
        line: a regular expression that the message's first line matches.
        threshold_at: from then on it must be told within two minutes.
        taken_away_at: from then on its end is to be told.
        until: when the harness stopped waiting for the end.
        brings: lines of alerts that follow from the same fault, and may be told once beside it.
    """

    fault: str
    line: str
    put_in_at: float
    threshold_at: float
    taken_away_at: float
    until: float
    brings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Night:
    """A time without a fault, in which nothing but the digest may come."""

    begin: float
    end: float


@dataclass(frozen=True)
class Finding:
    what: str
    fault: str
    details: str

    def in_words(self) -> str:
        return f"{self.what}: {self.fault}: {self.details}"


def judge(
    messages: Sequence[Received],
    episodes: Sequence[Episode],
    *,
    night: Night,
    kills: Sequence[float],
    channels: Sequence[str],
    digest: str,
) -> list[Finding]:
    """What is wrong; nothing, if all is as docs/alerts.md says.

    Args:
        kills: when a part was killed.
        digest: a regular expression of the digest's first line.
    """
    first, repeated = _apart(messages)
    findings = list(_of_repeated(repeated, kills))
    for channel in channels:
        mine = [item for item in first if item.channel == channel]
        findings += _of_night(mine, night, channel, digest)
        expected: set[str] = set()
        for episode in episodes:
            findings += _of_episode(mine, episode, channel, expected)
        findings += [
            Finding("unexpected", channel, item.line)
            for item in mine
            if item.id not in expected
            and not night.begin <= item.at <= night.end
            and not _is_of_a_killed_run(item, mine, kills)
        ]
    return findings


def _apart(messages: Sequence[Received]) -> tuple[list[Received], list[tuple[Received, float]]]:
    """The messages as they came first, and those that came again under the same id, each with when
    it had come before."""
    first: list[Received] = []
    repeated: list[tuple[Received, float]] = []
    before: dict[tuple[str, str], float] = {}
    for item in sorted(messages, key=lambda it: it.at):
        key = (item.channel, item.id)
        if key in before:
            repeated.append((item, before[key]))
        else:
            first.append(item)
        before[key] = item.at
    return first, repeated


def _of_repeated(
    repeated: Sequence[tuple[Received, float]], kills: Sequence[float]
) -> Iterator[Finding]:
    """A kill may have one message sent again: one that had come shortly before it, or while what
    was killed came back.

    Each kill has the repetition that no later one can have; what is left is a finding.
    """
    left = sorted(repeated, key=lambda it: it[0].at)
    for kill in sorted(kills):
        for again in left:
            item, came = again
            if came - _REACHES_S <= kill <= item.at:
                left.remove(again)
                break
    for item, came in left:
        alone = not any(came - _REACHES_S <= kill <= item.at for kill in kills)
        why = "no part was killed" if alone else "a second one for one kill"
        yield Finding("repeated", item.channel, f"{item.line!r}: {why}")


def _is_of_a_killed_run(item: Received, mine: Sequence[Received], kills: Sequence[float]) -> bool:
    """A run whose process or launch died with a part has failed, which is true and reported; and
    the end of that."""
    if not item.is_of(_FAILED_RUN):
        return False
    begun = item
    if item.is_end:
        subject = item.line.removeprefix(RESOLVED)
        before = [it for it in mine if it.line == subject and it.at < item.at]
        if not before:
            return False
        begun = before[-1]
    return any(begun.at - _REACHES_S <= kill <= begun.at for kill in kills)


def _of_night(
    mine: Sequence[Received], night: Night, channel: str, digest: str
) -> Iterator[Finding]:
    found = [item for item in mine if night.begin <= item.at <= night.end]
    digests = [item for item in found if re.match(digest, item.line)]
    if len(digests) != 1:
        yield Finding("night", channel, f"{len(digests)} digests, expected 1")
    for item in found:
        if item not in digests:
            yield Finding("night", channel, item.line)


def _of_episode(
    mine: Sequence[Received], episode: Episode, channel: str, expected: set[str]
) -> Iterator[Finding]:
    """What is wrong with one fault on one channel; the messages that are of it are `expected`."""
    of_it = [it for it in mine if episode.put_in_at <= it.at <= episode.until]
    told, ended = _matching(of_it, episode.line)
    expected |= {item.id for item in (*told, *ended)}
    yield from _of_beginning(told, episode, channel)
    yield from _of_end(ended, episode, channel)
    for line in episode.brings:
        further = _matching(of_it, line)
        for some in further:
            expected |= {item.id for item in some}
            if len(some) > 1:
                yield Finding("told twice", episode.fault, f"{channel}: {some[1].line}")


def _matching(messages: Sequence[Received], line: str) -> tuple[list[Received], list[Received]]:
    found = [item for item in messages if item.is_of(line)]
    return [it for it in found if not it.is_end], [it for it in found if it.is_end]


def _of_beginning(told: Sequence[Received], episode: Episode, channel: str) -> Iterator[Finding]:
    if not told:
        yield Finding("missed", episode.fault, channel)
        return
    late_s = told[0].at - episode.threshold_at
    if late_s > TOLD_WITHIN_S:
        yield Finding("late", episode.fault, f"{channel}: {late_s:.0f} s after its threshold")
    for item in told[1:]:
        yield Finding("told twice", episode.fault, f"{channel}: {item.line}")


def _of_end(ended: Sequence[Received], episode: Episode, channel: str) -> Iterator[Finding]:
    if not ended:
        yield Finding("not resolved", episode.fault, channel)
        return
    if ended[0].at < episode.taken_away_at:
        early_s = episode.taken_away_at - ended[0].at
        yield Finding("resolved early", episode.fault, f"{channel}: {early_s:.0f} s")
    for item in ended[1:]:
        yield Finding("resolved twice", episode.fault, f"{channel}: {item.line}")
