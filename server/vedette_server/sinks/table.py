"""Reads one sink's table of settings, and refuses what is not allowed.

Every error names the file, the sink, the key, its value and what is allowed; of a secret never the value.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import SplitResult, urlsplit

from vedette_server.errors import SettingsError
from vedette_server.shown import as_typed
from vedette_server.sinks.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

SECRETS = ("secret", "previous_secret", "password", "token")


class Table:
    """One table; each key is asked for once, `finish` refuses those that nobody has asked for.

    Args:
        where: What an error begins with: file and sink.
        values: The table.
        folder: Relative paths begin here.
        environ: Where `..._env` is looked up; None: the environment of the process.
    """

    def __init__(
        self, where: str, values: Mapping[str, Any], folder: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.where = where
        self._values = dict(values)
        self._folder = folder
        self._environ = os.environ if environ is None else environ
        self._known: list[str] = []
        self._claims: list[str] = []

    def refuse(self, key: str, value: object, allowed: str) -> NoReturn:
        """Say what is wrong with a key.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(f"{self.where}: {key} is {as_typed(value)}; allowed: {allowed}")

    def has(self, key: str) -> bool:
        """Tell whether a key was given."""
        return key in self._values

    def text(self, key: str, default: str | None = None, *, allowed: str = "a text that is not empty") -> str:
        """Take a text; without a default it has to be given."""
        value = self._take(key, default)
        if value is None:
            raise SettingsError(f"{self.where}: {key} is missing; needed: {allowed}")
        if not isinstance(value, str) or (not value and value != default):
            self.refuse(key, value, allowed)
        return value

    def choice(self, key: str, allowed: Collection[str], default: str) -> str:
        """Take one of several words."""
        value = self._take(key, default)
        if value not in allowed:
            self.refuse(key, value, ", ".join(allowed))
        return str(value)

    def texts(self, key: str, allowed: Collection[str] | None = None) -> tuple[str, ...]:
        """Take a list of texts; not given: an empty one."""
        value = self._take(key, [])
        words = "a list of texts" if allowed is None else f"a list of {', '.join(allowed)}"
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self.refuse(key, value, words)
        for one in value:
            if allowed is not None and one not in allowed:
                self.refuse(key, one, words)
        return tuple(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Take a true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.refuse(key, value, "true, false")
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """Take a whole number."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(key, value, f"a whole number of {low}..{high}")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """Take a number."""
        value = self._take(key, default)
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not right or not low <= value <= high:
            self.refuse(key, value, f"a number of {low:g}..{high:g}")
        return float(value)

    def path(self, key: str) -> Path | None:
        """Take a path, relative to the folder of the file; None: not given."""
        value = self._take(key, None)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            self.refuse(key, value, "a path")
        return self._folder / value

    def url(self, key: str, schemes: Collection[str]) -> SplitResult:
        """Take a URL with a host, without a password in it."""
        allowed = f"a URL {' or '.join(f'{one}://' for one in schemes)} with a host"
        value = self.text(key, allowed=allowed)
        try:
            parts = urlsplit(value)
            _port = parts.port
        except ValueError:
            self.refuse(key, "(not shown)", allowed)
        if parts.username is not None or parts.password is not None:
            self.refuse(key, "(not shown)", f"{allowed}, no user or password in it: they have keys of their own")
        if parts.scheme not in schemes or not parts.hostname or any(one.isspace() for one in value):
            self.refuse(key, shown(parts) if parts.netloc else "(not shown)", allowed)
        return parts

    def secret(self, key: str) -> Secret | None:
        """Take a secret from `key`, from the file that `key_file` names, or the variable that `key_env` does."""
        ways = (key, f"{key}_file", f"{key}_env")
        given = [way for way in ways if way in self._values]
        self._known += ways
        if len(given) > 1:
            raise SettingsError(
                f"{self.where}: {' and '.join(given)} are both given; allowed: one of {', '.join(ways)}"
            )
        if not given:
            return None
        value = self._values.pop(given[0])
        if not isinstance(value, str) or not value:
            self.refuse(given[0], "(not shown)", "a text that is not empty")
        if given[0] == ways[1]:
            value = self._from_file(given[0], self._folder / value)
        elif given[0] == ways[2]:
            value = self._from_environ(given[0], value)
        return Secret(value)

    def rest(self) -> dict[str, Any]:
        """Take all that is left, for a sink that is not ours; secrets are read."""
        secrets = {key: secret for key in SECRETS if (secret := self.secret(key)) is not None}
        left, self._values = self._values, {}
        return left | secrets

    def claim(self, what: str) -> None:
        """Say what this sink needs for itself: two would write over each other."""
        self._claims.append(what)

    @property
    def claims(self) -> tuple[str, ...]:
        """What this sink needs for itself, in words that are the same for the same thing."""
        return tuple(self._claims)

    def finish(self) -> None:
        """Refuse what nobody has asked for.

        Raises:
            SettingsError: There is something left.
        """
        for key in self._values:
            raise SettingsError(f"{self.where}: unknown key {key!r}; allowed: {', '.join(sorted(self._known))}")

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._values.pop(key, default)

    def _from_file(self, key: str, path: Path) -> str:
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SettingsError(f"{self.where}: {key} is {str(path)!r}, which cannot be read: {why}") from error
        if not value:
            raise SettingsError(f"{self.where}: {key} is {str(path)!r}, which is empty; needed: the secret")
        return value

    def _from_environ(self, key: str, variable: str) -> str:
        value = self._environ.get(variable, "")
        if not value:
            raise SettingsError(f"{self.where}: {key} is {variable!r}, a variable that is not set; needed: the secret")
        return value


def shown(url: SplitResult) -> str:
    """Give a URL as it may be read by anybody: what comes after the host may be all that its owner has for a secret."""
    return f"{url.scheme}://{url.netloc}{url.path if url.path in {'', '/'} and not url.query else '/***'}"
