"""Writes mzQC 1.0: one document for a run's results, or for a set of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from kraken_dagster.metrics.mzqc.terms import (
    CONTROL_LIMITS,
    OWN,
    VERDICT,
    VERDICTS,
    cv_terms,
    cv_version,
    metrics_of,
    own_term,
)

VERSION = "1.0.0"
_FORMATS = {
    ".raw": "MS:1000563",
    ".d": "MS:1002817",
    ".wiff": "MS:1000562",
    ".wiff2": "MS:1003448",
}
_MASS_SPECTROMETER_FILE = "MS:1000560"
_MD5, _COMPLETION_TIME = "MS:1000568", "MS:1000747"
_CUSTOM_TOOL = "MS:1000799"
_IDENTIFICATION_FILE = "MS:1002130"  # wanted beside what a search has counted
_WITHOUT_SEARCH = ("msqc", "raw")
_PROGRAMS = {"diann": "MS:1003253"}

Document = dict[str, Any]


@dataclass(frozen=True)
class RawInput:
    """A raw file: its name, where its backup is, and the MD5 of its one member, if it has one."""

    name: str
    folder: str | None
    acquired_at: datetime
    md5: str | None = None

    @property
    def location(self) -> str:
        """A URI; of a file without a backup one that only names it."""
        name = quote(self.name, errors="surrogateescape")
        if self.folder is None:
            return f"urn:kraken:raw-file:{name}"
        folder = quote(self.folder.rstrip("/"), errors="surrogateescape")
        return f"file://{folder}/{name}"


@dataclass(frozen=True)
class Result:
    """What one program told of a raw file. `software` is its name and version; `output` the folder
    of its results."""

    raw_input: RawInput
    settings: str
    metrics_type: str
    software: tuple[str, str]
    metrics: Mapping[str, float]
    output: str
    verdict: str | None = None


@dataclass(frozen=True)
class JudgedSet:
    """Runs of one series: their verdicts, and the limits of the newest of them.

    `verdicts` and `limits` are tables: columns of the same length by name.
    """

    label: str
    inputs: Sequence[RawInput]
    verdicts: Mapping[str, Sequence[Any]]
    limits: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def run_document(results: Sequence[Result], *, kraken: str, now: datetime) -> Document | None:
    """A document with a `runQuality` for each result that has a metric with a term.

    None where there is none: mzQC has no empty document. Metrics without a term are left out, and
    counted in the description.
    """
    qualities, left_out = [], 0
    for result in results:
        found = _metrics(result)
        used = {name for metric in metrics_of(result.metrics_type) for name in metric.metrics}
        left_out += len(result.metrics.keys() - used)
        if found:
            qualities.append({"metadata": _metadata(result), "qualityMetrics": found})
    if not qualities:
        return None
    reported = "Quality metrics of a raw file"
    reported += f"; {left_out} metrics have no term and are left out" if left_out else ""
    return _document(reported, now, {"runQualities": qualities}, kraken)


def set_document(sets: Sequence[JudgedSet], *, kraken: str, now: datetime) -> Document | None:
    """A document with a `setQuality` for each series of runs; None without any."""
    qualities = []
    for item in sets:
        metrics = [own_term(VERDICTS).plain(_table(item.verdicts))]
        if item.limits:
            metrics.append(own_term(CONTROL_LIMITS).plain(_table(item.limits)))
        metadata = {
            "label": item.label,
            "inputFiles": [_input(one) for one in item.inputs],
            "analysisSoftware": [_tool("kraken-dagster", kraken)],
        }
        qualities.append({"metadata": metadata, "qualityMetrics": metrics})
    if not qualities:
        return None
    reported = "Verdicts on runs of quality control samples, and their limits"
    return _document(reported, now, {"setQualities": qualities}, kraken)


def _document(reported: str, now: datetime, qualities: Document, kraken: str) -> Document:
    vocabularies = [
        {
            "name": "Proteomics Standards Initiative Mass Spectrometry Ontology",
            "uri": "https://github.com/HUPO-PSI/psi-ms-CV/releases/download/"
            f"v{cv_version()}/psi-ms.obo",
            "version": cv_version(),
        },
        {"name": "Unit Ontology", "uri": "http://purl.obolibrary.org/obo/uo.owl"},
        {"name": f"{OWN} terms of kraken-dagster", "uri": "urn:kraken:mzqc", "version": kraken},
    ]
    head = {"version": VERSION, "creationDate": now.isoformat(), "description": reported}
    return {"mzQC": {**head, **qualities, "controlledVocabularies": vocabularies}}


def _metadata(result: Result) -> Document:
    name, version = result.software
    program = cv_terms().get(_PROGRAMS.get(result.metrics_type, ""))
    tool = _tool(name, version) if program is None else {**program.plain(), "version": version}
    metadata: Document = {
        "label": f"{result.raw_input.name} ({result.settings})",
        "inputFiles": [_input(result.raw_input), *_search_results(result)],
        "analysisSoftware": [tool],
    }
    if result.verdict is not None:
        metadata["cvParameters"] = [own_term(VERDICT).plain(result.verdict)]
    return metadata


def _metrics(result: Result) -> list[Document]:
    """Each term once, as mzQC wants it."""
    found: dict[str, Document] = {}
    for metric in metrics_of(result.metrics_type):
        value = metric.value_of(result.metrics)
        if value is not None and metric.term.accession not in found:
            found[metric.term.accession] = metric.plain(value)
    return list(found.values())


def _input(raw: RawInput) -> Document:
    extension = PurePosixPath(raw.name).suffix.lower()
    terms = cv_terms()
    properties = [terms[_COMPLETION_TIME].plain(raw.acquired_at.isoformat())]
    if raw.md5 is not None:
        properties.append(terms[_MD5].plain(raw.md5))
    return {
        "name": raw.name,
        "location": raw.location,
        "fileFormat": terms[_FORMATS.get(extension, _MASS_SPECTROMETER_FILE)].plain(),
        "fileProperties": properties,
    }


def _search_results(result: Result) -> list[Document]:
    if result.metrics_type in _WITHOUT_SEARCH:
        return []
    path = PurePosixPath("/", result.output)
    location = f"file://{quote(str(path), errors='surrogateescape')}"
    name = f"{path.parent.name}/{path.name}"
    format_ = cv_terms()[_IDENTIFICATION_FILE].plain()
    return [{"name": name, "location": location, "fileFormat": format_}]


def _tool(name: str, version: str) -> Document:
    return {**cv_terms()[_CUSTOM_TOOL].plain(name), "version": version}


def _table(columns: Mapping[str, Sequence[Any]]) -> Document:
    return {name: list(values) for name, values in columns.items()}
