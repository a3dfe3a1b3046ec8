"""Access tokens that `copytrader login` obtained: one file per account, readable by its owner alone.

A token leaves this module only inside a `SecretStr`; no error message holds one.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from pydantic import SecretStr

from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENT_ID = re.compile(r"[0-9A-Za-z]{1,32}")
STATE_DIR = "COPYTRADER_STATE_DIR"


@dataclass(frozen=True, slots=True)
class StoredToken:
    access_token: SecretStr
    expires_at: datetime


class Credential:
    """An account's access token, replaced when a new one is stored; it never shows itself."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def __call__(self) -> str:
        return self._token.get_secret_value()

    def replace(self, token: SecretStr) -> bool:
        """Take a new token; tell whether it is another one."""
        changed = token.get_secret_value() != self._token.get_secret_value()
        self._token = token
        return changed

    def __repr__(self) -> str:
        return "Credential(**********)"


class TokenFileError(Failure):
    """The file of a stored token cannot be used as it is; a new login replaces it."""


def state_dir(env: Mapping[str, str] | None = None) -> Path:
    """Return the directory of what copytrader remembers between runs, apart from the journal."""
    chosen = (os.environ if env is None else env).get(STATE_DIR)
    return Path(chosen).expanduser() if chosen else platformdirs.user_state_path("copytrader", appauthor=False)


def stored_token(client_id: str, env: Mapping[str, str] | None = None) -> StoredToken | None:
    """Return what was stored for this account, expired or not; None where nothing was."""
    path = _path(client_id, env)
    try:
        text = _read_private(path)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        token, expires_at = content["access_token"], datetime.fromisoformat(content["expires_at"])
    except (ValueError, KeyError, TypeError):
        raise _unreadable(path, client_id, "is damaged") from None
    if not isinstance(token, str) or not token or expires_at.tzinfo is None:
        raise _unreadable(path, client_id, "is damaged")
    return StoredToken(SecretStr(token), expires_at)


def store_token(
    client_id: str, access_token: SecretStr, expires_at: datetime, env: Mapping[str, str] | None = None
) -> Path:
    """Replace the account's stored token in one step, so that a reader sees the old one or the new one."""
    if expires_at.tzinfo is None:
        raise ValueError("expires_at must be aware")
    content = {"access_token": access_token.get_secret_value(), "expires_at": expires_at.isoformat()}
    return _write_private(_path(client_id, env), content)


def version(client_id: str, env: Mapping[str, str] | None = None) -> tuple[int, ...]:
    """Return numbers that change whenever the account's stored token does; none where nothing is stored."""
    try:
        found = _path(client_id, env).stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def minted_at(client_id: str, env: Mapping[str, str] | None = None) -> datetime | None:
    """Return when this machine last asked Dhan to mint a token for the account, None where it never did."""
    try:
        time = datetime.fromisoformat(json.loads(_read_private(_stamp(client_id, env)))["asked_at"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return time if time.tzinfo is not None else None


def stamp_minting(client_id: str, at: datetime, env: Mapping[str, str] | None = None) -> None:
    """Note that Dhan is about to be asked for a new token."""
    _write_private(_stamp(client_id, env), {"asked_at": at.isoformat()})


def forget_minting(client_id: str, env: Mapping[str, str] | None = None) -> None:
    """Take the note back: Dhan certainly made no token."""
    _stamp(client_id, env).unlink(missing_ok=True)


def _stamp(client_id: str, env: Mapping[str, str] | None) -> Path:
    return _path(client_id, env).with_suffix(".minted")


def _write_private(path: Path, content: Mapping[str, str]) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes the file 0600 whatever the umask.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _path(client_id: str, env: Mapping[str, str] | None) -> Path:
    if not CLIENT_ID.fullmatch(client_id):
        raise ValueError("a client id is 1 to 32 letters and digits")
    return state_dir(env) / "tokens" / client_id


def _read_private(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Failure(f"{path} is a symbolic link: remove it and log in again", code=ExitCode.TOKEN) from None
        raise
    with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Failure(f"{path} can be read by others: run chmod 600 {path}", code=ExitCode.TOKEN)
        return file.read()


def _unreadable(path: Path, client_id: str, what: str) -> TokenFileError:
    return TokenFileError(f"{path} {what}: run `copytrader login` for client {client_id} again", code=ExitCode.TOKEN)
