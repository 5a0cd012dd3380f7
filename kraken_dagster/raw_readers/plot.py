"""A trace to be looked at: as SVG for a page, and as text for a terminal."""

import base64
from collections.abc import Sequence

from kraken_dagster.raw_readers.contents import Trace

_WIDTH, _HEIGHT, _EDGE = 480, 120, 4
_BLOCKS = " ▁▂▃▄▅▆▇█"
_DIGITS = 3


def svg(trace: Trace) -> str:
    """A line over retention time, from 0 to the greatest value. Numbers only, so that no name of a
    file can do anything in it."""
    rt, values = trace.rt_min, trace.values
    span, top = _span(rt), max(*values, 0.0) or 1.0
    inner_width, inner_height = _WIDTH - 2 * _EDGE, _HEIGHT - 2 * _EDGE
    points = " ".join(
        f"{_EDGE + (time - rt[0]) / span * inner_width:.1f},"
        f"{_HEIGHT - _EDGE - max(value, 0.0) / top * inner_height:.1f}"
        for time, value in zip(rt, values, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}"><rect width="100%" height="100%" fill="#fff"/>'
        f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="1"/></svg>'
    )


def markdown(trace: Trace) -> str:
    """The same as an image that a page shows without asking anybody for it."""
    image = base64.b64encode(svg(trace).encode("ascii")).decode("ascii")
    times = f"{trace.rt_min[0]:.2f} to {trace.rt_min[-1]:.2f} min"
    return f"![TIC](data:image/svg+xml;base64,{image})\n\n{times}, up to {max(trace.values):.3g}"


def in_a_terminal(trace: Trace, *, width: int = 72, height: int = 10) -> list[str]:
    """Lines of text: a column shows the greatest value of its time."""
    columns = _columns(trace, width)
    top = max(columns) or 1.0
    label = f"{top:.{_DIGITS}g}"
    lines = []
    for row in range(height, 0, -1):
        cells = "".join(_cell(value / top * height - (row - 1)) for value in columns)
        lines.append(f"{label if row == height else '':>9} │{cells}".rstrip())
    begin, end = (f"{time:.{_DIGITS}g}" for time in (trace.rt_min[0], trace.rt_min[-1]))
    lines.append(f"{'0':>9} └{'─' * width}")
    lines.append(f"{'':>11}{begin}{end + ' min':>{width - len(begin)}}")
    return lines


def _columns(trace: Trace, width: int) -> list[float]:
    span, begin = _span(trace.rt_min), trace.rt_min[0]
    columns = [0.0] * width
    filled = [False] * width
    for time, value in zip(trace.rt_min, trace.values, strict=True):
        at = min(width - 1, int((time - begin) / span * width))
        columns[at], filled[at] = max(columns[at], value), True
    for at in range(1, width):  # fewer points than columns
        if not filled[at]:
            columns[at] = columns[at - 1]
    return columns


def _cell(filled: float) -> str:
    return _BLOCKS[max(0, min(len(_BLOCKS) - 1, round(filled * (len(_BLOCKS) - 1))))]


def _span(rt: Sequence[float]) -> float:
    return (rt[-1] - rt[0]) or 1.0
