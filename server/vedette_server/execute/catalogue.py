"""What versions of engines there are, as the server sees them. Any thread; may read large files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vedette_engines.cli_roots import user_roots
from vedette_engines.errors import BundleError, EngineNotFoundError
from vedette_engines.repository import EngineRepository, boxed_root
from vedette_engines.withdrawn import withdraw, withdrawn
from vedette_server.errors import NotFoundError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from vedette_engines.bundle import Bundle
    from vedette_engines.repository import Listed


_log = logging.getLogger(__name__)


class Catalogue:
    """The engines in the user's folders and in the box.

    Args:
        roots: The user's folders.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._repository = EngineRepository([*roots, boxed_root()])

    def list(self, name: str = "") -> tuple[Listed, ...]:
        """List the versions of one engine, or of all: by name, the newest first; bad ones with their reason."""
        return self._repository.list(name)

    def check(self, name: str) -> None:
        """Make sure that there is something of that name, be it bad.

        Raises:
            NotFoundError: There is nothing.
        """
        if not self._repository.list(name):
            self.resolve(name, "")  # it says which there are

    def resolve(self, name: str, version: str) -> Bundle:
        """Find a version; an empty one means the newest.

        Raises:
            NotFoundError: It is not there, or bad.
        """
        try:
            return self._repository.resolve(name, version)
        except EngineNotFoundError as error:
            raise NotFoundError("ENGINE_NOT_FOUND", str(error)) from error
        except BundleError as error:
            raise NotFoundError("ENGINE_REFUSED", str(error)) from error

    def withdrawn(self, name: str) -> frozenset[str]:
        """Tell which versions were withdrawn in the folders; none where that cannot be read."""
        try:
            return frozenset[str]().union(*(withdrawn(root, name) for root in self._roots))
        except BundleError:
            return frozenset()

    def withdraw(self, bundle: Bundle, reason: str) -> bool:
        """Withdraw a version for all who read its folder; return whether that could be written there."""
        try:
            withdraw(bundle.path.parent.parent, bundle.name, bundle.version, reason)
        except (EngineNotFoundError, BundleError) as error:
            _log.warning("version is withdrawn in this server only: %s", error)
            return False
        return True

    def newest(self, name: str, withdrawn: Collection[str]) -> Bundle:
        """Find the newest version that is good and was not withdrawn.

        Raises:
            NotFoundError: There is none.
        """
        bundle = self.resolve(name, "")
        if bundle.version not in withdrawn:
            return bundle
        for listed in self._repository.list(name):
            if listed.bundle is not None and listed.version not in withdrawn:
                return listed.bundle
        raise NotFoundError("ENGINE_NOT_FOUND", f"every good version of engine {name} was withdrawn")


def roots_of(dirs: Sequence[Path]) -> tuple[Path, ...]:
    """Tell where a user's engines are.

    Raises:
        SettingsError: Nothing tells where the home directory is.
    """
    try:
        return user_roots(dirs)
    except RuntimeError as error:
        raise SettingsError(
            "engines.dirs is empty or begins with ~, and no home directory is known; "
            "allowed: directories (--engines-dir), or set HOME"
        ) from error
