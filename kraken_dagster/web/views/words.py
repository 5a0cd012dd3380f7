"""Dates, spans, sizes and long names as people read them. Times are UTC, and said to be."""

from datetime import UTC, datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def span(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h`, `5 days`."""
    seconds = abs(seconds)
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} days"


def ago(at: datetime | None, now: datetime) -> str:
    """`3 h ago`, or `in 12 min`."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    return f"in {span(seconds)}" if seconds < 0 else f"{span(seconds)} ago"


def day_and_time(at: datetime | None) -> str:
    """`Fri 27 Nov 2026, 09:41 UTC`."""
    return "-" if at is None else f"{at.astimezone(UTC):%a %d %b %Y, %H:%M} UTC"


def gigabytes(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1024:
        return f"{value / 1024:.1f} TB"
    return f"{value:.0f} GB" if value >= 10 else f"{value:.2f} GB"


def size(value_bytes: float | None) -> str:
    if value_bytes is None:
        return "-"
    for unit in ("bytes", "kB", "MB"):
        if value_bytes < 1000:
            return f"{value_bytes:.0f} {unit}" if unit == "bytes" else f"{value_bytes:.1f} {unit}"
        value_bytes /= 1024
    return gigabytes(value_bytes)


def number(value: float) -> str:
    """A number with as many digits as people compare: `12,345`, `0.0123`, `1.2e+08`."""
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        return str(value)
    if value == 0:
        return "0"
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e7:
        return (
            f"{value:,.{max(0, 3 - len(str(int(abs(value)))))}f}"
            if abs(value) >= 1
            else (f"{value:.3g}")
        )
    return f"{value:.3g}"


def short(text: str, longest: int = 60) -> str:
    """A long name without its middle: its beginning and its end tell files apart."""
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[len(text) - half :]}"
