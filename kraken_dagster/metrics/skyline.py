"""Metrics type `skyline`: retention time standards (iRT) in a report that Skyline exported.

`custom_iRT_report.csv` has a row for each peptide and label. Numbers of any culture are read: with
`;` between the columns there are commas in the numbers. The columns' names are Skyline's invariant
ones, or its English captions, which have blanks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

from kraken_dagster.metrics.partial import Draft, Reading
from kraken_dagster.metrics.tables import Table, read_table, require_columns
from kraken_dagster.metrics.values.numbers import finite
from kraken_dagster.metrics.values.rows import Qualifier, Rows, rows_that_count
from kraken_dagster.metrics.values.sentinels import SKYLINE
from kraken_dagster.model.errors import FileFormatError, MetricsError

REPORT_NAME = "custom_iRT_report.csv"
PEPTIDE = "PeptideModifiedSequence"
LABEL = "IsotopeLabelType"
PREDICTED_RT = "PredictedRetentionTime"
MEASURED_RT = "AverageMeasuredRetentionTime"
AREA = "MeanTotalArea"
CV = "CvTotalArea"
IS_DECOY = "IsDecoy"
PROTEIN = "ProteinName"

QUALIFIERS = (Qualifier((IS_DECOY,), 0),)
_DECOYS = "decoys"  # what Skyline calls the list that it puts its decoys into
_ADVICE = (
    "export the report from Skyline with Language: Invariant, or with --report-invariant on the "
    "command line, as csv; see docs/metrics.md for its columns."
)
_NAMES = (PEPTIDE, LABEL, PREDICTED_RT, MEASURED_RT, AREA, CV, IS_DECOY, PROTEIN)
_SPELLINGS = {"protein": PROTEIN, "proteinname": PROTEIN}

MOST_PEPTIDES = 1_000  # that have metrics of their own; kits have about a dozen
LONGEST_PEPTIDE = 200  # characters
_SHOWN, _SHOWN_CHARACTERS = 5, 60
_SAFE = str.maketrans({"[": "_", "]": None})


@dataclass(frozen=True)
class _Quantity:
    """What is known of each peptide, from `columns`: the metric `<peptide>_<name>`, and metrics of
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
    """The metrics of `folder`/custom_iRT_report.csv.

    Of the heavy peptides: deviations from the predicted retention time (absolute, in minutes),
    areas (as Skyline has them) and their CVs (fractions), each of all peptides together and of each
    peptide; and how many different heavy and light ones there are. What nobody measured is None, or
    left out for a single peptide. Decoys are no peptides. Problems are a report that is not there,
    can't be read, was cut off or has no rows; each of the six columns that is not there or holds
    text; labels none of which is known; and metrics of single peptides that can't be told: of one
    that stands there twice with different numbers, or whose name is none.
    """
    draft = Draft(folder)
    with draft.keeping():
        table = read_table(folder / REPORT_NAME, delimiters=",;\t", any_culture=True)
        report = _with_plain_names(table)
        require_columns(report.path, {*report.columns, *report.twice}, (PEPTIDE, LABEL))
        _add_metrics(draft, _Report.of(report, draft))
    draft.problems = [_with_advice(problem) for problem in draft.problems]
    return draft.reading()


def _with_advice(problem: MetricsError) -> MetricsError:
    if problem.next_step is not None:
        return problem
    advised = type(problem)(
        problem.what,
        file=problem.file,
        expected=problem.expected,
        found=problem.found,
        next_step=_ADVICE,
    )
    advised.__cause__ = problem.__cause__
    return advised


@dataclass(frozen=True)
class _Report:
    """The table, and of each of its rows the peptide and the label, None if it doesn't count."""

    table: Table
    rows: tuple[tuple[str, str] | None, ...]

    @property
    def path(self) -> Path:
        return self.table.path

    @classmethod
    def of(cls, table: Table, draft: Draft) -> "_Report":
        rule = rows_that_count(QUALIFIERS, {*table.columns, *table.twice})
        draft.notes.append(f"peptides, from {REPORT_NAME}: {rule.words}, each by {LABEL}")
        rows = tuple(_rows(table, rule))
        labels = {row[1] for row in rows if row is not None}
        if labels and not labels & {"heavy", "light"}:
            raise FileFormatError(
                f"No row is of a known {LABEL}",
                file=table.path,
                expected="heavy or light",
                found=", ".join(sorted(map(repr, labels))[:_SHOWN]),
                next_step="name the label types of the Skyline document so, and export again.",
            )
        return cls(table, rows)


def _with_plain_names(report: Table) -> Table:
    """With the columns' names as they are without Skyline's captions for people."""
    wanted = {name.lower(): name for name in _NAMES} | _SPELLINGS
    columns: dict[str, tuple[str, ...]] = {}
    twice: set[str] = set()
    for name in (*report.columns, *report.twice):
        plain = wanted.get("".join(name.split()).lower(), name)
        if plain in columns or name in report.twice:
            twice.add(plain)
        columns[plain] = report.columns.get(name, ())
    kept = {name: cells for name, cells in columns.items() if name not in twice}
    return replace(report, columns=kept, twice=frozenset(twice))


def _rows(table: Table, rule: Rows) -> Iterator[tuple[str, str] | None]:
    """Each row's peptide and label."""
    peptides, labels = table.cells(PEPTIDE), table.cells(LABEL)
    lists = table.columns.get(PROTEIN, ("",) * len(peptides))
    for name, label, protein, counts in zip(
        peptides, labels, lists, table.counting(rule), strict=True
    ):
        counts_too = counts and protein.strip().lower() != _DECOYS
        yield (name.strip(), label.strip().lower()) if counts_too else None


def _add_metrics(draft: Draft, report: _Report) -> None:
    heavy, light = (_peptides(report, label) for label in ("heavy", "light"))
    measured = [(quantity, _measured(draft, report, quantity)) for quantity in _QUANTITIES]
    for quantity, values in measured:
        for name, function in quantity.together.items():
            if values is not None:
                numbers = [value for _, value in values]
                draft.metrics[f"irt_{name}"] = finite(function(numbers)) if numbers else None
    draft.metrics["irt_n_heavy_peptides"] = len(heavy)
    draft.metrics["irt_n_light_peptides"] = len(light)
    fields = _fields(draft, report, heavy)
    for quantity, values in measured:
        with draft.keeping():
            _add_single(draft, report, quantity, values or [], fields)


def _peptides(report: _Report, label: str) -> list[str]:
    """The different peptides that have this label, in their order."""
    rows = (row for row in report.rows if row is not None)
    return list(dict.fromkeys(name for name, found in rows if found == label))


def _measured(draft: Draft, report: _Report, quantity: _Quantity) -> list[tuple[str, float]] | None:
    """Heavy peptides with their values; None if a column is not there or holds something else.

    The same value of the same peptide counts once: reports repeat it for each replicate or charge.
    """
    numbers = []
    for column in quantity.columns:
        with draft.keeping():
            numbers.append([_measured_number(column, n) for n in report.table.numbers(column)])
    if len(numbers) < len(quantity.columns):
        return None
    rows = zip(report.rows, *numbers, strict=True)
    return list(
        dict.fromkeys(
            (row[0], quantity.of(*values))
            for row, *values in rows
            if row is not None and row[1] == "heavy" and None not in values
        )
    )


def _measured_number(column: str, number: float | None) -> float | None:
    return number if number is not None and SKYLINE[column].allows(number) else None


def _fields(draft: Draft, report: _Report, peptides: Sequence[str]) -> dict[str, str]:
    """What the peptides are called in names of metrics."""
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
    report: _Report,
    quantity: _Quantity,
    values: Iterable[tuple[str, float]],
    fields: Mapping[str, str],
) -> None:
    """A metric for each peptide; FileFormatError, afterwards, for those of which there are two."""
    by_field: dict[str, list[tuple[str, float]]] = {}
    for name, value in values:
        if name in fields:
            by_field.setdefault(fields[name], []).append((name, value))
    for field, found in by_field.items():
        if len(found) == 1:
            draft.metrics[f"irt_{field}_{quantity.name}"] = found[0][1]
    several = [found[0][0] for found in by_field.values() if len(found) > 1]
    if several:
        raise _untold(
            report,
            " and ".join(quantity.columns),
            several,
            expected="one number for each heavy peptide",
            next_step="make the report's rows peptides, not precursors; metrics of all peptides "
            "together take every number.",
        )


def _untold(
    report: _Report, columns: str, peptides: Sequence[str], *, expected: str, next_step: str
) -> FileFormatError:
    shown = ", ".join(repr(name[:_SHOWN_CHARACTERS]) for name in peptides[:_SHOWN])
    more = len(peptides) - _SHOWN
    return FileFormatError(
        f"Metrics of single peptides can't be distinguished by {columns}",
        file=report.path,
        expected=expected,
        found=shown + (f" and {more} more" if more > 0 else ""),
        next_step=next_step,
    )
