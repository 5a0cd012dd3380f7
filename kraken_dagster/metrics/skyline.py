"""Metrics type `skyline`: retention time standards (iRT) in a report that Skyline exported.

`custom_iRT_report.csv` has a row for each peptide and label. Reports of any locale are read: with
`;` between the columns there are commas in the numbers; `#N/A` is a missing number, `12%` is 0.12,
and the columns' names may have blanks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from kraken_dagster.domain.errors import FileFormatError
from kraken_dagster.metrics.reading import Draft, Reading
from kraken_dagster.metrics.tables import Table, finite, read_table, require_columns

REPORT_NAME = "custom_iRT_report.csv"
PEPTIDE = "PeptideModifiedSequence"
LABEL = "IsotopeLabelType"
PREDICTED_RT = "PredictedRetentionTime"
MEASURED_RT = "AverageMeasuredRetentionTime"
AREA = "MeanTotalArea"
CV = "CvTotalArea"

MOST_PEPTIDES = 1_000  # that have figures of their own; kits have about a dozen
LONGEST_PEPTIDE = 200  # characters
_SHOWN, _SHOWN_CHARACTERS = 5, 60
_SAFE = str.maketrans({"[": "_", "]": None})


@dataclass(frozen=True)
class _Quantity:
    """What is known of each peptide, from `columns`: the figure `<peptide>_<name>`, and figures of
    all peptides together, each from its numbers.
    """

    name: str
    columns: tuple[str, ...]
    together: Mapping[str, Callable[[Sequence[float]], float]]

    def of(self, *values: float) -> float:
        """The value itself, or how far the two are apart."""
        return abs(values[-1] - values[0]) if len(values) == 2 else values[0]


_QUANTITIES = (
    _Quantity(
        "delta_rt", (PREDICTED_RT, MEASURED_RT), {"delta_rt_mean": fmean, "delta_rt_max": max}
    ),
    _Quantity("mean_total_area", (AREA,), {"mean_total_area_median": median}),
    _Quantity("cv_total_area", (CV,), {"cv_total_area_mean": fmean, "cv_total_area_max": max}),
)


def read(folder: Path) -> Reading:
    """The figures of `folder`/custom_iRT_report.csv.

    Of the heavy peptides: deviations from the predicted retention time (absolute, in minutes),
    areas (as Skyline has them) and their CVs (fractions), each of all peptides together and of each
    peptide; and how many different heavy and light ones there are. What nobody measured is None, or
    left out for a single peptide. Problems are a report that is not there or can't be read, each of
    the six columns that is not there or holds text, and figures of single peptides that can't be
    told: of one that stands there twice with different numbers, or whose name is none.
    """
    draft = Draft()
    with draft.keeping():
        report = _with_plain_names(read_table(folder / REPORT_NAME, delimiters=",;"))
        require_columns(report.path, report.columns, (PEPTIDE, LABEL))
        _add_figures(draft, report)
    return draft.reading()


def _with_plain_names(report: Table) -> Table:
    """With the columns' names as they are without Skyline's captions for people."""
    wanted = {name.lower(): name for name in (PEPTIDE, LABEL, PREDICTED_RT, MEASURED_RT, AREA, CV)}
    columns = {}
    for name, cells in report.columns.items():
        plain = wanted.get("".join(name.split()).lower(), name)
        if plain in columns:
            raise FileFormatError(
                f"Two columns of a report are {plain}", file=report.path, found=repr(name)
            )
        columns[plain] = cells
    return Table(report.path, columns, report.delimiter)


def _add_figures(draft: Draft, report: Table) -> None:
    heavy, light = (_peptides(report, label) for label in ("heavy", "light"))
    measured = [(quantity, _measured(draft, report, quantity)) for quantity in _QUANTITIES]
    for quantity, values in measured:
        for name, function in quantity.together.items():
            if values is not None:
                numbers = [value for _, value in values]
                draft.figures[f"irt_{name}"] = finite(function(numbers)) if numbers else None
    draft.figures["irt_n_heavy_peptides"] = len(heavy)
    draft.figures["irt_n_light_peptides"] = len(light)
    fields = _fields(draft, report, heavy)
    for quantity, values in measured:
        with draft.keeping():
            _add_single(draft, report, quantity, values or [], fields)


def _peptides(report: Table, label: str) -> list[str]:
    """The different peptides that have this label, in their order."""
    return list(dict.fromkeys(name for name, found in _rows(report) if found == label))


def _rows(report: Table) -> Iterator[tuple[str, str]]:
    """Each row's peptide and label."""
    for name, label in zip(report.columns[PEPTIDE], report.columns[LABEL], strict=True):
        yield name.strip(), label.strip().lower()


def _measured(draft: Draft, report: Table, quantity: _Quantity) -> list[tuple[str, float]] | None:
    """Heavy peptides with their values; None if a column is not there or holds something else.

    The same value of the same peptide counts once: reports repeat it for each replicate or charge.
    """
    numbers = []
    for column in quantity.columns:
        with draft.keeping():
            numbers.append(report.numbers(column))
    if len(numbers) < len(quantity.columns):
        return None
    rows = zip(_rows(report), *numbers, strict=True)
    return list(
        dict.fromkeys(
            (name, quantity.of(*values))
            for (name, label), *values in rows
            if label == "heavy" and all(finite(value) is not None for value in values)
        )
    )


def _fields(draft: Draft, report: Table, peptides: Sequence[str]) -> dict[str, str]:
    """What the peptides are called in names of figures."""
    good = [name for name in peptides if name.isprintable() and 0 < len(name) <= LONGEST_PEPTIDE]
    bad = [name for name in peptides if name not in good]
    if bad or len(good) > MOST_PEPTIDES:
        bad += good[MOST_PEPTIDES:]
        draft.problems.append(
            _untold(
                report,
                PEPTIDE,
                bad,
                expected=f"at most {MOST_PEPTIDES} peptides, with names of 1 to {LONGEST_PEPTIDE} "
                "printable characters",
                next_step="correct the Skyline document or its report.",
            )
        )
    return {name: name.translate(_SAFE) for name in good[:MOST_PEPTIDES]}


def _add_single(
    draft: Draft,
    report: Table,
    quantity: _Quantity,
    values: Iterable[tuple[str, float]],
    fields: Mapping[str, str],
) -> None:
    """A figure for each peptide; FileFormatError, afterwards, for those of which there are two."""
    by_field: dict[str, list[tuple[str, float]]] = {}
    for name, value in values:
        if name in fields:
            by_field.setdefault(fields[name], []).append((name, value))
    for field, found in by_field.items():
        if len(found) == 1:
            draft.figures[f"irt_{field}_{quantity.name}"] = found[0][1]
    several = [found[0][0] for found in by_field.values() if len(found) > 1]
    if several:
        raise _untold(
            report,
            " and ".join(quantity.columns),
            several,
            expected="one number for each heavy peptide",
            next_step="make the report's rows peptides, not precursors; figures of all peptides "
            "together take every number.",
        )


def _untold(
    report: Table, columns: str, peptides: Sequence[str], *, expected: str, next_step: str
) -> FileFormatError:
    shown = ", ".join(repr(name[:_SHOWN_CHARACTERS]) for name in peptides[:_SHOWN])
    more = len(peptides) - _SHOWN
    return FileFormatError(
        f"Figures of single peptides can't be told from {columns}",
        file=report.path,
        expected=expected,
        found=shown + (f" and {more} more" if more > 0 else ""),
        next_step=next_step,
    )
