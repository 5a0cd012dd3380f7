"""Metrics from raw files themselves: documents of `metrics`, and `raw_metrics` of the raw file."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.collection import Collection as MongoCollection

from kraken_dagster.model.metric_values import TYPE_RAW
from kraken_dagster.model.quality import RAW_FILES
from kraken_dagster.model.raw_metrics import RawMetricsState, RawMetricsStatus
from kraken_dagster.store.errors import translated
from kraken_dagster.store.quant.metrics import Metrics

Document = dict[str, Any]


@translated
class RawMetrics:
    def __init__(self, raw_files: "MongoCollection[Document]", metrics: Metrics) -> None:
        self._raw_files = raw_files
        self._metrics = metrics

    def keep(self, raw_file_id: str, state: RawMetricsState) -> None:
        """Records what came of it; the file's status and history stay as they are."""
        change = {"$set": {"raw_metrics": state.model_dump()}}
        self._raw_files.update_one({"_id": raw_file_id}, change)

    def add(
        self,
        raw_file_id: str,
        metrics: Mapping[str, Any],
        *,
        traces: str | None,
        provenance: Mapping[str, Any],
        now: datetime,
    ) -> None:
        """Adds the metrics, however often this is asked; others than before get a document of
        their own."""
        document = {
            **metrics,
            "raw_file": raw_file_id,
            "settings_name": RAW_FILES,  # no settings made them, and AlphaKraken's models want one
            "settings_version": 1,
            "type": TYPE_RAW,
            "output_path": traces,
            "created_at_": now,
            "provenance": dict(provenance),
        }
        self._metrics.add_document(document, TYPE_RAW, raw_file_id)

    def missing(self, instrument_id: str, *, since: datetime | None = None) -> list[str]:
        """The ids of files that have been backed up, and of whose raw file nothing was read.

        `since`: only of files whose record has changed since then, which an index finds.
        """
        query: Document = {
            "instrument_id": instrument_id,
            "backed_up_at": {"$ne": None},
            "raw_metrics.status": {"$nin": [item.value for item in RawMetricsStatus]},
        }
        if since is not None:
            query["updated_at_"] = {"$gte": since}
        return [str(item["_id"]) for item in self._raw_files.find(query, {"_id": 1})]
