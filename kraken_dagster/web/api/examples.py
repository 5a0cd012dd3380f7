"""Answers as they stand in the description of the routes."""

from datetime import UTC, datetime
from typing import Any

from kraken_dagster.web.queries.plain import cursor_of

FILE_ID = "20261127_OA1_Evo_PRJ1_HeLa_01.raw"
_AT, _LATER = "2026-11-27T09:41:00Z", "2026-11-27T10:05:30Z"
_NEXT = cursor_of((datetime(2026, 11, 27, 9, 41, tzinfo=UTC), FILE_ID))
_FILE: dict[str, Any] = {
    "id": FILE_ID,
    "original_name": FILE_ID,
    "instrument_id": "astral1",
    "project_id": "PRJ1",
    "status": "done",
    "status_details": None,
    "size": 5_368_709_120,
    "backup_status": "copying_done",
    "backup_base_path": "/pool/backup/astral1/2026_11",
    "instrument_file_status": "moved",
    "collision_flag": None,
    "created_at": _AT,
    "created_at_": _AT,
    "updated_at_": _LATER,
    "verified_at": None,
}
_METRICS = {"precursors": 98_412, "proteins": 8_211, "ms1_median_accumulation": 2.9}
FILES = {"data": [_FILE], "next": _NEXT, "scanned": 101, "warnings": []}
RAW_FILES = {
    "total": 1,
    "offset": 0,
    "limit": 100,
    "data": [
        {
            "id": FILE_ID,
            "original_name": FILE_ID,
            "instrument_id": "astral1",
            "project_id": "PRJ1",
            "status": "done",
            "size": 5_368_709_120,
            "created_at": "2026-11-27T09:41:00",
            "updated_at_": "2026-11-27T10:05:30",
            "metrics": [{**_METRICS, "type": "alphadia", "output_path": f"PRJ1/out_{FILE_ID}"}],
            "file_info": None,
            "backup_base_path": None,
            "backup_status": "copying_done",
            "instrument_file_status": "moved",
        }
    ],
}
RAW_FILES_FAULT = {
    "detail": [
        {
            "type": "greater_than_equal",
            "loc": ["query", "limit"],
            "msg": "Input should be greater than or equal to 1",
            "input": "0",
        }
    ]
}
_JOB = {
    "id": f"kraken-{FILE_ID}-dia-1",
    "settings_name": "dia",
    "settings_version": 1,
    "state": "succeeded",
    "cluster_job_id": "4711",
    "engine": "cluster",
}
_VERDICT: dict[str, Any] = {
    "file": FILE_ID,
    "instrument": "astral1",
    "class": "hela",
    "settings": "dia:1",
    "acquired_at": _AT,
    "verdict": "out_of_control",
    "words": "ms1 signal 35 % below: spray?",
    "reason": "1 of 4 metrics is out of control",
    "guide_set": None,
    "last_good": None,
    "false_alarms_a_month": 0.4,
    "judged_at": _LATER,
    "by": "the sensor quality",
    "revision": 1,
}
FILE = {
    "id": FILE_ID,
    "instrument": "astral1",
    "project": "PRJ1",
    "status": "done",
    "details": None,
    "size_bytes": 5_368_709_120,
    "backup": "copying_done",
    "created_at": _AT,
    "retry_at": None,
    "waits_for": None,
    "original_name": FILE_ID,
    "file_info": {
        FILE_ID: {"size_bytes": 5_368_709_120, "md5": "9e107d9d372bb6826bd81d3542a419d6"}
    },
    "jobs": [_JOB],
    "metrics": [{**_METRICS, "type": "alphadia", "current": True, "provenance": {"job": "..."}}],
    "quality": [_VERDICT],
    "history": [{"at": _AT, "from": "copying", "to": "copying_done", "reason": None}],
    "errand": None,
}
TRACES = {
    "file": FILE_ID,
    "traces": [
        {
            "name": "tic",
            "title": "",
            "unit": "arbitrary",
            "rt_unit": "min",
            "rt_min": [0.01, 0.02],
            "values": [1.2e6, 1.4e6],
        }
    ],
}
METRICS = {
    "data": [
        {
            "raw_file": FILE_ID,
            "instrument_id": "astral1",
            "project_id": "PRJ1",
            "created_at": _AT,
            "type": "alphadia",
            "settings_name": "dia",
            "settings_version": 1,
            "measured_at": _LATER,
            **_METRICS,
        }
    ],
    "next": _NEXT,
    "scanned": 101,
}
_INSTRUMENT = {
    "id": "astral1",
    "type": "thermo",
    "status": "ok",
    "details": None,
    "looked_at": _LATER,
    "free_space_gb": 812.5,
    "files": {"done": 1204, "error": 1},
    "wrong": ["astral1: 1 file in error; see `kraken files --status error`"],
}
INSTRUMENTS = {"data": [_INSTRUMENT]}
STATUS = {
    "instruments": [_INSTRUMENT],
    "engines": [{"id": "cluster", "type": "slurm", "status": "ok", "open_jobs": 3}],
    "file_systems": [{"id": "backup", "path": "/pool/backup", "status": "ok"}],
    "ticks": [
        {
            "name": "astral1_watcher",
            "kind": "sensor",
            "instrument": "astral1",
            "state": "ok",
            "last_tick": _LATER,
            "took_s": 0.4,
            "outcome": "skipped",
            "details": "2 files are looked at; no run is due",
            "told": None,
        }
    ],
    "wrong": _INSTRUMENT["wrong"],
}
PROJECTS = {
    "data": [
        {
            "id": "PRJ1",
            "name": "Plasma",
            "description": "",
            "status": "active",
            "settings": [
                {
                    "id": "665f1f77bcf86cd799439011",
                    "settings_name": "dia",
                    "settings_version": 1,
                    "software_type": "alphadia",
                    "scope": "*",
                    "excluded": [],
                    "raw_file_id_filter": None,
                }
            ],
            "problems": [],
        }
    ]
}
SETTINGS = {
    "data": [
        {
            "name": "dia",
            "version": 1,
            "description": "",
            "software_type": "alphadia",
            "software": "alphadia-1.10",
            "metrics_type": "alphadia",
            "status": "active",
        }
    ]
}
_ALERT: dict[str, Any] = {
    "id": "ab12cd34",
    "name": "health_failed astral1 #1",
    "kind": "health_failed",
    "subject": "astral1",
    "instrument": "astral1",
    "severity": "warning",
    "audience": "operations",
    "state": "open",
    "summary": "astral1: its folder does not answer",
    "details": "",
    "members": [],
    "member_count": 0,
    "since": _AT,
    "opened": _AT,
    "last_seen": _LATER,
    "count": 1,
    "acknowledged_by": None,
    "silenced_until": None,
    "resolved_at": None,
    "next_step": "see `kraken status`.",
    "messages": [
        {
            "id": "5f2a1b3c4d5e",
            "channel": "mail",
            "event": "opened",
            "state": "sent",
            "tries": 1,
            "sent_at": _AT,
            "error": None,
        }
    ],
}
ALERTS = {"data": [_ALERT]}
ACKNOWLEDGED = {**_ALERT, "state": "acknowledged", "acknowledged_by": "night shift by REST"}
VERDICTS = {"data": [{**_VERDICT, "metrics": [{"name": "precursors", "value": 98_412.0}]}]}
ANNOTATION = {
    "id": "5f2a1b3c4d5e",
    "instrument_id": "astral1",
    "kind": "column",
    "text": "new column",
    "begins_at": _AT,
    "ends_at": None,
    "new_guide_set": True,
    "by": "night shift by REST",
    "at": _AT,
    "withdrawn_at": None,
}
ANNOTATE = {"instrument": "astral1", "kind": "column", "text": "new column", "new_guide_set": True}
ASKED_FOR = {"file": FILE_ID, "asked_for": "astral1_watcher goes on with it at its next tick"}
