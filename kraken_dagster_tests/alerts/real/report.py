"""What a run came to, for people."""

from typing import Any

from kraken_dagster_tests.alerts.real.judge import Received


def in_words(report: dict[str, Any]) -> str:
    messages = [Received(**item) for item in report["messages"]]
    lines = [f"{'fault':30} {'channel':8} {'told after':>12} {'resolved after':>15}"]
    for episode in report["episodes"]:
        of_it = [
            it
            for it in messages
            if episode["put_in_at"] <= it.at <= episode["until"] and it.is_of(episode["line"])
        ]
        for channel in sorted({it.channel for it in messages}):
            told = _after(of_it, channel, episode["threshold_at"], ends=False)
            ended = _after(of_it, channel, episode["taken_away_at"], ends=True)
            lines.append(f"{episode['fault']:30} {channel:8} {told:>12} {ended:>15}")
    ids = {(it.channel, it.id) for it in messages}
    night = report["night"]
    lines += [
        "",
        f"{len(messages)} messages, {len(messages) - len(ids)} of them again under the same id; "
        f"{len(report['kills'])} kills; a night of {night['end'] - night['begin']:.0f} s; "
        f"{report['seconds']} s in all",
        f"{report['load']:.1f} processes wanted each processor in the last 15 minutes: from 2 on "
        "what is late may be the machine's fault",
        f"{len(report['findings'])} findings",
        *report["findings"],
    ]
    return "\n".join(lines)


def _after(messages: list[Received], channel: str, since: float, *, ends: bool) -> str:
    found = [it.at for it in messages if it.channel == channel and it.is_end is ends]
    return f"{min(found) - since:.0f} s" if found else "never"
