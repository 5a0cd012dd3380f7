"""Quality control runs for the page: a good instrument, and one whose column dies slowly."""

from datetime import datetime, timedelta

import numpy as np

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.quality import AnnotationKind
from kraken_dagster.quality.evaluate import judge_due
from kraken_dagster.quality.statements import annotate, exclude
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.quality.laboratory import good_metrics
from kraken_dagster_tests.support.helpers import job
from kraken_dagster_tests.web.laboratory import add

QC = {
    "classes": {"hela": {"pattern": "hela"}},
    "metrics": {
        "proteins": {"side": "low"},
        "ms1_signal": {"log": True},
        "fwhm_rt": {"side": "high", "upper": 9.0},
        "median_mass_acc_ms1": {},
    },
    "hints": [
        {"metrics": {"ms1_signal": "low", "fwhm_rt": "high"}, "text": "a column that dies?"},
        {"metrics": {"ms1_signal": "low"}, "text": "spray?"},
    ],
}
HOSTILE = "<img src=x onerror=alert(1)>"
COUNT, EVERY = 40, timedelta(hours=4)
ANNOTATED, EXCLUDED, MISSING = 4, 30, 31  # by the run's number


def with_qc(config: KrakenConfig) -> KrakenConfig:
    return KrakenConfig.model_validate({**config.model_dump(), "qc": QC})


def name_of(instrument: str, number: int) -> str:
    return f"{instrument}_hela_{number:03}.raw"


def fill_quality(services: Services, now: datetime) -> None:
    """40 runs of two instruments, judged. Of thermo1 the column is new before the fifth, and the
    last five lose signal while their peaks widen."""
    chance = np.random.default_rng(4)
    for instrument in ("thermo1", "bruker1"):
        for number in range(COUNT):
            add_run(services, instrument, number, chance, now=now)
    begins = now - (COUNT - ANNOTATED + 0.5) * EVERY
    annotate(
        services,
        "thermo1",
        AnnotationKind.COLUMN,
        f"new column {HOSTILE}",
        begins_at=begins,
        new_guide_set=True,
        by="somebody",
    )
    exclude(services, name_of("thermo1", EXCLUDED), why="empty vial", by="somebody")
    for instrument in ("thermo1", "bruker1"):
        judge_due(services, instrument, by="test")


def add_run(
    services: Services, instrument: str, number: int, chance: np.random.Generator, *, now: datetime
) -> None:
    at = now - (COUNT - number) * EVERY
    name = name_of(instrument, number)
    add(services, name, at, instrument_id=instrument)
    metrics = {**good_metrics(chance), "gradient_length": 21.0, "irt_slope": 2.0 + number % 3}
    if instrument == "thermo1" and number >= COUNT - 5:
        metrics["ms1_signal"] *= 0.3
        metrics["fwhm_rt"] += 3.0
    if number == MISSING:
        del metrics["proteins"]
    done = job(f"{name}-1", raw_file=name, instrument_id=instrument, settings_name="dia")
    services.store.metrics.add(done, metrics, provenance={}, now=at + timedelta(hours=1))
