"""The judge of real alerts finds what is planted, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from kraken_dagster_tests.alerts.real.judge import (
    RESOLVED,
    Episode,
    Finding,
    Night,
    Received,
    judge,
)

NIGHT = Night(0, 100)
KILL = 240.0
SHARE = Episode(
    "share away",
    "astral1: its last look",
    put_in_at=200,
    threshold_at=200,
    taken_away_at=300,
    until=400,
    brings=("the last run of",),
)
DIGEST = Received("mail", 50, "digest", "Kraken 2026-11-28: all is well")
TOLD = Received("mail", 250, "a", "CRITICAL: astral1: its last look found it in trouble")
ENDED = Received("mail", 350, "b", f"{RESOLVED}astral1: its last look found it in trouble")
GOOD = [DIGEST, TOLD, ENDED]
AGAIN = replace(TOLD, at=260)
OTHER = Received("mail", 270, "c", "astral1: no new file for 3 h")


def found(
    messages: list[Received], *, kills: tuple[float, ...] = (KILL,), episode: Episode = SHARE
) -> list[Finding]:
    return judge(
        messages, [episode], night=NIGHT, kills=kills, channels=["mail"], digest=r"Kraken .* well"
    )


def kinds(messages: list[Received], **changes: Any) -> list[str]:
    return [item.what for item in found(messages, **changes)]


def test_what_is_told_in_time_and_resolved_is_well() -> None:
    assert found(GOOD) == []


def test_a_message_that_comes_again_under_its_id_after_a_kill_is_well() -> None:
    assert found([*GOOD, AGAIN]) == []


def test_what_a_fault_brings_along_is_expected_once() -> None:
    brought = Received("mail", 255, "d", "the last run of scrub failed")
    assert found([*GOOD, brought]) == []
    assert kinds([*GOOD, brought, replace(brought, at=270, id="e")]) == ["told twice"]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([DIGEST, ENDED], ["missed"]),
        ([DIGEST, TOLD], ["not resolved"]),
        ([DIGEST, replace(TOLD, channel="webhook"), ENDED], ["missed"]),
        ([DIGEST, replace(TOLD, at=321), ENDED], ["late"]),
        ([DIGEST, replace(TOLD, at=150), ENDED], ["missed", "unexpected"]),
        ([*GOOD, replace(TOLD, at=260, id="c")], ["told twice"]),
        ([*GOOD, replace(ENDED, at=360, id="c")], ["resolved twice"]),
        ([DIGEST, TOLD, replace(ENDED, at=280)], ["resolved early"]),
        ([*GOOD, AGAIN, replace(ENDED, at=360)], ["repeated"]),
        ([*GOOD, OTHER], ["unexpected"]),
        ([*GOOD, replace(OTHER, at=60)], ["night"]),
        ([TOLD, ENDED], ["night"]),
        ([*GOOD, replace(DIGEST, at=70, id="c")], ["night"]),
    ],
)
def test_what_is_wrong_is_found(messages: list[Received], expected: list[str]) -> None:
    assert kinds(messages) == expected


def test_each_kill_may_have_one_message_sent_again() -> None:
    """Also where both come again after the second one, in whatever order."""
    kills, told_again = (TOLD.at, ENDED.at + 0.1), replace(TOLD, at=360)
    both = [*GOOD, told_again, replace(ENDED, at=380)]
    assert found(both, kills=kills) == []
    assert found([*GOOD, replace(ENDED, at=355), told_again], kills=kills) == []
    assert kinds(both, kills=kills[1:]) == ["repeated"]
    assert kinds([*both, replace(ENDED, at=390)], kills=kills) == ["repeated"]
    assert kinds([*both, replace(told_again, at=375)], kills=kills) == ["repeated"]


def test_a_run_that_a_kill_has_ended_is_reported_and_over() -> None:
    alone = replace(SHARE, brings=())
    failed = Received("mail", KILL + 30, "f", "the last run of astral1_archive failed")
    over = replace(failed, at=KILL + 90, id="g", line=f"{RESOLVED}{failed.line}")
    assert found([*GOOD, failed, over], episode=alone) == []
    assert kinds([*GOOD, over], episode=alone) == ["unexpected"]
    assert kinds([*GOOD, replace(failed, at=KILL + 61)], episode=alone) == ["unexpected"]
    assert kinds([*GOOD, failed], kills=(), episode=alone) == ["unexpected"]


def test_a_repetition_without_a_kill_is_found() -> None:
    assert kinds([*GOOD, AGAIN], kills=()) == ["repeated"]
    assert kinds([*GOOD, AGAIN], kills=(SHARE.until,)) == ["repeated"]


def test_the_two_minutes_count_from_the_threshold() -> None:
    late = replace(SHARE, threshold_at=199.0 + 10)
    told = replace(TOLD, at=320)
    messages = [DIGEST, told, ENDED]
    assert found(messages, episode=late) == []
    assert kinds(messages, episode=replace(late, threshold_at=199)) == ["late"]
