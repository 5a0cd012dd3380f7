"""Tokens for programs: made, revoked, and checked."""

import hashlib
import re
import secrets
from datetime import datetime

from kraken_dagster.model.api_tokens import NAME, PREFIX, ApiToken, TokenScope
from kraken_dagster.model.errors import AlreadyThere, InputRefused
from kraken_dagster.runtime.services import Services


def add_token(
    services: Services, name: str, scope: TokenScope, *, expires_at: datetime | None, by: str
) -> str:
    """The new token, which nobody can be shown again.

    Raises:
        InputRefused: a name with other characters, or an end that has passed.
        AlreadyThere: there is, or was, one of that name.
        StoreError
    """
    now = services.now()
    if re.fullmatch(NAME, name) is None:
        raise InputRefused(
            "The name can't be used for a token",
            expected="1 to 60 of A-Z, a-z, 0-9, `.`, `_` and `-`, a letter or digit first",
            found=name,
            next_step="choose another name.",
        )
    if expires_at is not None and expires_at <= now:
        raise InputRefused(
            "A token ends in the future",
            found=f"{expires_at:%Y-%m-%d %H:%M} UTC",
            next_step="give a later date.",
        )
    secret = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        name=name,
        digest=_digest(secret),
        scope=scope,
        created_at=now,
        created_by=by,
        expires_at=expires_at,
    )
    if not services.store.api_tokens.add(token):
        raise AlreadyThere(
            "A token of that name exists, or existed, and histories name it",
            file=name,
            next_step="choose another name; `kraken token list` shows all.",
        )
    return secret


def revoke_token(services: Services, name: str, *, by: str) -> None:
    """
    Raises:
        InputRefused: there is none of that name that is not revoked.
    """
    if not services.store.api_tokens.revoke(name, by=by, now=services.now()):
        raise InputRefused(
            "There is no such token, or it is revoked already",
            file=name,
            next_step="`kraken token list` shows all.",
        )


def token_of(services: Services, secret: str) -> ApiToken | None:
    """The token, if it holds; its use is noted.

    Raises:
        StoreError
    """
    now = services.now()
    found = services.store.api_tokens.by_digest(_digest(secret))
    if found is None or not found.holds(now):
        return None
    services.store.api_tokens.used(found, now=now)
    return found


def _digest(secret: str) -> str:
    """Of 256 random bits, which need no slow digest as passwords do."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
