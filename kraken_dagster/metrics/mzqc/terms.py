"""Which term of the controlled vocabulary says what a metric of Kraken's says, in which unit.

Where PSI-MS has no term that means the same there is one of our own, with the prefix KRAKEN; they
are defined in own_terms.json and docs/mzqc.md. An accession is never given to anything else.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

OWN = "KRAKEN"
_UNITS = {
    "count": ("UO:0000189", "count unit"),
    "s": ("UO:0000010", "second"),
    "ms": ("UO:0000028", "millisecond"),
    "ppm": ("UO:0000169", "parts per million"),
    "Pa": ("UO:0000110", "pascal"),
    "m/z": ("MS:1000040", "m/z"),
    "intensity": ("MS:1000043", "intensity unit"),
}
_MIN_TO_S, _BAR_TO_PA = 60.0, 1e5


@dataclass(frozen=True)
class Term:
    accession: str
    name: str
    definition: str

    def plain(self, value: object = None) -> dict[str, object]:
        """As it stands in a file; without a value where there is none."""
        found: dict[str, object] = {"accession": self.accession, "name": self.name}
        if self.definition:
            found["description"] = self.definition
        return found if value is None else {**found, "value": value}


@dataclass(frozen=True)
class Metric:
    """A term and the metrics that are its value: one number, or as many for an n-tuple.

    `factor` leads from a metric's unit to the term's.
    """

    term: Term
    metrics: tuple[str, ...]
    unit: str | None = None
    factor: float = 1.0

    def value_of(self, metrics: Mapping[str, float]) -> float | list[float] | None:
        """None unless all of its metrics are there."""
        if any(name not in metrics for name in self.metrics):
            return None
        found = [self._scaled(metrics[name]) for name in self.metrics]
        return found[0] if len(found) == 1 else found

    def _scaled(self, value: float) -> float:
        scaled = value * self.factor
        return int(scaled) if self.unit == "count" and scaled == int(scaled) else scaled

    def plain(self, value: object) -> dict[str, object]:
        found = self.term.plain(value)
        if self.unit is not None:
            accession, name = _UNITS[self.unit]
            found["unit"] = {"accession": accession, "name": name}
        return found


@cache
def cv_terms() -> Mapping[str, Term]:
    """Those of PSI-MS that are used, by accession."""
    text = files(__package__).joinpath("cv_terms.json").read_text(encoding="utf-8")
    return {key: Term(key, *value) for key, value in json.loads(text)["terms"].items()}


def cv_version() -> str:
    text = files(__package__).joinpath("cv_terms.json").read_text(encoding="utf-8")
    return str(json.loads(text)["version"])


@cache
def own_terms() -> Mapping[str, Term]:
    """Ours, by accession."""
    text = files(__package__).joinpath("own_terms.json").read_text(encoding="utf-8")
    return {key: Term(key, *value) for key, value in json.loads(text).items()}


def own_term(number: int) -> Term:
    return own_terms()[f"{OWN}:{number:07}"]


VERDICT, VERDICTS, CONTROL_LIMITS = 21, 22, 23


def _cv(accession: str, *metrics: str, unit: str | None = None, factor: float = 1.0) -> Metric:
    return Metric(cv_terms()[accession], metrics, unit, factor)


def _own(number: int, metric: str, unit: str | None = None, factor: float = 1.0) -> Metric:
    return Metric(own_term(number), (metric,), unit, factor)


def _of_raw_data() -> Iterator[Metric]:
    yield _cv("MS:4000059", "ms1_scans", unit="count")
    yield _cv("MS:4000060", "ms2_scans", unit="count")
    yield _cv("MS:4000053", "gradient_length", unit="s", factor=_MIN_TO_S)
    yield _own(1, "ms1_median_tic", "intensity")
    yield _own(2, "ms2_median_tic", "intensity")
    yield _own(3, "ms1_median_injection_time", "ms")
    yield _own(4, "ms2_median_injection_time", "ms")
    yield _own(15, "evosep_pump_hp_pressure_max", "Pa", _BAR_TO_PA)
    yield _cv("MS:4000070", "rt_first", "rt_last", unit="s", factor=_MIN_TO_S)
    yield _cv("MS:4000069", "mz_low", "mz_high", unit="m/z")
    yield _cv("MS:4000204", "max_tic", unit="intensity")
    yield _cv("MS:4000202", "max_base_peak", unit="intensity")


def _of_searches() -> Iterator[Metric]:
    yield _cv("MS:1003327", "proteins", unit="count")
    yield _own(5, "precursors", "count")
    yield _own(9, "weighted_ms1_intensity_sum")
    yield _own(11, "fwhm_mobility")
    yield _own(12, "calibration:ms1_bias", "ppm")
    yield _cv("MS:4000026", "calibration:ms2_bias", unit="ppm")
    yield _cv("MS:4000174", "precursor:charge_mean")
    yield _cv("MS:4000176", "precursor:charge_median")
    yield _own(6, "total_quantity")
    yield _own(7, "ms1_signal")
    yield _own(8, "ms2_signal")
    yield _own(16, "fwhm_scans")
    yield _own(12, "median_mass_acc_ms1", "ppm")
    yield _own(13, "median_mass_acc_ms1_corrected", "ppm")
    yield _cv("MS:4000026", "median_mass_acc_ms2", unit="ppm")
    yield _own(14, "median_mass_acc_ms2_corrected", "ppm")
    yield _own(20, "normalisation_instability")
    yield _own(17, "median_rt_prediction_acc", "s", _MIN_TO_S)
    yield _own(18, "average_peptide_length")
    yield _cv("MS:4000174", "average_peptide_charge")
    yield _own(19, "average_missed_tryptic_cleavages")


@cache
def metrics_of(metrics_type: str) -> tuple[Metric, ...]:
    """The terms of a type's metrics; peak widths are minutes in DIA-NN's, seconds in others."""
    factor = _MIN_TO_S if metrics_type == "diann" else 1.0
    return (*_of_raw_data(), *_of_searches(), _own(10, "fwhm_rt", "s", factor))
