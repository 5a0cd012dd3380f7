"""The chromatogram as Dagit shows it: a picture of its own, of numbers only."""

import base64
import re
from array import array
from xml.etree import ElementTree

from kraken_dagster.raw_readers.contents import Trace
from kraken_dagster.raw_readers.plot import markdown, svg

_HOSTILE = Trace(
    'tic"/><script>', "<b>", array("d", [0, 1, 2, 4]), array("d", [-5, 0, 50, 100]), "</svg>"
)


def points(picture: str) -> list[tuple[float, float]]:
    (line,) = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}polyline")
    return [(float(x), float(y)) for x, y in (one.split(",") for one in line.get("points").split())]


def test_a_line_goes_from_0_to_the_highest_value_over_time() -> None:
    assert points(svg(_HOSTILE)) == [(4, 116), (122, 116), (240, 60), (476, 4)]


def test_of_one_point_without_signal_there_is_a_picture() -> None:
    assert points(svg(Trace("tic", "", array("d", [3]), array("d", [0])))) == [(4, 116)]


def test_dagit_needs_nobody_for_the_picture() -> None:
    shown = markdown(_HOSTILE)
    found = re.fullmatch(
        r"!\[TIC\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)"
        r"\n\n0\.00 to 4\.00 min, up to 100",
        shown,
    )
    assert found
    assert base64.b64decode(found[1]).decode() == svg(_HOSTILE)
    assert "script" not in svg(_HOSTILE)
