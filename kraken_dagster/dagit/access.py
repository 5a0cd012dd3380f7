"""Tokens, links for logging in, and logins: files in Kraken's home that only its user can read.

Of links and logins only SHA-256 is kept. Whoever can read the folder may log in anyway.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from kraken_dagster.config.dagit import Role
from kraken_dagster.model.errors import ConfigError

DAGIT, PAGE = "Dagit", "page"  # what a link can lead to
PROXY = "proxy"  # the token by which a trusted proxy proves that it is the one
LINK_LIVES_FOR = timedelta(hours=1)
LOGIN_LIVES_FOR = timedelta(days=30)
_LINKS, _LOGINS = "links", "logins"
_URLS = {DAGIT: "url", PAGE: "page-url"}
_TOKENS = (*Role, PROXY)
_SHORTEST_TOKEN = 32


@dataclass(frozen=True)
class Access:
    """Below `<home>/access`."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "access"

    def token(self, name: str) -> str:
        """`operator`, `viewer` or `proxy`; made when it is first asked for.

        Raises:
            ConfigError: it can't be read or made, or others can read it.
        """
        path = self.folder / f"{name}.token"
        try:
            self._make(self.folder)
            with suppress(FileExistsError):
                _write_new(path, secrets.token_urlsafe(32) + "\n")
            with path.open(encoding="ascii") as file:
                mode, token = os.fstat(file.fileno()).st_mode, file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(path, error) from error
        if stat.S_IMODE(mode) & 0o077 or len(token) < _SHORTEST_TOKEN:
            raise ConfigError(
                "A token is not secret: others can read its file, or it is too short",
                file=path,
                expected="mode 0600",
                found=f"mode {stat.S_IMODE(mode):04o}, {len(token)} characters",
                next_step="delete the file; a new token is made when it is needed.",
            )
        return token

    def role_of_token(self, given: str) -> Role | None:
        for role in Role:
            if secrets.compare_digest(given.encode(), self.token(role).encode()):
                return role
        return None

    def is_proxy_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token(PROXY).encode())

    def new_link(self, role: Role, *, now: datetime, to: str = DAGIT) -> str:
        """The URL that logs in whoever opens it first, at Dagit or at the page.

        Raises:
            ConfigError: neither was started for this home, or the folder can't be written to.
        """
        try:
            url = (self.folder / _URLS[to]).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(
                f"No {to} was started for this home",
                file=self.home,
                next_step="start Kraken: kraken up.",
            ) from None
        except OSError as error:
            raise _unusable(self.folder / _URLS[to], error) from error
        return f"{url}/login?code={self._issue(_LINKS, role, ends_at=now + LINK_LIVES_FOR)}"

    def use_link(self, code: str, *, now: datetime) -> Role | None:
        """What the link is good for; it is good once."""
        path = self._path(_LINKS, code)
        role = _valid(path, now=now)
        try:
            path.unlink()  # of several at the same time one succeeds
        except OSError:
            return None
        return role

    def new_login(self, role: Role, *, now: datetime) -> str:
        return self._issue(_LOGINS, role, ends_at=now + LOGIN_LIVES_FOR)

    def role_of_login(self, given: str, *, now: datetime) -> Role | None:
        return _valid(self._path(_LOGINS, given), now=now)

    def prepare(self, url: str, *, of: str = DAGIT) -> None:
        """Makes the tokens, and notes where Dagit or the page is, for links that are made later.

        Raises:
            ConfigError: the folder can't be written to, or a token isn't secret.
        """
        for name in _TOKENS:
            self.token(name)
        try:
            self._make(self.folder)
            path = self.folder / _URLS[of]
            path.unlink(missing_ok=True)
            _write_new(path, url)
        except OSError as error:
            raise _unusable(self.folder, error) from error

    def revoke(self) -> None:
        """Ends all logins, makes all links worthless, and all tokens anew."""
        try:
            for name in (_LINKS, _LOGINS):
                with suppress(FileNotFoundError):
                    shutil.rmtree(self.folder / name)
            for path in self.folder.glob("*.token"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        for name in _TOKENS:
            self.token(name)

    def _issue(self, kind: str, role: Role, *, ends_at: datetime) -> str:
        secret = secrets.token_urlsafe(32)
        try:
            self._make(self.folder)
            self._make(self.folder / kind)
            self._remove_old(kind, before=datetime.now(ends_at.tzinfo))
            text = json.dumps({"role": role, "ends_at": ends_at.isoformat()})
            _write_new(self._path(kind, secret), text)
        except OSError as error:
            raise _unusable(self.folder / kind, error) from error
        return secret

    def _remove_old(self, kind: str, *, before: datetime) -> None:
        for path in (self.folder / kind).glob("[!.]*"):  # others are about to be written
            if _valid(path, now=before) is None:
                path.unlink(missing_ok=True)

    def _path(self, kind: str, secret: str) -> Path:
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / kind / digest

    @staticmethod
    def _make(folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)


def _valid(path: Path, *, now: datetime) -> Role | None:
    """What a link or a login is good for; None if it has ended, or there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        ends_at = datetime.fromisoformat(found["ends_at"])
        return Role(found["role"]) if now < ends_at else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_new(path: Path, text: str) -> None:
    """Makes a file that only this user can read, whole or not at all; FileExistsError if it is
    there."""
    spare = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.link(spare, path)
    finally:
        spare.unlink(missing_ok=True)


def _unusable(path: Path, error: Exception) -> ConfigError:
    found = error.strerror if isinstance(error, OSError) else "no text"
    return ConfigError(
        "What logins to Dagit need can't be read or written",
        file=path,
        found=found,
        next_step="run this as the user who owns Kraken's home.",
    )
