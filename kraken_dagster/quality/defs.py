"""What Dagit shows of quality control: the check `in_control` of `raw_metrics` and `metrics`, and
the job that judges all runs anew. Only where instruments.yaml has `qc.classes`.
"""

from collections.abc import Iterator

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.quality import Outcome, Verdict
from kraken_dagster.orchestration.failures import dagster_errors
from kraken_dagster.orchestration.metadata import Metadata, text
from kraken_dagster.orchestration.partitions import (
    IN_CONTROL,
    METRICS,
    RAW_METRICS,
    asset_key,
    op_name,
)
from kraken_dagster.quality.evaluate import evaluate, judge_due, newest_of_each_class
from kraken_dagster.quality.reported import compared_with, limits_in_words
from kraken_dagster.quality.runs import without_verdict
from kraken_dagster.runtime.services import Services
from resources.kraken import KrakenResource

_TOLD_AT_MOST = 3
_LOOKED_AT = 100  # runs among which the newest of each class is looked for
_CHECKED = (RAW_METRICS, METRICS)
_WORST = (Outcome.OUT_OF_CONTROL, Outcome.LOOK, Outcome.NOT_JUDGED)


def in_control_checks(config: KrakenConfig, instrument_id: str) -> list[dg.AssetChecksDefinition]:
    """The checks of an instrument, which judge what has come and tell of the newest run.

    However many files a run is on, each is one step, and tells the same.
    """
    if not config.qc.classes:
        return []
    return [_in_control(config, instrument_id, asset) for asset in _CHECKED]


def _in_control(config: KrakenConfig, instrument_id: str, asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(instrument_id, asset),
        name=IN_CONTROL,
        description="Whether the newest quality control run of each sample class is in control.",
    )
    def in_control(
        context: dg.AssetCheckExecutionContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> dg.AssetCheckResult:
        with dagster_errors():
            services = kraken.create_services(config)
            for item in judge_due(services, instrument_id, by=f"run {context.run.run_id}"):
                context.log.info(f"{item.verdict.raw_file!r}: {item.verdict.outcome}")
            passed, severity, description, metadata = _reported(services, instrument_id, asset)
        return dg.AssetCheckResult(
            passed=passed, severity=severity, description=description, metadata=metadata
        )

    return in_control


def evaluate_op(config: KrakenConfig) -> dg.OpDefinition:
    kraken_config = config

    @dg.op(
        name=op_name("all", "evaluate_quality"),
        out=dg.Out(dg.Nothing),
        description="Judges all quality control runs anew; older verdicts are kept.",
    )
    def evaluate_all(
        context: dg.OpExecutionContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> Iterator[dg.AssetCheckEvaluation]:
        with dagster_errors():
            services = kraken.create_services(kraken_config)
        for instrument_id in kraken_config.instruments:
            with dagster_errors():
                changed = evaluate(services, instrument_id, by=f"run {context.run.run_id}")
            context.log.info(f"{instrument_id}: {len(changed)} verdicts recorded")
            for asset in _CHECKED:
                with dagster_errors():
                    reported = _reported(services, instrument_id, asset)
                passed, severity, description, metadata = reported
                yield dg.AssetCheckEvaluation(
                    asset_key=asset_key(instrument_id, asset),
                    check_name=IN_CONTROL,
                    passed=passed,
                    severity=severity,
                    description=description,
                    metadata=metadata,
                )

    return evaluate_all


def _reported(
    services: Services, instrument_id: str, asset: str
) -> tuple[bool, dg.AssetCheckSeverity, str, Metadata]:
    """Whether the newest run of each class is in control, and what to know of it.

    Of the metrics of this asset: those of raw files come in seconds, those of searches in an hour.
    """
    of_raw_files = asset == RAW_METRICS
    found = newest_of_each_class(
        item
        for item in services.store.quality.newest(instrument_id, limit=_LOOKED_AT)
        if item.series.sample_class in services.config.qc.classes
        and item.series.is_of_raw_files == of_raw_files
    )
    if not found:
        reported = "no quality control run of this instrument was judged yet"
        return False, dg.AssetCheckSeverity.WARN, reported, {}
    outcomes = {item.outcome for item in found}
    worst = next((item for item in _WORST if item in outcomes), Outcome.IN_CONTROL)
    bad = worst is Outcome.OUT_OF_CONTROL
    severity = dg.AssetCheckSeverity.ERROR if bad else dg.AssetCheckSeverity.WARN
    lines = [f"{_title(item)}: {item.outcome}: {item.reason}" for item in found]
    metadata: Metadata = {}
    for item in found:
        metadata |= _metadata(item)
    newest = max(item.acquired_at for item in found)
    waiting = without_verdict(services, instrument_id, since=newest, of_raw_files=of_raw_files)
    if waiting:
        shown = ", ".join(waiting[:_TOLD_AT_MOST])
        lines.append(f"{len(waiting)} newer ones have no metrics yet: {shown}")
    description = str(text("; ".join(lines)).value)
    return worst is Outcome.IN_CONTROL, severity, description, metadata


def _title(verdict: Verdict) -> str:
    settings = f"{verdict.series.settings_name}:{verdict.series.settings_version}"
    return f"{verdict.series.sample_class} {verdict.raw_file} ({settings})"


def _metadata(verdict: Verdict) -> Metadata:
    kind = f"{verdict.series.sample_class}, {verdict.series.settings_name}"
    metadata: Metadata = {
        f"{kind}: run": text(verdict.raw_file),
        f"{kind}: verdict": text(verdict.outcome),
        f"{kind}: acquired at": dg.MetadataValue.timestamp(verdict.acquired_at),
        f"{kind}: last good run": text(verdict.last_good or "none"),
        f"{kind}: limits": text(compared_with(verdict)),
    }
    for item in verdict.metrics:
        metadata[f"{kind}: {item.name}"] = text(limits_in_words(item))
        if item.z is not None:  # a number, which Dagit plots over time
            metadata[f"{kind}: {item.name} z"] = dg.MetadataValue.float(round(item.z, 3))
    return metadata
