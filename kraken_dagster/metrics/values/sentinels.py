"""What programs write where they measured nothing, by column, and what of a column is no metric.

In one place, so that no reader forgets it. Metrics that are not here have no such number: a bias
may be -1.
"""

from collections.abc import Mapping
from enum import Enum


class Least(Enum):
    """What a number must be to have been measured."""

    ABOVE_0 = "more than 0"
    FROM_0 = "at least 0"
    ANY = "a number"

    def allows(self, number: float) -> bool:
        if self is Least.ABOVE_0:
            return number > 0
        return self is Least.ANY or number >= 0


_ABOVE_0, _FROM_0 = Least.ABOVE_0, Least.FROM_0

ALPHADIA: Mapping[str, Least] = {
    # 1.x writes -1 or 0 without ion mobility.
    "fwhm_mobility": _ABOVE_0,
    "fwhm_rt": _ABOVE_0,
    "proteins": _FROM_0,
    "precursors": _FROM_0,
    "optimization:ms1_error": _ABOVE_0,
    "optimization:ms2_error": _ABOVE_0,
    "optimization:rt_error": _ABOVE_0,
    "optimization:mobility_error": _ABOVE_0,
    "gradient_length": _ABOVE_0,
    "duration_optimization": _FROM_0,
    "duration_extraction": _FROM_0,
    # Features of a precursor start as 0, and what label-free quantification lacks becomes 0.
    "weighted_ms1_intensity_sum": _ABOVE_0,
    "pg:intensity_sum": _ABOVE_0,
    "precursor_intensity_median": _ABOVE_0,
    "precursor:charge": _ABOVE_0,
    "precursor:proba": _FROM_0,
    "precursor:sequence_len": _ABOVE_0,
}

DIANN: Mapping[str, Least] = {
    "precursors": _FROM_0,
    "proteins": _FROM_0,
    # 0 without MS1 spectra, without calibration, or where nothing was identified.
    "total_quantity": _ABOVE_0,
    "ms1_signal": _ABOVE_0,
    "ms2_signal": _ABOVE_0,
    "fwhm_scans": _ABOVE_0,
    "fwhm_rt": _ABOVE_0,
    "median_mass_acc_ms1": _ABOVE_0,
    "median_mass_acc_ms1_corrected": _ABOVE_0,
    "median_mass_acc_ms2": _ABOVE_0,
    "median_mass_acc_ms2_corrected": _ABOVE_0,
    "normalisation_instability": _FROM_0,  # 0 for a single run
    "median_rt_prediction_acc": _ABOVE_0,
    "average_peptide_length": _ABOVE_0,
    "average_peptide_charge": _ABOVE_0,
    "average_missed_tryptic_cleavages": _FROM_0,
    "median_precursor_rt": _ABOVE_0,
}

MSQC: Mapping[str, Least] = {
    "ms1_scans": _FROM_0,
    "ms2_scans": _FROM_0,
    "ms1_median_tic": _FROM_0,
    "ms2_median_tic": _FROM_0,
    "ms1_median_injection_time": _ABOVE_0,
    "ms2_median_injection_time": _ABOVE_0,
    "gradient_length": _FROM_0,  # 0 for a single spectrum
    "evosep_pump_hp_pressure_max": _FROM_0,
}

# An area of 0 was measured: the peptide has vanished. Predicted times may be negative.
SKYLINE: Mapping[str, Least] = {
    "PredictedRetentionTime": Least.ANY,
    "AverageMeasuredRetentionTime": _ABOVE_0,
    "MeanTotalArea": _FROM_0,
    "CvTotalArea": _FROM_0,
}
