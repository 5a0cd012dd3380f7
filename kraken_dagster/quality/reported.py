"""Verdicts and guide sets as rows of tables."""

from collections.abc import Sequence
from typing import Any

from kraken_dagster.config.quality_rules import QcHint
from kraken_dagster.model.quality import GuideSet, MetricVerdict, Series, Verdict
from kraken_dagster.quality.hints import in_words


def verdict_row(verdict: Verdict, hints: Sequence[QcHint] = ()) -> dict[str, Any]:
    """`words`: what is out, and what that points to."""
    return {
        "file": verdict.raw_file,
        **_series(verdict.series),
        "acquired_at": verdict.acquired_at,
        "verdict": verdict.outcome,
        "words": in_words(verdict, hints),
        "reason": verdict.reason,
        "guide_set": verdict.guide_set,
        "last_good": verdict.last_good,
        "false_alarms_a_month": verdict.false_alarms_a_month,
        "judged_at": verdict.at,
        "by": verdict.by,
        "revision": verdict.revision,
    }


def metric_row(metric: MetricVerdict) -> dict[str, Any]:
    numbers = {name: getattr(metric, name) for name in ("value", "lower", "centre", "upper", "z")}
    return {
        "metric": metric.name,
        **{name: None if item is None else f"{item:.4g}" for name, item in numbers.items()},
        "runs": metric.n,
        "verdict": metric.outcome,
        "charts": ", ".join(item.chart for item in metric.signals) or None,
    }


def limits_in_words(metric: MetricVerdict) -> str:
    """A metric's value and verdict beside its limits."""
    if metric.n == 0:
        return f"{metric.outcome}: {metric.reason}"
    row = metric_row(metric)
    limits = f"limits {row['lower'] or '-'} to {row['upper'] or '-'} from {metric.n} runs"
    charts = "" if row["charts"] is None else f"; {row['charts']}"
    return f"{row['value']}, {metric.outcome}: mean {row['centre']}, {limits}{charts}"


def guide_set_row(guide_set: GuideSet) -> dict[str, Any]:
    left = [f"{item.metric} of {item.raw_file}" for item in guide_set.left_out]
    return {
        "id": guide_set.id,
        **_series(guide_set.series),
        "gradient_min": guide_set.gradient_min,
        "runs": len(guide_set.runs),
        "left_out": ", ".join(left) or None,
        "valid_from": guide_set.valid_from,
        "by": guide_set.by,
        "why": guide_set.why,
        "withdrawn_at": guide_set.withdrawn_at,
    }


def compared_with(verdict: Verdict) -> str:
    """What the limits come from, and what they cost."""
    if verdict.guide_set is not None:
        text = f"compared with guide set {verdict.guide_set}"
    elif verdict.compared:
        text = f"no guide set: compared with the last {len(verdict.compared)} good runs"
    else:
        text = "compared with nothing"
    if verdict.false_alarms_a_month is not None:
        text += f"; {verdict.false_alarms_a_month:.1f} false alarms a month are expected"
    if verdict.last_good is not None:
        text += f"; last good run: {verdict.last_good}"
    return text


def _series(series: Series) -> dict[str, Any]:
    return {
        "instrument": series.instrument_id,
        "class": series.sample_class,
        "settings": f"{series.settings_name}:{series.settings_version}",
    }
