"""A POST of JSON, with the standard library."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException

from kraken_dagster.model.alerts.outbox import Message
from kraken_dagster.model.errors import ChannelFailed

_TIMEOUT_S = 10.0


def post(message: Message, url: str) -> None:
    """
    Raises:
        ChannelFailed: no answer, or not one that says that it was taken (2xx).
    """
    try:
        request = urllib.request.Request(  # noqa: S310 - the schema is looked at below
            url, json.dumps(as_json(message)).encode(), {"Content-Type": "application/json"}
        )
        if request.type not in ("http", "https"):
            raise _failed("expected a URL of http or https")
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        raise _failed(f"it answers with {error.code}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise _failed(f"no answer: {reason}") from None
    except ValueError:  # its text has the URL, which may be a secret
        raise _failed("a URL that can't be understood") from None


def as_json(message: Message) -> dict[str, object]:
    """What is posted; docs/alerts.md has the fields."""
    return {
        "id": message.id,
        "kind": message.kind,
        "event": message.event,
        "severity": message.severity,
        "alerts": list(message.alerts),
        "subject": message.subject,
        "text": message.text,
        "created_at": message.created_at.isoformat(),
    }


def _failed(found: str) -> ChannelFailed:
    return ChannelFailed(
        "A webhook didn't take a message",
        found=found,
        next_step="see its settings; it is tried again by itself.",
    )
