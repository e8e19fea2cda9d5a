"""Tell who calls, and whether that caller may do what it asks.

Tokens stand in a TOML or JSON file. Each is kept plain or, better, as the SHA-256 of it (`printf %s TOKEN |
sha256sum`), is limited to channels by patterns (`*`, `?`, `[...]`, on the bare name) and to permissions:

```toml
[[tokens]]
name = "gate cameras"
token = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
channels = ["gate-*"]
permissions = ["publish"]

[[tokens]]
name = "security desk"
token = "plain-text-works-too"
channels = ["*"]
permissions = ["watch", "acknowledge"]
```

What may be done with the channels that a pattern covers: `publish` their streams; `watch` their sessions, results,
events and pictures; `acknowledge` their events; `administer`, that is change, check and export. Whoever may
administer may acknowledge, too, so that a file from before there was `acknowledge` means the same as it did; who may
only watch may not: it changes what others see.

A changed file is read again within a second, by the next call that asks; when it is broken the old tokens
stay in force and the log says why. Called from the event loop.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import json
import logging
import re
import time
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vedette_server.errors import ForbiddenError, SettingsError, UnauthenticatedError
from vedette_server.shown import as_typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from vedette_server.settings import AuthSettings

_CHECK_EVERY_S = 1.0
_MAX_TOKEN_CHARS = 4096
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = frozenset({"name", "token", "channels", "permissions"})

_log = logging.getLogger(__name__)


class Permission(StrEnum):
    """What a caller may do with a channel."""

    PUBLISH = "publish"
    WATCH = "watch"
    ADMINISTER = "administer"
    ACKNOWLEDGE = "acknowledge"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Attributes:
        name: For logs; never the token.
        channels: Patterns of the channels' bare names.
        permissions: What it may do with them.
    """

    name: str
    channels: tuple[str, ...] = ("*",)
    permissions: frozenset[Permission] = frozenset(Permission)

    def may(self, permission: Permission, channel: str | None) -> bool:
        """Tell whether it may; an empty channel stands for all, which only a pattern `*` covers; None for none."""
        if not self._has(permission):
            return False
        if channel is None:
            return True
        if not channel:
            return "*" in self.channels
        return any(fnmatch.fnmatchcase(channel, pattern) for pattern in self.channels)

    def require(self, permission: Permission, channel: str | None) -> None:
        """Say why it may not, where it may not; as `may`.

        Raises:
            ForbiddenError: It may not.
        """
        if not self.may(permission, channel):
            target = f"channel {channel!r}" if channel else "anything" if channel is None else "all channels"
            message = f"token {self.name!r} may not {permission} {target}"
            raise ForbiddenError("PERMISSION_DENIED", message, permission=str(permission), channel=channel or "")

    def named_channels(self) -> tuple[str, ...] | None:
        """Give the channels that it is limited to, where no pattern stands for more than one; None otherwise."""
        if any(mark in pattern for pattern in self.channels for mark in "*?["):
            return None
        return self.channels

    def _has(self, permission: Permission) -> bool:
        implied = permission is Permission.ACKNOWLEDGE and Permission.ADMINISTER in self.permissions
        return implied or permission in self.permissions


ANYONE = Principal("anyone")


class Authenticator:
    """Knows the tokens.

    Args:
        settings: Where the tokens stand; without a file everybody may do everything.
        clock: Monotonic seconds.

    Raises:
        SettingsError: The file cannot be used.
    """

    def __init__(self, settings: AuthSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = settings.tokens_file
        self._clock = clock
        self._tokens: tuple[tuple[bytes, Principal], ...] = ()
        self._stamp: tuple[int, ...] = ()
        self._fault = ""
        self._checked_s = clock()
        if self._file is not None:
            self._stamp = _stamp(self._file)
            self._tokens = read_tokens(self._file)

    def authorize(
        self, metadata: Iterable[tuple[str, str | bytes]], permission: Permission | str, channel: str | None
    ) -> Principal:
        """Let a call pass, or say why not.

        Args:
            metadata: Of the call: `authorization: Bearer TOKEN`.
            permission: What it wants to do.
            channel: The bare name; empty for all channels; None for what is no channel's.

        Raises:
            UnauthenticatedError: No token, or one that is not known.
            ForbiddenError: The token does not cover it.
        """
        principal = self.identify(metadata)
        principal.require(Permission(permission), channel)
        return principal

    def identify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """Tell who calls, for who asks `Principal.may` of each of many channels, or asks again later.

        Raises:
            UnauthenticatedError: No token, or one that is not known.
        """
        if self._file is None:
            return ANYONE
        self._reload()
        return self._principal(_bearer(metadata))

    def _principal(self, token: str) -> Principal:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        # Every token is compared, and in constant time, so that time tells nothing about them.
        for known, principal in self._tokens:
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None:
            raise UnauthenticatedError("UNKNOWN_TOKEN", "the bearer token is not known to this server")
        return found

    def _reload(self) -> None:
        """Read the file again when it changed; looked at once a second at most."""
        now_s = self._clock()
        if self._file is None or now_s - self._checked_s < _CHECK_EVERY_S:
            return
        self._checked_s = now_s
        try:
            stamp = _stamp(self._file)
            if stamp == self._stamp:
                return
            tokens = read_tokens(self._file)
        except SettingsError as error:
            # One line in the log per fault, not one per second.
            if str(error) != self._fault:
                self._fault = str(error)
                _log.error("tokens not reloaded, the old ones stay", extra={"error": self._fault})
            return
        self._stamp, self._tokens, self._fault = stamp, tokens, ""
        _log.info("tokens reloaded", extra={"count": len(tokens)})


def read_tokens(file: Path) -> tuple[tuple[bytes, Principal], ...]:
    """Read a file of tokens into digests and who they stand for.

    Raises:
        SettingsError: Names the file, the entry and what is allowed.
    """
    try:
        text = file.read_text(encoding="utf-8")
        tree = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"auth.tokens_file {str(file)!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"auth.tokens_file {str(file)!r} is neither TOML nor JSON: {error}") from error
    entries = tree.get("tokens") if isinstance(tree, dict) else None
    if not isinstance(entries, list):
        raise SettingsError(f"auth.tokens_file {str(file)!r} has no list `tokens`")
    tokens = tuple(_entry(entry, f"auth.tokens_file {str(file)!r}, token {n}") for n, entry in enumerate(entries, 1))
    if len({digest for digest, _ in tokens}) < len(tokens):
        raise SettingsError(f"auth.tokens_file {str(file)!r} has the same token twice; allowed: each once")
    return tokens


def _entry(entry: Any, where: str) -> tuple[bytes, Principal]:
    if not isinstance(entry, dict) or not entry.keys() <= _KEYS:
        raise SettingsError(f"{where}: allowed: a table with {', '.join(sorted(_KEYS))}")
    principal = Principal(
        name=str(entry.get("name", where.rpartition(", ")[2])),
        channels=_words(entry, "channels", where),
        permissions=_permissions(_words(entry, "permissions", where), where),
    )
    return _digest(entry.get("token"), where), principal


def _words(entry: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    words = entry.get(key)
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise SettingsError(f"{where}: {key} is {as_typed(words)}; allowed: a list of texts, not empty")
    return tuple(words)


def _permissions(words: tuple[str, ...], where: str) -> frozenset[Permission]:
    try:
        return frozenset(Permission(word) for word in words)
    except ValueError as error:
        raise SettingsError(f"{where}: permissions are {list(words)}; allowed: {', '.join(Permission)}") from error


def _digest(token: Any, where: str) -> bytes:
    """Turn a token of the file into its SHA-256; never shows it."""
    if not isinstance(token, str) or not 1 <= len(token) <= _MAX_TOKEN_CHARS:
        raise SettingsError(f"{where}: allowed as `token`: sha256:HEX, or 1 to {_MAX_TOKEN_CHARS} characters")
    kind, colon, digest = token.partition(":")
    if kind != "sha256" or not colon:
        return hashlib.sha256(token.encode()).digest()
    if not _DIGEST.fullmatch(digest.lower()):
        raise SettingsError(f"{where}: allowed after sha256: as `token`: 64 hexadecimal digits")
    return bytes.fromhex(digest)


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        raise UnauthenticatedError("NO_TOKEN", "the call has no `authorization: Bearer TOKEN` in its metadata")
    scheme, _, token = str(values[0]).partition(" ")
    token = token.strip()
    if len(values) > 1 or scheme.lower() != "bearer" or not 1 <= len(token) <= _MAX_TOKEN_CHARS:
        raise UnauthenticatedError("MALFORMED_TOKEN", "`authorization` is not one `Bearer TOKEN`")
    return token


def _stamp(file: Path) -> tuple[int, ...]:
    """Tell whether a file changed: a replaced file has another inode even within one tick of its clock."""
    try:
        told = file.stat()
    except OSError as error:
        raise SettingsError(f"auth.tokens_file {str(file)!r} cannot be read: {error.strerror}") from error
    return told.st_mtime_ns, told.st_size, told.st_ino
