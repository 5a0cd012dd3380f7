"""Tokens by which programs ask Kraken, and what was done with them."""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict

PREFIX = "kraken_"  # tells such a token from those in Kraken's home, and for scanners of secrets
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}"


class TokenScope(StrEnum):
    READ = "read"
    OPERATE = "operate"  # also what changes something


class ApiToken(BaseModel):
    """A document of `api_token`; of the token itself only SHA-256 is kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str
    digest: str
    scope: TokenScope
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    revoked_by: str | None = None
    last_used_at: AwareDatetime | None = None

    def holds(self, now: AwareDatetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
