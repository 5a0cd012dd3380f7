"""Westgard's rules (Westgard, Barry, Hunt & Groth 1981) over standardised values.

Together they raise a false alarm every 158 values in control, where 3 sigma alone does every 370.
"""

from collections.abc import Callable, Mapping

import numpy as np

from kraken_dagster.quality.statistics.charts import Bools, Floats, over_present

RULES = ("1_3s", "2_2s", "R_4s", "4_1s", "10_x")


def westgard(z: Floats) -> Mapping[str, Bools]:
    """Where each rule is broken, by the rule's name.

    1_3s: one value beyond 3 sigma. 2_2s: two in a row beyond 2 sigma on one side. R_4s: two in a
    row, one beyond +2 and one beyond -2 sigma. 4_1s: four in a row beyond 1 sigma on one side.
    10_x: ten in a row on one side. "In a row" is of the values that are there.
    """
    broken = over_present(z, _rules, answers=len(RULES)) > 0
    return dict(zip(RULES, broken, strict=True))


def _rules(z: Floats) -> Floats:
    high, low = z > 2, z < -2
    jump = np.zeros(len(z), dtype=bool)
    jump[1:] = (high[1:] & low[:-1]) | (low[1:] & high[:-1])
    return np.array(
        [
            np.abs(z) > 3,
            _on_one_side(z, 2, lambda v: v > 2),
            jump,
            _on_one_side(z, 4, lambda v: v > 1),
            _on_one_side(z, 10, lambda v: v > 0),
        ],
        dtype=float,
    )


def _on_one_side(z: Floats, count: int, beyond: Callable[[Floats], Bools]) -> Bools:
    return _in_a_row(beyond(z), count) | _in_a_row(beyond(-z), count)


def _in_a_row(found: Bools, count: int) -> Bools:
    """Whether the last `count` values up to each were all found."""
    total = np.concatenate([[0], np.cumsum(found)])
    answer = np.zeros(len(found), dtype=bool)
    if len(found) >= count:
        answer[count - 1 :] = total[count:] - total[:-count] == count
    return answer
